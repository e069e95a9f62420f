"""Who may ask: bearer tokens with two scopes; without any token configured, only peers on this machine.

A token that is configured is asked of everybody, of loopback too: what a port-forward or a proxy beside this process
brings in comes from loopback as well.
"""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from pbx_events.api.problem import problem

PROTECTED = "/v1/"
READING = frozenset(("GET", "HEAD", "OPTIONS"))


@dataclass(frozen=True, slots=True, repr=False)
class Tokens:
    """The tokens; an empty one is none."""

    admin: str = ""
    """May do everything."""
    read: str = ""
    """May read."""

    def refusal(self, method: str, host: str, presented: str) -> tuple[int, str]:
        """(0, "") where a request is allowed, else its status and the reason."""
        if presented:
            if _same(presented, self.admin):
                return 0, ""
            if not _same(presented, self.read):
                return 401, "the token is not known"
            return (0, "") if method in READING else (403, "this token may only read")
        if self.admin or self.read:
            return 401, "a bearer token is needed"
        if is_loopback(host):
            return 0, ""
        return 401, "no token is configured (PBX_API_TOKEN): only this machine itself may ask"


def _same(presented: str, token: str) -> bool:
    return bool(token) and hmac.compare_digest(presented.encode(), token.encode())


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


class Authentication:
    """The ASGI layer that asks `Tokens`."""

    def __init__(self, app: ASGIApp, tokens: Tokens) -> None:
        self._app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through or answers it with a problem document."""
        if scope["type"] != "http" or not scope["path"].startswith(PROTECTED):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        kind, _, presented = request.headers.get("authorization", "").partition(" ")
        presented = presented.strip() if kind.lower() == "bearer" else ""
        host = request.client.host if request.client is not None else ""
        status, reason = self._tokens.refusal(request.method, host, presented)
        if not status:
            await self._app(scope, receive, send)
            return
        answer = problem(status, "not authenticated" if status == 401 else "not allowed", reason)
        if status == 401:
            answer.headers["www-authenticate"] = "Bearer"
        await answer(scope, receive, send)
