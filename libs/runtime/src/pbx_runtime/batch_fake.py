"""The two ends of a batched stream joined in memory: no gRPC, no socket.

For tests of clients and handlers. `FakeStream` behaves as a `grpc.aio` stream towards `BatchClient`, and as
the requests and the context of a servicer towards `serve_batches`; `break_off` cuts it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # absent from the stubs


class FakeStream:
    """One stream; what one side writes the other reads. Every message written is kept in order."""

    def __init__(self) -> None:
        self.requests_seen: list[Any] = []
        self.responses_seen: list[Any] = []
        self._requests: asyncio.Queue[Any] = asyncio.Queue()
        self._responses: asyncio.Queue[Any] = asyncio.Queue()
        self._opened = asyncio.Event()
        self.is_cut = False

    # The client's side

    async def wait_for_connection(self) -> None:
        """Done when the server's side opened."""
        await self._opened.wait()
        self._check()

    async def write(self, message: Any) -> None:
        """A request."""
        self._check()
        self.requests_seen.append(message)
        self._requests.put_nowait(message)
        await asyncio.sleep(0)

    async def read(self) -> Any:
        """The next response, or `grpc.aio.EOF`."""
        message = await self._responses.get()
        self._check()
        return message

    def cancel(self) -> bool:
        """The client gives up."""
        self._requests.put_nowait(_EOF)
        return True

    # The server's side

    async def requests(self) -> AsyncIterator[Any]:
        """The requests, until the client is gone."""
        while (message := await self._requests.get()) is not _EOF:
            yield message

    @property
    def context(self) -> FakeContext:
        """What a servicer writes to."""
        return FakeContext(self)

    def open(self) -> None:
        """The server answered the opening."""
        self._opened.set()

    def answer(self, message: Any) -> None:
        """The server sends a response."""
        self.responses_seen.append(message)
        self._responses.put_nowait(message)

    def break_off(self) -> None:
        """The connection is lost: both sides notice."""
        self.is_cut = True
        self._opened.set()
        self._responses.put_nowait(_EOF)
        self._requests.put_nowait(_EOF)

    def _check(self) -> None:
        if self.is_cut:
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, "cut by the test", "")


class FakeContext:
    """The servicer context of a `FakeStream`."""

    def __init__(self, stream: FakeStream) -> None:
        self._stream = stream

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """The stream stands."""
        self._stream.open()

    async def write(self, message: Any) -> None:
        """A response."""
        self._stream.answer(message)
        await asyncio.sleep(0)
