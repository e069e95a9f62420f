"""What users of transactions send by, as they see it. Implemented by `router.outgoing.Outgoing`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pbx_signaling.calls.signals import Target
    from pbx_signaling.users.user import DialogOwner, Owner, Sending
    from pbx_sip.address import Flow
    from pbx_sip.message.message import Request, Response
    from pbx_sip.transaction.events import ClientKey, ServerKey
    from pbx_sip.usage.output import Pairs


class Sip(Protocol):
    """The SIP side. `now` is the time of the input under way."""

    now: float

    @property
    def wall_s(self) -> float:
        """The same in seconds since the Unix epoch."""

    def send(self, request: Request, flow: Flow, owner: Sending, patience_s: float = 0.0) -> ClientKey:
        """Sends a request in a transaction of its own."""

    def transmit(self, request: Request, flow: Flow, owner: Owner | None = None) -> None:
        """Sends a request without a transaction."""

    def own(self, key: ServerKey, owner: Owner) -> None:
        """Takes a request's transaction: its CANCEL and its failure come to the owner."""

    def cancel(self, key: ClientKey, headers: Pairs) -> None:
        """Cancels an INVITE that was sent, with header fields for its CANCEL."""

    def respond(self, key: ServerKey, response: Response, owner: Owner | None = None) -> None:
        """Answers a request; the answer belongs to the call of the owner."""

    def via(self, flow: Flow) -> str:
        """A Via value for a request down that flow, with a new branch (RFC 3261 section 8.1.1.7)."""

    def via_of(self, flow: Flow, branch: str) -> str:
        """A Via value for a request down that flow, with a branch that was made before."""

    def contact(self, flow: Flow, secure: bool) -> str:
        """Our Contact value for a dialog over that flow."""

    def flow_of(self, target: Target) -> Flow:
        """The flow on which a binding is reached."""

    def first_hop(self, target: Target) -> str:
        """The URI of the hop that leads to a binding."""

    def route(self, uri: str, default: Flow) -> Flow:
        """The flow to a next hop."""

    def names_hop(self, uri: str, flow: Flow) -> bool:
        """Whether a URI of the peer at the end of a flow says where to send."""

    def can_reach(self, uri: str, flow: Flow) -> bool:
        """Whether the peer at the end of a connection can be reached by another one."""

    def anew(self, uri: str, gone: Flow) -> Flow | None:
        """The flow to a peer whose connection is gone."""

    def tag(self) -> str:
        """A new tag for a dialog of ours, with our instance id in it (RFC 3261 section 19.3)."""

    def sip_call_id(self) -> str:
        """A new Call-ID for a leg of ours, with our instance id in it (RFC 3261 section 8.1.1.4)."""

    def chance(self) -> float:
        """A random number from 0 to 1 that spreads retries; nothing is decided by it."""

    def schedule(self, owner: Owner, at: float, what: int) -> int:
        """Lets `owner.user.expired(owner, what)` be called at `at`."""

    def unschedule(self, handle: int) -> None:
        """Forgets that."""


class Dialogs(Protocol):
    """The dialogs whose requests are awaited. Implemented by `router.dialogs.Dialogs`."""

    def listen(self, local_tag: str, owner: DialogOwner) -> None:
        """From now on requests with that To-tag go to the owner."""

    def forget(self, local_tag: str) -> None:
        """Requests with that To-tag belong to nobody any more: they get 481."""

    def owners(self) -> list[DialogOwner]:
        """All owners; one of several tags so many times."""
