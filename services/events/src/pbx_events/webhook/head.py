"""The status of an answer whose head cannot be read to its end.

An endpoint that says 2xx has taken the event, whatever it says next: a header line of a megabyte, two lengths that
contradict each other, or a head that never ends. aiohttp tells of such an answer as an error without its status, so
the first line is noted on the way in.
"""

from __future__ import annotations

import asyncio
import re
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler

LINE_MAX: Final = 64
"""Octets of a status line that are looked at: the version and the status are the first 12."""
_STATUS_LINE: Final = re.compile(rb"(?:\r?\n)*HTTP/\d\.\d ([2-5]\d\d)[ \r\n]")
_attempt: ContextVar[Attempt | None] = ContextVar("attempt", default=None)


class Attempt:
    """One request, as a context; `status` is what its answer began with, 0 before that."""

    def __init__(self) -> None:
        self.protocol: _NotingHandler | None = None

    def __enter__(self) -> Attempt:
        self._token = _attempt.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _attempt.reset(self._token)

    @property
    def status(self) -> int:
        """The final status in the first line; 0 where there was none."""
        found = _STATUS_LINE.match(self.protocol.noted) if self.protocol is not None else None
        return int(found[1]) if found else 0


class _NotingHandler(ResponseHandler):
    """aiohttp's connection; it keeps the first octets of each answer."""

    noted = b""

    def set_response_params(self, **params: Any) -> None:
        """Called before each request."""
        self.noted = b""
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Octets of an answer."""
        if len(self.noted) < LINE_MAX:
            self.noted += bytes(data[: LINE_MAX - len(self.noted)])
        super().data_received(data)


class NotingResponse(aiohttp.ClientResponse):
    """aiohttp's answer; it tells the attempt which connection it comes by."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        """Called when the request has been sent."""
        attempt = _attempt.get()
        if attempt is not None and isinstance(connection.protocol, _NotingHandler):
            attempt.protocol = connection.protocol
        return await super().start(connection)


class NotingConnector(aiohttp.TCPConnector):
    """aiohttp's pool, of connections that note."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory: Any = partial(_NotingHandler, loop=asyncio.get_running_loop())
