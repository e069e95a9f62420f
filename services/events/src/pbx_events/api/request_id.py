"""Every request has an id: its sender's, or one of ours. It comes back as a header, in errors and in the log."""

from __future__ import annotations

import re
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from ulid import ULID

HEADER: Final = "x-request-id"
_TAKEN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
"""What a sender may choose: it goes into logs and headers, so nothing that would mean something there."""


class RequestIds:
    """The ASGI layer that gives them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on with its id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get(HEADER, "")
        scope["request_id"] = request_id = asked if _TAKEN.match(asked) else str(ULID())

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        await self._app(scope, receive, answer)
