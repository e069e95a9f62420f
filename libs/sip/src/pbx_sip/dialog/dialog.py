"""A dialog as a plain value (RFC 3261 section 12): identity, CSeq numbers, target and route set.

It makes the requests of its own side and judges those of the peer; it holds no message and no timer, so that it can be
stored and restored as it is. Each early dialog of a forked INVITE is a value of its own.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from pbx_sip.errors import RemoteError
from pbx_sip.header.name_addr import NameAddr
from pbx_sip.message.headers import Headers, split_semicolons
from pbx_sip.message.message import Message, Request, Response
from pbx_sip.message.uri import request_target

REFRESHING: Final = frozenset({"INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"})
"""Target refresh requests (RFC 3261 section 6, 3311, 6665, 3515)."""
UNKNOWN: Final = -1
"""`remote_cseq` before the first request of the peer."""


class Verdict(enum.IntEnum):
    """What a dialog says of a request of its peer."""

    IN_ORDER = 0
    OUT_OF_ORDER = 1
    """CSeq not above one before: 500 (section 12.2.2). Repetitions end in their transaction and do not come here."""


@dataclass(slots=True)
class Dialog:
    """One side's view of a dialog."""

    call_id: str
    local_tag: str
    remote_tag: str
    """Empty with a peer of RFC 2543."""
    local_address: str
    """Our From value with our tag."""
    remote_address: str
    """Our To value with the peer's tag."""
    remote_target: str
    """URI of the peer's Contact; of its From or To as long as it has sent none."""
    route_set: tuple[str, ...]
    """Route values, first hop first."""
    local_cseq: int
    remote_cseq: int = UNKNOWN
    confirmed: bool = False
    """A 2xx was sent or came; before, the dialog is early."""
    secure: bool = False
    """Made by a SIPS request over TLS (section 12.1)."""
    remote_rseq: int = 0
    """RSeq of the last reliable provisional response of the peer (RFC 3262); 0: none yet."""
    has_target: bool = True
    """Whether the peer has sent a Contact."""

    def __repr__(self) -> str:
        """For logs and tests."""
        stage = "confirmed" if self.confirmed else "early"
        return (
            f"<Dialog {self.call_id} {self.local_tag} {self.remote_tag} {stage} {self.local_cseq}/{self.remote_cseq}>"
        )

    @property
    def key(self) -> tuple[str, str, str]:
        """Call-ID, local and remote tag: identifies the dialog at this side (section 12)."""
        return self.call_id, self.local_tag, self.remote_tag

    @classmethod
    def as_uas(cls, request: Request, local_tag: str, *, secure: bool = False) -> Dialog:
        """The dialog that our response to a request begins (section 12.1.1)."""
        to, remote = request.first("To") or "", request.first("From") or ""
        target = _target(request)
        return cls(
            call_id=request.call_id,
            local_tag=local_tag,
            remote_tag=request.from_tag,
            local_address=to if request.to_tag else f"{to};tag={local_tag}",
            remote_address=remote,
            remote_target=target or _uri_of(remote),
            route_set=tuple(request.headers.listed("Record-Route")),
            local_cseq=0,
            remote_cseq=request.cseq_number,
            secure=secure,
            has_target=bool(target),
        )

    @classmethod
    def as_uac(cls, request: Request, response: Response, *, secure: bool = False) -> Dialog:
        """The dialog that a response begins (section 12.1.2); early unless `confirm` follows."""
        remote = response.first("To") or ""
        target = _target(response)
        return cls(
            call_id=request.call_id,
            local_tag=request.from_tag,
            remote_tag=response.to_tag,
            local_address=request.first("From") or "",
            remote_address=remote,
            # Deliberately not RFC where there is no Contact: what was dialled is the one address that the peer is known
            # by; its To is an address-of-record, and ours.
            remote_target=target or request.uri or _uri_of(remote),
            route_set=tuple(reversed(response.headers.listed("Record-Route"))),
            local_cseq=request.cseq_number,
            secure=secure,
            has_target=bool(target),
        )

    def confirm(self, response: Response) -> None:
        """The 2xx of an early dialog of ours: its route set is computed anew (section 13.2.2.4)."""
        self.route_set = tuple(reversed(response.headers.listed("Record-Route")))
        self.refresh_target(response)
        self.confirmed = True

    def receive(self, request: Request) -> Verdict:
        """Takes the CSeq number of a request of the peer in (section 12.2.2); not for ACK and CANCEL.

        A target refresh takes effect when the request is accepted (RFC 6141 section 4.4): `refresh_target` then.
        """
        number = request.cseq_number
        if number <= self.remote_cseq:
            return Verdict.OUT_OF_ORDER
        self.remote_cseq = number
        return Verdict.IN_ORDER

    def refresh_target(self, message: Message) -> None:
        """Takes over the Contact of a target refresh request that was accepted, or of a 2xx to one of ours."""
        if type(message) is Request and message.method not in REFRESHING:
            return
        target = _target(message)
        if target:
            self.remote_target, self.has_target = target, True

    def next_hop(self) -> str:
        """The URI to send to: of the first route, else the target (section 12.2.1.1); empty where none is known."""
        route = _uri_of(self.route_set[0]) if self.route_set else ""
        return route or (self.remote_target if self.has_target else "")

    def request(self, method: str, via: str) -> Request:
        """A request of ours inside the dialog, with the next CSeq number (section 12.2.1.1); not ACK, not CANCEL."""
        self.local_cseq += 1
        return self._request(method, via, self.local_cseq)

    def ack(self, cseq: int, via: str) -> Request:
        """The ACK for the 2xx of an INVITE of ours with that CSeq number (section 13.2.2.4)."""
        return self._request("ACK", via, cseq)

    def _request(self, method: str, via: str, cseq: int) -> Request:
        uri, routes = self.remote_target, self.route_set
        if routes and not _is_loose(routes[0]):
            # A strict router wants to be the Request-URI itself, and the target as the last route.
            uri, routes = request_target(self.next_hop()) or uri, (*routes[1:], f"<{self.remote_target}>")
        items = [("Via", via), ("Max-Forwards", "70")]
        if routes:
            items += [("Route", route) for route in routes]
        items += [
            ("From", self.local_address),
            ("To", self.remote_address),
            ("Call-ID", self.call_id),
            ("CSeq", f"{cseq} {method}"),
        ]
        return Request(method, uri, Headers(items))


def _target(message: Message) -> str:
    """The URI of the first Contact, fit to be a Request-URI; empty where there is none that can be read."""
    contact = message.first("Contact")
    return request_target(_uri_of(contact)) if contact else ""


def _uri_of(value: str) -> str:
    """The URI of a name-addr; empty where it cannot be read."""
    try:
        return NameAddr.parse(value).uri
    except RemoteError:
        return ""


def _is_loose(route: str) -> bool:
    """Whether the URI of a route has the lr parameter (section 19.1.1)."""
    parameters = split_semicolons(_uri_of(route).partition("?")[0])[1:]
    return any(parameter.partition("=")[0].strip().lower() == "lr" for parameter in parameters)
