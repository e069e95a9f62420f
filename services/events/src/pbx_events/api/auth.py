"""Who may ask: bearer tokens with scopes; without any configured one, also peers on this machine.

Two tokens are settings (PBX_API_TOKEN may do everything, PBX_API_READ_TOKEN may read); any number has a name, scopes
and an end, made by /v1/tokens. A configured token is asked of everybody, of loopback too: what a port-forward or a
proxy beside this process brings in comes from loopback as well.

Without a token a browser on this machine would be the stranger's way in: a page on the web can send requests to
loopback, under its own name (DNS rebinding) or across origins. So the Host must be loopback's, the Origin must be our
own, and a body must say that it is JSON, which a form or a simple cross-origin request cannot.
"""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pbx_events.api.limit import Limits
from pbx_events.api.problem import problem, request_id_of
from pbx_events.storage.tokens import Token, Tokens, id_of
from pbx_runtime.errors import NotFound, ServiceError

PROTECTED = "/v1/"
JSON: Final = "application/json"
READING = frozenset(("GET", "HEAD", "OPTIONS"))
ApiScope = Literal["read", "calls", "accounts", "webhooks", "admin"]
SCOPES: Final[tuple[str, ...]] = get_args(ApiScope)
"""`read`: every GET but that of tokens; `calls`: end them; `accounts`, `webhooks`: change them; `admin`: everything."""
REMEMBERED_S: Final = 5.0
"""How long a named token is used without asking the database: as long may a removed one live on at another replica."""
REMEMBERED_MAX: Final = 2000
"""Tokens that are remembered: more than there may be. Threat: ids that do not exist."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, as far as it is known: a name for limits and logs."""

    name: str
    refused: str = ""
    """The code of the error; empty where it may."""
    reason: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Configured:
    """The tokens of the settings; an empty one is none."""

    admin: str = ""
    """May do everything."""
    read: str = ""
    """May read."""

    def judge(self, method: str, path: str, host: str, presented: str) -> Asker:
        """Whether a request is allowed."""
        if presented:
            if _same(presented, self.admin):
                return Asker("PBX_API_TOKEN")
            if not _same(presented, self.read):
                return Asker(host, "unknown_token", "the token is not known")
            return _with_scopes("PBX_API_READ_TOKEN", ("read",), method, path)
        if self.admin or self.read:
            return Asker(host, "token_needed", "a bearer token is needed")
        if is_loopback(host):
            return Asker(host)
        reason = "no token is configured (PBX_API_TOKEN): only this machine itself may ask without a named one"
        return Asker(host, "token_needed", reason)


def scope_of(method: str, path: str) -> str:
    """The scope that a request needs."""
    kind = path.removeprefix(PROTECTED).partition("/")[0]
    if kind == "tokens":
        return "admin"
    if method in READING:
        return "read"
    return kind if kind in SCOPES else "admin"


def _with_scopes(name: str, scopes: tuple[str, ...], method: str, path: str) -> Asker:
    needed = scope_of(method, path)
    if needed in scopes or "admin" in scopes:
        return Asker(name)
    return Asker(name, "scope_missing", f"this token has {', '.join(scopes)}; this needs {needed}")


def _same(presented: str, token: str) -> bool:
    return bool(token) and hmac.compare_digest(presented.encode(), token.encode())


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


class Named:
    """The tokens of the database, remembered for a moment."""

    def __init__(self, store: Tokens, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now
        self._known: OrderedDict[str, tuple[float, Token | None]] = OrderedDict()

    def forget(self) -> None:
        """One has changed here."""
        self._known.clear()

    async def judge(self, method: str, path: str, host: str, presented: str) -> Asker:
        """Whether a request with such a token is allowed. Raises Unavailable."""
        token = await self._token(id_of(presented))
        now_ms = int(self._now() * 1000)
        if token is None or not token.is_of(presented, now_ms):
            return Asker(host, "unknown_token", "the token is not known")
        if token.expires_at_ms and now_ms >= token.expires_at_ms:
            return Asker(host, "expired_token", f"the token {token.name!r} has expired")
        return _with_scopes(token.name, token.scopes, method, path)

    async def _token(self, token_id: str) -> Token | None:
        at, token = self._known.get(token_id, (0.0, None))
        if self._now() - at < REMEMBERED_S:
            return token
        try:
            token = await self._store.token(token_id)
        except NotFound:
            token = None
        self._known[token_id] = (self._now(), token)
        self._known.move_to_end(token_id)
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)
        return token


class Authentication:
    """The ASGI layer that asks them, and counts requests by who asks."""

    def __init__(
        self, app: ASGIApp, configured: Configured, named: Named | None = None, limits: Limits | None = None
    ) -> None:
        self._app = app
        self._configured = configured
        self._named = named
        self._limits = limits or Limits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through or answers it with a problem document."""
        if scope["type"] != "http" or not scope["path"].startswith(PROTECTED):
            await self._app(scope, receive, send)
            return
        try:
            asker = await self._asker(Request(scope))
        except ServiceError as error:
            await problem("unavailable", error.detail, **request_id_of(scope))(scope, receive, send)
            return
        left = self._limits.take(asker.name)
        if not left.allowed:
            answer = problem("rate_limited", left.sentence(asker.name), **request_id_of(scope))
            answer.headers["retry-after"] = str(left.wait_s)
        elif asker.refused:
            answer = self._refusal(asker, scope)
        else:
            scope["principal"] = asker.name
            await self._app(scope, receive, _adding(left.headers(), send))
            return
        answer.headers.update(left.headers())
        await answer(scope, receive, send)

    async def _asker(self, request: Request) -> Asker:
        kind, _, presented = request.headers.get("authorization", "").partition(" ")
        presented = presented.strip() if kind.lower() == "bearer" else ""
        host = request.client.host if request.client is not None else ""
        path, method = request.url.path, request.method
        if self._named is not None and id_of(presented):
            asker = await self._named.judge(method, path, host, presented)
        else:
            asker = self._configured.judge(method, path, host, presented)
        if asker.refused:
            return asker
        status, reason = (0, "") if presented else forgery_refusal(method, request.headers)
        if status:
            return Asker(asker.name, "foreign_page", reason)
        status, reason = body_refusal(request.headers)
        return Asker(asker.name, "not_json", reason) if status else asker

    def _refusal(self, asker: Asker, scope: Scope) -> JSONResponse:
        answer = problem(asker.refused, asker.reason, **request_id_of(scope))
        if answer.status_code == 401:
            answer.headers["www-authenticate"] = "Bearer"
        return answer


def _adding(headers: dict[str, str], send: Send) -> Send:
    more = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *more]
        await send(message)

    return answer
