"""Requests too large for a datagram go by TCP (RFC 3261 section 18.1.1). Pure.

Deliberately milder than the RFC, as its own fallback allows: a peer that cannot be reached by TCP gets the large
datagram, and is remembered for a while; one behind a NAT, which no connection of ours can reach, gets it at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pbx_sip.message.message import Request

if TYPE_CHECKING:
    from pbx_signaling.addressing import Addressing
    from pbx_signaling.call.sent import Sent
    from pbx_signaling.core import Core
    from pbx_signaling.pager import Delivery
    from pbx_sip.address import Flow, HostPort

LARGE: Final = 1_300
"""Octets: the RFC's figure where the path MTU is not known."""
START_LINE: Final = 16
"""Octets of a start line beside method and URI, and of the last line end."""
REMEMBER_S: Final = 600.0
PEERS_MAX: Final = 10_000
"""Peers remembered; the oldest are forgotten beyond."""


class Oversize:
    """Large requests under way, and which peers take no TCP."""

    def __init__(self, addressing: Addressing) -> None:
        self._addressing = addressing
        self._refused: dict[HostPort, float] = {}
        self._waiting: dict[Any, tuple[Request, Flow]] = {}
        """Requests that went by TCP and have no response yet, as they would go over UDP. No more than transactions."""

    def send(self, request: Request, flow: Flow, sent: Sent | Delivery, core: Core) -> Any:
        """Sends a request that would go over UDP: by TCP where it is large and nothing is known against it."""
        layer, twin = core.layer, None
        is_refused = self._refused.get(flow.remote, core.now) > core.now
        if size_of(request) > LARGE and not is_refused and not sent.leg.strict_flow:
            twin = self._addressing.reliable_twin(flow)
        if twin is None:
            return layer.request(request, flow, core.now, sent)
        over_udp = Request(request.method, request.uri, request.headers.copy(), request.body)
        request.headers.set("Via", core.via(twin))
        key = layer.request(request, twin, core.now, sent)
        self._waiting[key] = over_udp, flow
        return key

    def answered(self, key: Any) -> None:
        """A response came: TCP reaches the peer."""
        if self._waiting:
            self._waiting.pop(key, None)

    def sent_again(self, key: Any, sent: Sent | Delivery, core: Core) -> bool:
        """Sends a request over UDP all the same, where TCP did not reach the peer; False where it is none of these."""
        kept = self._waiting.pop(key, None) if self._waiting else None
        if kept is None or sent.leg.is_given_up:
            return False
        request, flow = kept
        self._refused.pop(flow.remote, None)
        if len(self._refused) >= PEERS_MAX:
            del self._refused[next(iter(self._refused))]
        self._refused[flow.remote] = core.now + REMEMBER_S
        leg: Any = sent.leg
        leg.resent(sent, core.layer.request(request, flow, core.now, sent))
        return True


def size_of(request: Request) -> int:
    """Octets of a request on the wire, near enough (text counted in characters)."""
    size = len(request.method) + len(request.uri) + START_LINE + len(request.body)
    for name, value in request.headers.items:
        size += len(name) + len(value) + 4
    return size
