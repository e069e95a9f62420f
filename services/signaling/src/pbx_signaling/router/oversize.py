"""Requests too large for a datagram go by TCP (RFC 3261 section 18.1.1). Pure.

Deliberately milder than the RFC, as its own fallback allows: a peer that cannot be reached by TCP, or says nothing
there, gets the large datagram within 2 s, and is remembered for a while; one behind a NAT, which no connection of ours
can reach, gets it at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pbx_sip.message.message import Request

if TYPE_CHECKING:
    from pbx_signaling.users.user import Sending
    from pbx_sip.address import Flow, HostPort
    from pbx_sip.transaction.deadlines import Deadlines
    from pbx_sip.transaction.events import ClientKey
    from pbx_sip.transaction.layer import TransactionLayer

LARGE: Final = 1_300
"""Octets: the RFC's figure where the path MTU is not known."""
START_LINE: Final = 16
"""Octets of a start line beside method and URI, and of the last line end."""
ANSWER_S: Final = 1.8
"""For the first response by TCP: who is there sends a 100 within 0.2 s (RFC 3261 section 17.2.1), and callers wait."""
REMEMBER_S: Final = 600.0
PEERS_MAX: Final = 10_000
"""Peers remembered; the oldest are forgotten beyond."""


@dataclass(slots=True)
class _Waiting:
    """A request that went by TCP and has no response yet."""

    request: Request
    """As it would go over UDP."""
    flow: Flow
    number: int
    handle: int
    patience_s: float


class Oversize:
    """Large requests under way, and which peers take no TCP."""

    def __init__(
        self,
        layer: TransactionLayer,
        deadlines: Deadlines,
        twin_of: Callable[[Flow], Flow | None],
        via: Callable[[Flow], str],
    ) -> None:
        """`twin_of`: the TCP flow to the same address; `via`: a Via value with a fresh branch."""
        self._layer = layer
        self._deadlines = deadlines
        self._twin_of = twin_of
        self._via = via
        self._refused: dict[HostPort, float] = {}
        self._waiting: dict[ClientKey, _Waiting] = {}
        """By the key of the transaction. No more than transactions."""
        self._numbers = itertools.count(1)

    def send(self, request: Request, flow: Flow, owner: Sending, now: float, patience_s: float = 0.0) -> ClientKey:
        """Sends a request that would go over UDP: by TCP where it is large and nothing is known against it."""
        layer, twin = self._layer, None
        is_refused = self._refused.get(flow.remote, now) > now
        if size_of(request) > LARGE and not is_refused and not owner.strict_flow:
            twin = self._twin_of(flow)
        if twin is None:
            return layer.request(request, flow, now, owner, patience_s)
        over_udp = Request(request.method, request.uri, request.headers.copy(), request.body)
        request.headers.set("Via", self._via(twin))
        key = layer.request(request, twin, now, owner, patience_s)
        number = next(self._numbers)
        # A peer may take the connection and never read it.
        handle = self._deadlines.schedule(now + ANSWER_S, self, number)
        self._waiting[key] = _Waiting(over_udp, flow, number, handle, patience_s)
        return key

    def answered(self, key: ClientKey) -> None:
        """A response came: TCP reaches the peer."""
        if self._waiting:
            self._take(key)

    def expired(self, number: int, now: float) -> None:
        """No response came by TCP in time: the transaction is given up, and `sent_again` is asked about it."""
        for key, waiting in self._waiting.items():
            if waiting.number == number:
                self._layer.give_up(key, now)
                return

    def sent_again(self, key: ClientKey, owner: Sending, now: float) -> bool:
        """Sends a request over UDP all the same, where TCP did not reach the peer; False where it is none of these."""
        kept = self._take(key) if self._waiting else None
        if kept is None or owner.is_given_up:
            return False
        request, flow = kept.request, kept.flow
        self._refused.pop(flow.remote, None)
        if len(self._refused) >= PEERS_MAX:
            del self._refused[next(iter(self._refused))]
        self._refused[flow.remote] = now + REMEMBER_S
        owner.user.resent(owner, self._layer.request(request, flow, now, owner, kept.patience_s))
        return True

    def _take(self, key: ClientKey) -> _Waiting | None:
        waiting = self._waiting.pop(key, None)
        if waiting is not None:
            self._deadlines.cancel(waiting.handle)
        return waiting


def size_of(request: Request) -> int:
    """Octets of a request on the wire, near enough (text counted in characters)."""
    size = len(request.method) + len(request.uri) + START_LINE + len(request.body)
    for name, value in request.headers.items:
        size += len(name) + len(value) + 4
    return size
