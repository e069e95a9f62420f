"""What a leg needs of the SIP side: sending, answering, timers, identifiers. Implemented by `users.leg_port`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pbx_signaling.border.border import Border
    from pbx_signaling.calls.signals import Signal, Target
    from pbx_signaling.legs.leg import Leg
    from pbx_signaling.legs.sent import Sent
    from pbx_sip.address import Flow
    from pbx_sip.dialog.session_timer import SessionPolicy
    from pbx_sip.message.message import Request, Response
    from pbx_sip.transaction.timers import Timers

Key = object
"""A transaction's key; opaque here."""


class SipPort(Protocol):
    """The SIP side of a call as its legs see it."""

    @property
    def now(self) -> float:
        """The time of the input under way."""

    @property
    def timers(self) -> Timers:
        """T1 and its derivatives."""

    @property
    def draining(self) -> bool:
        """Whether the process ends: nothing can be waited for."""

    @property
    def sessions(self) -> SessionPolicy:
        """What legs ask for as session timers, and agree to; an interval of 0 means none."""

    border: Border
    """Which header fields cross from one leg to the other."""

    def send(self, request: Request, flow: Flow, sent: Sent) -> Key:
        """Sends a request in a transaction of its own; its responses come to `sent.leg` with `sent`."""

    def send_ack(self, request: Request, flow: Flow) -> None:
        """Sends an ACK for a 2xx: outside of any transaction."""

    def own(self, key: Key, leg: Leg) -> None:
        """Tells `leg` of a CANCEL of the peer's for the INVITE that it sent in that transaction."""

    def cancel(self, key: Key, reasons: list[str]) -> None:
        """Cancels an INVITE that was sent, with these Reason headers."""

    def respond(self, key: Key, response: Response) -> None:
        """Answers a request."""

    def via(self, flow: Flow) -> str:
        """A Via value with a fresh branch for a request down that flow."""

    def contact(self, flow: Flow, secure: bool) -> str:
        """Our Contact value for a dialog over that flow; with a SIPS URI where it is `secure`."""

    def route(self, uri: str, default: Flow) -> Flow:
        """The flow to a next hop; `default` where its URI does not tell."""

    def names_hop(self, uri: str, flow: Flow) -> bool:
        """Whether a URI of the peer at the end of a flow says where to send; else that is the flow alone."""

    def first_hop(self, target: Target) -> str:
        """The URI of the hop that leads to a binding."""

    def anew(self, uri: str, gone: Flow) -> Flow | None:
        """The flow to a peer whose connection is gone, to the address that its URI names; None: there is none."""

    def unreachable(self, aor: str, flow: Flow) -> None:
        """Removes a binding whose connection is gone, and in whose place no other could be made."""

    def tag(self) -> str:
        """A fresh tag that carries our instance id."""

    def sip_call_id(self) -> str:
        """A fresh Call-ID that carries our instance id."""

    def schedule(self, owner: object, at: float, what: int) -> object:
        """Calls `owner.expired(what)` at `at`, of a leg or its call; the handle goes to `unschedule`."""

    def unschedule(self, handle: object) -> None:
        """Forgets a deadline."""

    def tell(self, leg: Leg, signal: Signal) -> None:
        """Hands a call-control event to the leg's call."""

    def listen(self, local_tag: str, leg: Leg) -> None:
        """From now on requests with that To-tag go to the leg."""

    def forget(self, local_tag: str) -> None:
        """Ends that."""
