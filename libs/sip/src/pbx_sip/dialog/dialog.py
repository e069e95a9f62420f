"""A dialog as a plain value (RFC 3261 section 12): identity, CSeq numbers, target and route set.

It makes the requests of its own side and judges those of the peer; it holds no message and no timer, so that it can be
stored and restored as it is.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pbx_sip.errors import RemoteError
from pbx_sip.header.name_addr import NameAddr
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request, Response

REFRESHING = frozenset({"INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY"})
"""Target refresh requests."""


class Verdict(enum.IntEnum):
    """What a dialog says of a request of its peer."""

    IN_ORDER = 0
    OUT_OF_ORDER = 1
    """CSeq lower than one before: 500 (section 12.2.2)."""


@dataclass(slots=True)
class Dialog:
    """One side's view of a dialog."""

    call_id: str
    local_tag: str
    remote_tag: str
    local_address: str
    """Our From value with our tag."""
    remote_address: str
    """Our To value with the peer's tag."""
    remote_target: str
    route_set: tuple[str, ...]
    """Route values, first hop first."""
    local_cseq: int
    remote_cseq: int = -1
    """-1: no request of the peer yet."""
    confirmed: bool = False
    remote_rseq: int = 0
    """RSeq of the last reliable provisional response of the peer (RFC 3262)."""

    @classmethod
    def as_uas(cls, request: Request, local_tag: str) -> Dialog:
        """The dialog that our response to a request with a Contact begins (section 12.1.1)."""
        to = request.first("To") or ""
        return cls(
            call_id=request.call_id,
            local_tag=local_tag,
            remote_tag=request.from_tag,
            local_address=to if request.to_tag else f"{to};tag={local_tag}",
            remote_address=request.first("From") or "",
            remote_target=_target(request),
            route_set=tuple(request.headers.listed("Record-Route")),
            local_cseq=0,
            remote_cseq=request.cseq_number,
        )

    @classmethod
    def as_uac(cls, request: Request, response: Response) -> Dialog:
        """The dialog that a response with a To-tag begins (section 12.1.2)."""
        return cls(
            call_id=request.call_id,
            local_tag=request.from_tag,
            remote_tag=response.to_tag,
            local_address=request.first("From") or "",
            remote_address=response.first("To") or "",
            remote_target=_target(response),
            route_set=tuple(reversed(response.headers.listed("Record-Route"))),
            local_cseq=request.cseq_number,
        )

    def confirm(self, response: Response) -> None:
        """The 2xx of an early dialog: its route set is computed anew (section 13.2.2.4)."""
        self.route_set = tuple(reversed(response.headers.listed("Record-Route")))
        self.refresh_target(response)
        self.confirmed = True

    def receive(self, request: Request) -> Verdict:
        """Takes a request of the peer in: CSeq order and target refresh (section 12.2.2)."""
        number = request.cseq_number
        if self.remote_cseq >= number:
            return Verdict.OUT_OF_ORDER
        self.remote_cseq = number
        if request.method in REFRESHING:
            self.refresh_target(request)
        return Verdict.IN_ORDER

    def refresh_target(self, message: Request | Response) -> None:
        """Takes the Contact of a target refresh request, or of a 2xx to one, over."""
        target = _target(message)
        if target:
            self.remote_target = target

    def next_hop(self) -> str:
        """The URI to send to: the first route, else the target (section 12.2.1.1)."""
        if not self.route_set:
            return self.remote_target
        try:
            return NameAddr.parse(self.route_set[0]).uri
        except RemoteError:
            return self.remote_target

    def request(self, method: str, via: str) -> Request:
        """A request of ours inside the dialog, with the next CSeq number (section 12.2.1.1)."""
        self.local_cseq += 1
        return self._request(method, via, self.local_cseq)

    def ack(self, cseq: int, via: str) -> Request:
        """The ACK for the 2xx of an INVITE of ours with that CSeq number (section 13.2.2.4)."""
        return self._request("ACK", via, cseq)

    def _request(self, method: str, via: str, cseq: int) -> Request:
        uri, routes = self.remote_target, self.route_set
        if routes and ";lr" not in routes[0].lower():
            # A strict router wants to be the Request-URI itself, and the target as the last route.
            uri, routes = self.next_hop(), (*routes[1:], f"<{self.remote_target}>")
        headers = Headers(
            [
                ("Via", via),
                ("Max-Forwards", "70"),
                *(("Route", route) for route in routes),
                ("From", self.local_address),
                ("To", self.remote_address),
                ("Call-ID", self.call_id),
                ("CSeq", f"{cseq} {method}"),
            ]
        )
        return Request(method, uri, headers)


def _target(message: Request | Response) -> str:
    """The URI of the first Contact; empty where there is none that can be read."""
    contact = message.first("Contact")
    if contact is None:
        return ""
    try:
        return NameAddr.parse(contact).uri
    except RemoteError:
        return ""
