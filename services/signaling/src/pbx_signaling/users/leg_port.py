"""The SIP side as the legs of one call see it: what they send is that call's, whenever they send it.

Implements `legs.port.SipPort`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pbx_signaling.border import wire
from pbx_sip.usage.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbx_signaling.border.border import Border
    from pbx_signaling.calls.signals import Signal, Target
    from pbx_signaling.config import CoreConfig
    from pbx_signaling.legs.leg import Leg
    from pbx_signaling.users.sip import Dialogs, Sip
    from pbx_signaling.users.user import User
    from pbx_sip.address import Flow
    from pbx_sip.dialog.session_timer import SessionPolicy
    from pbx_sip.message.message import Request, Response
    from pbx_sip.tokens import TokenSource
    from pbx_sip.transaction.events import ClientKey
    from pbx_sip.usage.output import Pairs


@dataclass(slots=True, eq=False)
class OfLeg:
    """The owner of a leg's transactions, dialogs and deadlines."""

    user: User
    call_id: str
    leg: Leg
    key: ClientKey = ("", "")
    """Of the transaction of a request that the leg sent."""

    @property
    def strict_flow(self) -> bool:
        """Whether the peer is reached down its flow alone."""
        return self.leg.strict_flow

    @property
    def is_given_up(self) -> bool:
        """Whether the call has no use for the leg any more."""
        return self.leg.is_given_up

    def owns(self, request: Request) -> bool:
        """Whether a request belongs to a dialog of the leg."""
        return self.leg.owns(request)


class Ears(Protocol):
    """What hears of legs."""

    draining: bool

    def tell(self, leg: Leg, signal: Signal) -> None:
        """Hands a call-control event to the leg's call."""


@dataclass(frozen=True, slots=True)
class LegsNeed:
    """What the legs of all calls of an instance have in common."""

    sip: Sip
    dialogs: Dialogs
    border: Border
    config: CoreConfig
    ears: Ears
    user: User
    unreachable: Callable[[str, Flow], None]
    """Removes a binding whose connection is gone, and in whose place no other could be made."""
    tokens: TokenSource
    origins: tuple[Origin, Origin] = field(init=False)
    """How legs write themselves into messages, and how those of dialogs that a SIPS URI made."""

    def __post_init__(self) -> None:
        """Makes what all legs share."""
        object.__setattr__(self, "origins", (self._origin(secure=False), self._origin(secure=True)))

    def _origin(self, *, secure: bool) -> Origin:
        sip = self.sip
        return Origin(
            tokens=self.tokens,
            via=sip.via_of,
            contact=partial(sip.contact, secure=secure),
            timers=self.config.timers,
            fields=wire.fields_of,
            route=sip.route,
            retry_after_s=lambda: wire.retry_after_s(sip.chance()),
        )


class LegPort:
    """That of one call. It is the owner of what goes out without a transaction."""

    __slots__ = ("_around", "_sip", "border", "call_id", "user")

    def __init__(self, around: LegsNeed, call_id: str) -> None:
        self._around = around
        self._sip = around.sip
        self.border = around.border
        self.user = around.user
        self.call_id = call_id

    @property
    def now(self) -> float:
        """The time of the input under way."""
        return self._sip.now

    @property
    def sessions(self) -> SessionPolicy:
        """What legs ask for as session timers, and agree to."""
        return self._around.config.sessions

    @property
    def draining(self) -> bool:
        """Whether the process ends."""
        return self._around.ears.draining

    # --- messages

    def send(self, request: Request, flow: Flow, leg: Leg, patience_s: float = 0.0) -> ClientKey:
        """Sends a request in a transaction of its own."""
        owner = OfLeg(self.user, self.call_id, leg)
        owner.key = self._sip.send(request, flow, owner, patience_s)
        return owner.key

    def send_ack(self, request: Request, flow: Flow) -> None:
        """Sends an ACK for a 2xx."""
        self._sip.transmit(request, flow, self)

    def own(self, key: Any, leg: Leg) -> None:
        """Tells `leg` of the CANCEL of an INVITE."""
        self._sip.own(key, OfLeg(self.user, self.call_id, leg))

    def cancel(self, key: ClientKey, headers: Pairs) -> None:
        """Cancels an INVITE that was sent."""
        self._sip.cancel(key, headers)

    def respond(self, key: Any, response: Response) -> None:
        """Answers a request."""
        self._sip.respond(key, response, self)

    # --- addresses and identifiers

    def origin(self, *, secure: bool) -> Origin:
        """How a leg writes itself into messages."""
        return self._around.origins[secure]

    def names_hop(self, uri: str, flow: Flow) -> bool:
        """Whether a URI of the peer at the end of a flow says where to send."""
        return self._sip.names_hop(uri, flow)

    def first_hop(self, target: Target) -> str:
        """The URI of the hop that leads to a binding."""
        return self._sip.first_hop(target)

    def anew(self, uri: str, gone: Flow) -> Flow | None:
        """The flow to a peer whose connection is gone."""
        return self._sip.anew(uri, gone)

    def unreachable(self, aor: str, flow: Flow) -> None:
        """Removes a binding whose connection is gone."""
        self._around.unreachable(aor, flow)

    def chance(self) -> float:
        """A random number from 0 to 1 that spreads retries."""
        return self._sip.chance()

    # --- the leg's own

    def schedule(self, owner: Any, at: float, what: int) -> object:
        """Lets a leg's deadline come to it at `at`."""
        return self._sip.schedule(OfLeg(self.user, self.call_id, owner), at, what)

    def unschedule(self, handle: Any) -> None:
        """Forgets a deadline."""
        self._sip.unschedule(handle)

    def tell(self, leg: Leg, signal: Signal) -> None:
        """Hands a call-control event to the leg's call."""
        self._around.ears.tell(leg, signal)

    def listen(self, local_tag: str, leg: Leg) -> None:
        """Requests with that To-tag go to the leg."""
        self._around.dialogs.listen(local_tag, OfLeg(self.user, self.call_id, leg))

    def forget(self, local_tag: str) -> None:
        """Requests with that To-tag belong to nobody any more."""
        self._around.dialogs.forget(local_tag)
