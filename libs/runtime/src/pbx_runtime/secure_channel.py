"""A gRPC channel whose credentials follow the shared key: new calls go over a new channel when the key has changed.

gRPC's own channels keep for life the certificate that they were made with. This one keeps such a channel for each key
in turn; the former one is closed when its last call has ended: a rotation breaks no stream that stands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from pbx_runtime.grpc_credentials import NAME

if TYPE_CHECKING:
    from pbx_runtime.grpc_credentials import GrpcCredentials


@dataclass(eq=False, slots=True)
class _Inner:
    """The channel of one key."""

    channel: grpc.aio.Channel
    generation: int
    calls: int = 0
    methods: dict[tuple[str, str], Any] = field(default_factory=dict)


class SecureChannel(grpc.aio.Channel):
    """Implements grpc.aio.Channel."""

    def __init__(self, address: str, credentials: GrpcCredentials, options: Sequence[tuple[str, Any]]) -> None:
        self._address = address
        self._credentials = credentials
        self._options = [*options, ("grpc.ssl_target_name_override", NAME)]
        self._closing: set[asyncio.Task[None]] = set()
        self._former: list[_Inner] = []
        self._inner = self._open()

    def _open(self) -> _Inner:
        generation, identity = self._credentials.current()
        proof = grpc.ssl_channel_credentials(identity.roots, identity.key, identity.chain)
        return _Inner(grpc.aio.secure_channel(self._address, proof, options=self._options), generation)

    def _current(self) -> _Inner:
        generation, _ = self._credentials.current()
        if generation != self._inner.generation:
            former, self._inner = self._inner, self._open()
            self._former.append(former)
            self._close_unused(former)
        return self._inner

    def _close_unused(self, inner: _Inner) -> None:
        if inner is self._inner or inner.calls or inner not in self._former:
            return
        self._former.remove(inner)
        task = asyncio.ensure_future(inner.channel.close(None))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _method(self, kind: str, method: str, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        """A callable that makes each call over the channel of the key in use."""

        def call(*call_args: Any, **call_kwargs: Any) -> Any:
            inner = self._current()
            made = inner.methods.get((kind, method))
            if made is None:
                made = inner.methods[kind, method] = getattr(inner.channel, kind)(method, *args, **kwargs)
            running = made(*call_args, **call_kwargs)
            inner.calls += 1
            running.add_done_callback(lambda _: self._ended(inner))
            return running

        return call

    def _ended(self, inner: _Inner) -> None:
        inner.calls -= 1
        self._close_unused(inner)

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See grpc.aio.Channel."""
        return self._method("unary_unary", method, *args, **kwargs)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See grpc.aio.Channel."""
        return self._method("unary_stream", method, *args, **kwargs)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See grpc.aio.Channel."""
        return self._method("stream_unary", method, *args, **kwargs)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See grpc.aio.Channel."""
        return self._method("stream_stream", method, *args, **kwargs)

    async def close(self, grace: float | None = None) -> None:
        """Close the channels of all keys."""
        former, self._former = self._former, []
        await asyncio.gather(*(inner.channel.close(grace) for inner in (*former, self._inner)), *self._closing)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """See grpc.aio.Channel."""
        return self._current().channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See grpc.aio.Channel."""
        await self._current().channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """See grpc.aio.Channel."""
        await self._current().channel.channel_ready()

    async def __aenter__(self) -> SecureChannel:
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self.close(None)
