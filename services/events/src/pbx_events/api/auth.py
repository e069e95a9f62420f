"""Who may ask: bearer tokens with two scopes; without any token configured, only peers on this machine.

A token that is configured is asked of everybody, of loopback too: what a port-forward or a proxy beside this process
brings in comes from loopback as well.

Without a token a browser on this machine would be the stranger's way in: a page on the web can send requests to
loopback, under its own name (DNS rebinding) or across origins. So the Host must be loopback's, the Origin must be our
own, and a body must say that it is JSON, which a form or a simple cross-origin request cannot.
"""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from pbx_events.api.problem import problem

PROTECTED = "/v1/"
TITLES: Final = {401: "not authenticated", 403: "not allowed", 415: "the body is no JSON"}
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


JSON: Final = "application/json"


def forgery_refusal(method: str, headers: Headers) -> tuple[int, str]:
    """Whether a web page of somebody else may be behind a request that shows no token; (0, ""): it is not."""
    host = headers.get("host", "")
    if not is_loopback(_host_of(host)):
        return 403, f"Host is {host[:100]!r}, no name of this machine alone: set PBX_API_TOKEN to be asked by others"
    own = f"://{host.lower()}"
    if any(not origin.lower().endswith(own) for origin in headers.getlist("origin")):
        return 403, "asked by a web page of another origin: set PBX_API_TOKEN"
    if headers.get("sec-fetch-site", "none") in ("cross-site", "same-site") and method not in READING:
        return 403, "asked by a web page of another site: set PBX_API_TOKEN"
    return 0, ""


def body_refusal(headers: Headers) -> tuple[int, str]:
    """Whether a request's body is something else than JSON."""
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if has_body and headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        return 415, f"a body must be {JSON}"
    return 0, ""


def _host_of(netloc: str) -> str:
    """The host in "host:port"; a name that never leaves the machine (RFC 6761 section 6.3) as its address."""
    host = netloc.rpartition("]")[0].removeprefix("[") if netloc.startswith("[") else netloc.partition(":")[0]
    name = host.lower().removesuffix(".")
    return "127.0.0.1" if f".{name}".endswith(".localhost") else name


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
        if not status and not presented:
            status, reason = forgery_refusal(request.method, request.headers)
        if not status:
            status, reason = body_refusal(request.headers)
        if not status:
            await self._app(scope, receive, send)
            return
        answer = problem(status, TITLES[status], reason)
        if status == 401:
            answer.headers["www-authenticate"] = "Bearer"
        await answer(scope, receive, send)
