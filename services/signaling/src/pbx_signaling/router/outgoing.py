"""What users of transactions send by: Via, Contact, next hop, large requests over TCP, identifiers, deadlines. Pure.

One object for all users; each names itself by the owner that it gives with what it sends. `now` is the time of the
input under way; the router sets it, and nobody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbx_signaling.router.oversize import Oversize
from pbx_sip.address import Transport
from pbx_sip.transaction.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pbx_signaling.calls.signals import Target
    from pbx_signaling.identity import Identity
    from pbx_signaling.router.addressing import Addressing
    from pbx_signaling.users.user import Owner, Sending
    from pbx_sip.address import Flow
    from pbx_sip.message.message import Request, Response
    from pbx_sip.transaction.events import ClientKey, ServerKey
    from pbx_sip.transaction.layer import TransactionLayer
    from pbx_sip.usage.output import Pairs


class Outgoing:
    """The way out of one instance. Implements `users.sip.Sip`."""

    def __init__(self, layer: TransactionLayer, addressing: Addressing, identity: Identity) -> None:
        self.now = 0.0
        self.layer = layer
        self.addressing = addressing
        self.identity = identity
        self.deadlines = Deadlines()
        self.oversize = Oversize(layer, self.deadlines, addressing.reliable_twin, self.via)

    # --- transactions

    def send(self, request: Request, flow: Flow, owner: Sending, patience_s: float = 0.0) -> ClientKey:
        """Sends a request in a transaction of its own; a large one over TCP where the peer can be reached so."""
        if flow.transport is Transport.UDP and request.body:
            return self.oversize.send(request, flow, owner, self.now, patience_s)
        return self.layer.request(request, flow, self.now, owner, patience_s)

    def transmit(self, request: Request, flow: Flow, owner: Owner | None = None) -> None:
        """Sends a request without a transaction: an ACK for a 2xx, a ping."""
        self.layer.transmit(request, flow, owner)

    def own(self, key: ServerKey, owner: Owner) -> None:
        """Takes a request's transaction: its CANCEL and its failure come to the owner."""
        self.layer.own(key, owner)

    def cancel(self, key: ClientKey, headers: Pairs) -> None:
        """Cancels an INVITE that was sent, with header fields for its CANCEL."""
        self.layer.cancel(key, self.now, list(headers))

    def respond(self, key: ServerKey, response: Response, owner: Owner | None = None) -> None:
        """Answers a request; the answer belongs to the call of the owner."""
        self.layer.respond(key, response, self.now, owner)

    # --- addresses

    def via(self, flow: Flow) -> str:
        """A Via value with a fresh branch."""
        return self.addressing.via(flow, self.identity.branch())

    def via_of(self, flow: Flow, branch: str) -> str:
        """A Via value with that branch."""
        return self.addressing.via(flow, branch)

    def contact(self, flow: Flow, secure: bool) -> str:
        """Our Contact value for a dialog over that flow; with a SIPS URI where it is `secure`."""
        return self.addressing.contact(flow, secure)

    def flow_of(self, target: Target) -> Flow:
        """The flow on which a binding is reached."""
        return self.addressing.flow_of(target)

    def first_hop(self, target: Target) -> str:
        """The URI of the hop that leads to a binding."""
        return self.addressing.first_hop(target)

    def route(self, uri: str, default: Flow) -> Flow:
        """The flow to a next hop; `default` where its URI does not tell."""
        return self.addressing.route(uri, default)

    def names_hop(self, uri: str, flow: Flow) -> bool:
        """Whether a URI of the peer at the end of a flow says where to send; else that is the flow alone."""
        return self.addressing.names_hop(uri, flow)

    def can_reach(self, uri: str, flow: Flow) -> bool:
        """Whether the peer at the end of a connection can be reached by another one, at a URI of its own."""
        return self.addressing.can_reach(uri, flow)

    def anew(self, uri: str, gone: Flow) -> Flow | None:
        """The flow to a peer whose connection is gone, to the address that its URI names; None: there is none."""
        return self.addressing.anew(uri, gone)

    # --- identifiers and time

    def tag(self) -> str:
        """A fresh tag that carries our instance id."""
        return self.identity.tag()

    def sip_call_id(self) -> str:
        """A fresh Call-ID that carries our instance id."""
        return self.identity.sip_call_id()

    def chance(self) -> float:
        """A random number from 0 to 1 that spreads retries; nothing is decided by it."""
        return self.identity.chance()

    @property
    def wall_s(self) -> float:
        """Now in seconds since the Unix epoch: what nonces are dated with, here and at the registrar."""
        return self.identity.wall_ms(self.now) / 1000

    def schedule(self, owner: Owner, at: float, what: int) -> int:
        """Lets `owner.user.expired(owner, what)` be called at `at`; the handle goes to `unschedule`."""
        return self.deadlines.schedule(at, owner, what)

    def unschedule(self, handle: int) -> None:
        """Forgets a deadline."""
        self.deadlines.cancel(handle)

    def expire(self) -> Iterator[tuple[Owner, int]]:
        """What of the users' deadlines is due now."""
        for owner, what in self.deadlines.expire(self.now):
            if owner is self.oversize:
                self.oversize.expired(what, self.now)
            else:
                yield owner, what

    @property
    def next_timeout(self) -> float | None:
        """When the next deadline is due, of transactions or of users."""
        mine, layers = self.deadlines.next_timeout, self.layer.next_timeout
        if mine is None or layers is None:
            return mine if layers is None else layers
        return min(mine, layers)
