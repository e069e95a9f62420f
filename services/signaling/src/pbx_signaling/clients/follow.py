"""The stream Follow of the registrar: wishes of the directory out, what is told into it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

from pbx.registrar.v1 import registrar_pb2 as pb
from pbx_runtime import logs
from pbx_runtime.backoff import Backoff
from pbx_runtime.batch_stream import CONNECT_S
from pbx_runtime.grpc_channel import error_of
from pbx_signaling.directory.user import Binding, News, Update, User
from pbx_sip.auth.proof import Secrets

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pbx_signaling.directory.directory import Directory

SILENCE_S: Final = 3.0
"""The registrar says something each second; one that does not for so long is away, or cannot be reached."""
OLD_S: Final = 30.0
"""Pause where the registrar is of a release that does not know the stream: it is asked as before meanwhile."""
SIP_SCHEMES: Final = ("sip:", "sips:")
"""A contact may be any URI (RFC 3261 section 10.2.1); a call goes to these."""
_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # absent from the stubs
_log = logs.get_logger("directory")


class FollowStream:
    """Keeps a directory told; start `run` with the lifecycle."""

    def __init__(self, open_stream: Callable[[], Any], directory: Directory) -> None:
        self._open_stream = open_stream
        self._directory = directory
        self._wakeup = asyncio.Event()
        self.breaks = 0
        """Streams that stood and ended."""

    def wake(self) -> None:
        """The directory may have wishes."""
        if self._directory.has_wishes:
            self._wakeup.set()

    async def run(self) -> None:
        """Keeps the stream standing until cancelled."""
        backoff = Backoff()
        while True:
            reason, is_old = await self._session(backoff)
            _log.debug("following ended", reason=reason)
            await asyncio.sleep(OLD_S if is_old else backoff.next())

    async def _session(self, backoff: Backoff) -> tuple[str, bool]:
        """One stream: why it ended, and whether the registrar does not know it."""
        stream = self._open_stream()
        try:
            async with asyncio.timeout(CONNECT_S):
                await stream.wait_for_connection()
            backoff.reset()
            self._directory.up()
            self.wake()
            return await self._exchange(stream), False
        except grpc.RpcError as error:
            is_old = isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.UNIMPLEMENTED
            return error_of(error).detail, is_old
        except TimeoutError:
            return "no connection", False
        except asyncio.InvalidStateError as error:  # grpc.aio: the call ended between two writes
            return str(error), False
        finally:
            stream.cancel()
            if self._directory.is_up:
                self.breaks += 1
                self._directory.down(time.monotonic())

    async def _exchange(self, stream: Any) -> str:
        reader = asyncio.ensure_future(self._read_all(stream))
        writer = asyncio.ensure_future(self._write_all(stream))
        try:
            done, _ = await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            if writer in done:
                writer.result()
            return await reader
        finally:
            for task in (reader, writer):
                task.cancel()
            await asyncio.wait({reader, writer})
            if not writer.cancelled():
                writer.exception()  # collected, so that nobody reports it as lost

    async def _read_all(self, stream: Any) -> str:
        directory = self._directory
        while True:
            try:
                async with asyncio.timeout(SILENCE_S):
                    response = await stream.read()
            except TimeoutError:
                return f"silent for {SILENCE_S:g} s"
            if response is _EOF:
                return "the registrar ended it"
            if not directory.receive(update_of(response), time.monotonic()):
                return f"message {response.revision} came out of turn"
            self.wake()

    async def _write_all(self, stream: Any) -> None:
        while True:
            await self._wakeup.wait()
            self._wakeup.clear()
            wishes = self._directory.drain()
            if wishes is not None:
                await stream.write(pb.FollowRequest(follow=wishes.follow, unfollow=wishes.unfollow))


def update_of(response: pb.FollowResponse) -> Update:
    """A message of the stream as the directory takes it."""
    return Update(response.revision, response.doubt, tuple(_told(user) for user in response.users))


def _told(user: pb.User) -> News:
    if not user.known:
        return News(user.aor, failed=user.failed)
    secrets = Secrets(user.user, dict(user.ha1), dict(user.ha1_of_aor))
    known = User(user.aor, user.display_name, user.calls_max, secrets, bindings_of(user.bindings))
    return News(user.aor, known)


def bindings_of(bindings: Iterable[pb.Binding]) -> tuple[Binding, ...]:
    """Those that a call can go to, those whose phone does not answer last."""
    reachable = [binding for binding in bindings if binding.uri[:5].lower().startswith(SIP_SCHEMES)]
    # Phones that do not answer any more get a moment only (`legs.callee.UNREACHABLE_S`).
    reachable.sort(key=lambda binding: binding.unreachable_since_ms != 0)
    return tuple(_binding(binding) for binding in reachable)


def _binding(binding: pb.Binding) -> Binding:
    flow = binding.flow
    return Binding(
        uri=binding.uri,
        path=tuple(binding.path),
        transport=flow.transport or pb.TRANSPORT_UDP,
        host=flow.host,
        port=flow.port,
        listener=flow.listener,
        connection=flow.connection_id,
        instance=flow.instance_id,
        unreachable=binding.unreachable_since_ms != 0,
        expires_at_ms=binding.expires_at_ms,
        q_thousandths=binding.q_thousandths,
        sip_instance=binding.sip_instance,
    )
