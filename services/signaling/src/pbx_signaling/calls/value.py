"""All that there is to know of a call. Plain data: what happens to it is in `machine` and in what that calls."""

from __future__ import annotations

from dataclasses import dataclass, field

from pbx_signaling.calls import commands as c
from pbx_signaling.calls import signals as e
from pbx_signaling.calls.bridge import Bridge
from pbx_signaling.calls.ending import Ending, Refusal
from pbx_signaling.calls.hunt import Hunt
from pbx_signaling.calls.signals import Carried, Content
from pbx_signaling.calls.state import CallPolicy, State
from pbx_signaling.media.branches import CallMedia
from pbx_signaling.media.stream import StreamEndpoint
from pbx_sip.swift import swift

# What an action concludes. The machine takes it next, before any other signal: so each of its rows has one next state.


@swift
@dataclass(frozen=True, slots=True)
class Reachable:
    """The callee has phones, and there is no slot yet."""


@swift
@dataclass(frozen=True, slots=True)
class Rings:
    """The first phone rings."""


@swift
@dataclass(frozen=True, slots=True)
class Joined:
    """A phone answered, and its session description can be carried."""

    answered: e.Answered
    content: Content | None
    """As the caller gets it."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt came to nothing."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class GivenUp:
    """The attempt is over while phones ring."""

    ending: Ending
    cause: e.Cause


@swift
@dataclass(frozen=True, slots=True)
class Settled:
    """Nobody has a last word to say any more."""


Conclusion = Reachable | Rings | Joined | Failed | GivenUp | Settled


@dataclass(slots=True)
class CallValue:
    """One call attempt, from the INVITE that passed admission to its CDR."""

    call_id: str
    dialled: str
    """The user part dialled."""
    aor: str
    """The address-of-record dialled, user@domain."""
    claimed: str
    """The address-of-record that the caller claims, user@domain."""
    started: float
    """Monotonic seconds."""
    started_ms: int
    """Milliseconds since the Unix epoch."""
    media: CallMedia
    policy: CallPolicy
    content: Content | None = None
    """What the INVITE carried, until a phone has answered."""
    headers: Carried = ()
    """The INVITE's header fields that cross to the callee."""
    state: State = State.AUTHENTICATING
    caller: str = ""
    """The user that the caller proved to be; empty before."""
    caller_name: str = ""
    found: e.Found | None = None
    """What the registrar said of the callee before it knew the caller."""
    unfound: e.LookupFailed | None = None
    """That it could not be asked, likewise."""
    hunt: Hunt = field(default_factory=Hunt)
    bridge: Bridge = field(default_factory=Bridge)
    unacknowledged: bool = False
    """The phone that answered made the offer: its ACK waits for that of the caller, with the answer."""
    reserving: bool = False
    """A slot is under way."""
    moved: bool = False
    """It got another slot, because no relay had it on the first."""
    answered: float | None = None
    ended: float | None = None
    ending: Ending | None = None
    sequence: int = 0
    """Events emitted so far."""
    initiated: bool = False
    """Its first event was emitted."""
    invitation_s: int = 0
    """How long the caller's INVITE is of use; 0: it does not say."""
    pending: list[c.Command] = field(default_factory=list)
    conclusions: list[Conclusion | e.Found | e.LookupFailed] = field(default_factory=list)

    def __repr__(self) -> str:
        """For logs and tests."""
        return f"<Call {self.call_id} {self.claimed} -> {self.aor}, {self.state.name}>"

    @property
    def seeking(self) -> str:
        """The address-of-record whose phones are looked up: the callee's, or that of whom the call was sent on to."""
        return self.hunt.sought or self.aor

    @property
    def invited_without_offer(self) -> bool:
        """Whether phones make the offer; else their later descriptions only repeat their answer (RFC 6337)."""
        return self.content is None or not self.content.is_sdp

    def do(self, *commands: c.Command) -> None:
        """Asks something of the legs and of the world."""
        self.pending.extend(commands)

    def conclude(self, conclusion: Conclusion | e.Found | e.LookupFailed) -> None:
        """What the machine takes next."""
        self.conclusions.append(conclusion)

    def tell_relay(self, endpoints: list[StreamEndpoint]) -> None:
        """Tells the relay what is news to it."""
        if endpoints:
            self.do(c.UpdateMedia(endpoints))

    def initiate(self) -> None:
        """Writes the attempt down, before anything else happens to it."""
        self.initiated = True
        self.do(c.Emit(c.Record.INITIATED))
