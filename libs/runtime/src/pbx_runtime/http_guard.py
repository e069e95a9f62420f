"""Keeps an HTTP listener answering while somebody sits on its connections: liveness and metrics must get through.

Theory of operation. A connection is idle unless a request of it is being answered. There is always room for a new one:
where a source has its share, or all places are taken, the connection that has been idle longest makes way; where none
is idle, one that waits for its peer to send a body or to read an answer. Heads, bodies and answers have a time each.
Requests at once are counted apart from connections, and the probes of the platform are not refused for them.
"""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

PROBES: Final = frozenset({"/healthz", "/readyz"})


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one listener bears."""

    connections_max: int = 512
    """Open connections. Threat: descriptors run out; a process has 1024 at the least."""
    per_source_max: int = 256
    """Of one address (IPv6: one /64). Threat: one host takes all places."""
    requests_max: int = 384
    """Requests at once; more are answered 503, so that scraping cannot starve the process."""
    head_s: float = 10.0
    """From the connection, or the answer before, until the head of a request is there. Threat: slow loris."""
    body_s: float = 30.0
    """Until the whole body is there; the API's largest takes a second."""
    stall_s: float = 30.0
    """How long an answer may wait for its reader. Threat: answers that pile up in memory."""


def source_of(host: str) -> str:
    """Whose connection it is: an address, or a /64, of which a host has as many addresses as it likes."""
    if ":" not in host:
        return host
    return str(ipaddress.ip_network((host.partition("%")[0], 64), strict=False))


class HttpGuard:
    """The connections of one listener."""

    def __init__(self, limits: HttpLimits | None = None) -> None:
        self.limits = limits or HttpLimits()
        self.evicted = 0
        self.refused = 0
        # In order of their arrival, or of their last answer: the first idle one has been idle longest.
        self._all: dict[GuardedProtocol, None] = {}
        self._of_source: dict[str, dict[GuardedProtocol, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def admit(self, protocol: GuardedProtocol) -> bool:
        """Make room for a new connection; whether there is any."""
        mates = self._of_source.setdefault(protocol.source, {})
        for places, most in ((mates, self.limits.per_source_max), (self._all, self.limits.connections_max)):
            if len(places) >= most and not self._evict(places):
                self.refused += 1
                if not mates:
                    del self._of_source[protocol.source]
                return False
        # An eviction may have emptied, and thereby removed, the table of this source.
        self._of_source.setdefault(protocol.source, mates)[protocol] = None
        self._all[protocol] = None
        return True

    def _evict(self, places: dict[GuardedProtocol, None]) -> bool:
        oldest = next((protocol for protocol in places if protocol.is_idle), None) or next(
            (protocol for protocol in places if protocol.waits_for_peer), None
        )
        if oldest is None:
            return False
        self.evicted += 1
        self.leave(oldest)
        oldest.abort()
        return True

    def touch(self, protocol: GuardedProtocol) -> None:
        """It has just been answered: others have been idle longer."""
        for places in (self._all, self._of_source.get(protocol.source, {})):
            if protocol in places:
                del places[protocol]
                places[protocol] = None

    def leave(self, protocol: GuardedProtocol) -> None:
        """It is closed."""
        self._all.pop(protocol, None)
        mates = self._of_source.get(protocol.source)
        if mates is not None:
            mates.pop(protocol, None)
            if not mates:
                del self._of_source[protocol.source]


class GuardedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with the times and the room of a guard, which `protocol_for` sets."""

    guard: HttpGuard
    source = ""
    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no request of this connection is being answered."""
        cycle: Any = self.cycle  # None before the first request, whatever uvicorn's type says
        return cycle is None or bool(cycle.response_complete)

    @property
    def waits_for_peer(self) -> bool:
        """Whether it goes on only once its peer sends the rest of a body, or reads."""
        cycle: Any = self.cycle
        return self._stall_timer is not None or (cycle is not None and bool(cycle.more_body))

    def abort(self) -> None:
        """Close it at once, without a word."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it in, where there is room."""
        super().connection_made(transport)
        self.source = source_of(self.client[0]) if self.client else ""
        if self.guard.admit(self):
            self._expect_head()
        else:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give its place back."""
        self._stop_timers()
        self.guard.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """More of a request."""
        super().data_received(data)
        if not self.is_idle and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self.guard.touch(self)
        self._expect_head()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Its peer does not read."""
        super().pause_writing()
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(self.guard.limits.stall_s, self.abort)

    def resume_writing(self) -> None:
        """Its peer reads again."""
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _expect_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(self.guard.limits.head_s, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.is_idle:
            self.abort()

    def _stop_timers(self) -> None:
        for timer in (self._head_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._stall_timer = None


def protocol_for(guard: HttpGuard) -> type[GuardedProtocol]:
    """The class of a listener's connections, as uvicorn wants it."""
    return type("GuardedProtocol", (GuardedProtocol,), {"guard": guard})


class Admission:
    """The ASGI layer of a guard: how many requests at once, and how long a body may take."""

    def __init__(self, app: ASGIApp, limits: HttpLimits) -> None:
        self._app = app
        self._limits = limits
        self.running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer 503."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self.running >= self._limits.requests_max and scope["path"] not in PROBES:
            await PlainTextResponse("too many requests at once", 503, {"retry-after": "1"})(scope, receive, send)
            return
        self.running += 1
        try:
            await self._app(scope, _Body(receive, self._limits.body_s).receive, send)
        finally:
            self.running -= 1


class _Body:
    """A request's body, which has to be there in time; afterwards it tells of the end of the connection."""

    def __init__(self, receive: Receive, body_s: float) -> None:
        self._receive = receive
        self._deadline = asyncio.get_running_loop().time() + body_s
        self._is_whole = False

    async def receive(self) -> Message:
        """The next part. One that comes too late counts as a connection that was lost."""
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message: Any = await self._receive()
        except TimeoutError:
            return {"type": "http.disconnect"}
        self._is_whole = not message.get("more_body", False)
        return dict(message)
