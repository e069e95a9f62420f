"""What a leg needs around it: transactions, timers, the other side of the call. Implemented by `users.leg_port`.

What it needs of addresses and identifiers is in the `Origin` of its usages: Via, Contact, tags, the way to a next hop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pbx_signaling.border.border import Border
    from pbx_signaling.calls.signals import Signal, Target
    from pbx_sip.address import Flow
    from pbx_sip.dialog.session_timer import SessionPolicy
    from pbx_sip.message.message import Request, Response
    from pbx_sip.transaction.events import ClientKey, ServerKey
    from pbx_sip.usage.origin import Origin
    from pbx_sip.usage.output import Pairs


class SipPort(Protocol):
    """The surroundings of a call as its legs see them."""

    @property
    def now(self) -> float:
        """The time of the input under way."""

    @property
    def draining(self) -> bool:
        """Whether the process ends: nothing can be waited for."""

    @property
    def sessions(self) -> SessionPolicy:
        """What legs ask for as session timers, and agree to; an interval of 0 means none."""

    border: Border
    """Which header fields cross from one leg to the other."""

    def chance(self) -> float:
        """A random number from 0 to 1 that spreads retries."""

    def origin(self, *, secure: bool) -> Origin:
        """How we write ourselves into messages; `secure`: into those of a dialog that a SIPS URI made."""

    def send(self, request: Request, flow: Flow, leg: Any, patience_s: float = 0.0) -> ClientKey:
        """Sends a request in a transaction of its own, whose key it gives; its responses come to `leg`.

        `patience_s`: how long a first response is waited for, where not as long as always.
        """

    def send_ack(self, request: Request, flow: Flow) -> None:
        """Sends an ACK for a 2xx: outside of any transaction."""

    def own(self, key: ServerKey, leg: Any) -> None:
        """Tells `leg` of a CANCEL of the peer's for the INVITE that it sent in that transaction, and of its failure."""

    def cancel(self, key: ClientKey, headers: Pairs) -> None:
        """Cancels an INVITE that was sent."""

    def respond(self, key: ServerKey, response: Response) -> None:
        """Answers a request."""

    def names_hop(self, uri: str, flow: Flow) -> bool:
        """Whether a URI of the peer at the end of a flow says where to send; else that is the flow alone."""

    def first_hop(self, target: Target) -> str:
        """The URI of the hop that leads to a binding."""

    def anew(self, uri: str, gone: Flow) -> Flow | None:
        """The flow to a peer whose connection is gone, to the address that its URI names; None: there is none."""

    def unreachable(self, aor: str, flow: Flow) -> None:
        """Removes a binding whose connection is gone, and in whose place no other could be made."""

    def schedule(self, owner: Any, at: float, what: int) -> object:
        """Calls `owner.expired(what)` at `at`; the handle goes to `unschedule`."""

    def unschedule(self, handle: object) -> None:
        """Forgets a deadline."""

    def tell(self, leg: Any, signal: Signal) -> None:
        """Hands a call-control event to the leg's call."""

    def listen(self, local_tag: str, leg: Any) -> None:
        """From now on requests with that To-tag go to the leg."""

    def forget(self, local_tag: str) -> None:
        """Requests with that To-tag belong to nobody any more."""
