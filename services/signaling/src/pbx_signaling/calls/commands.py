"""What a call asks of the world. The core performs what concerns legs, the executor the rest."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from pbx_signaling.calls.signals import CALLER, Ask, Carried, Cause, Content, Deadline, Side, Target
from pbx_signaling.media.stream import StreamEndpoint
from pbx_sip.swift import swift

# --- of a leg


@swift
@dataclass(frozen=True, slots=True)
class Dial:
    """Invite the callee at a target."""

    leg: int
    target: Target
    content: Content | None
    headers: Carried = ()
    """Header fields that came from the other leg; so in the commands below."""


@swift
@dataclass(frozen=True, slots=True)
class Ring:
    """Tell the caller about progress."""

    status: int
    reason: str
    content: Content | None
    fork: str
    reliable: int
    headers: Carried = ()


@swift
@dataclass(frozen=True, slots=True)
class Answer:
    """Tell the caller that the callee answered."""

    content: Content | None
    fork: str
    headers: Carried = ()


@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse the caller's attempt."""

    status: int
    reason: str = ""
    cause: Cause = field(default_factory=Cause)
    retry_after_s: int = 0
    challenge: bool = False
    """Ask for credentials again; `stale` where the old ones were right."""
    stale: bool = False
    warning: str = ""
    headers: Carried = ()


@swift
@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Confirm the callee's answer."""

    leg: int
    content: Content | None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop inviting the callee."""

    leg: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Pass:
    """Ask of a side what the other asked."""

    leg: int
    exchange: int
    ask: Ask
    content: Content | None
    fork: str
    package: str
    confirms: int
    headers: Carried = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a side what it asked."""

    leg: int
    exchange: int
    status: int
    reason: str = ""
    content: Content | None = None
    retry_after_s: int = 0
    headers: Carried = ()


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Stop asking MODIFY of a side; its answer comes still."""

    leg: int
    exchange: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Confirm:
    """Confirm a side's positive answer to MODIFY."""

    leg: int
    exchange: int
    content: Content | None


@swift
@dataclass(frozen=True, slots=True)
class HangUp:
    """End a side's dialog."""

    leg: int
    cause: Cause


# --- of the world


@swift
@dataclass(frozen=True, slots=True)
class Authenticate:
    """Verify the caller's credentials."""


@swift
@dataclass(frozen=True, slots=True)
class FindTargets:
    """Look the callee up."""

    aor: str


@swift
@dataclass(frozen=True, slots=True)
class ReserveMedia:
    """Take a slot of a relay, telling it the endpoints known so far."""

    endpoints: list[StreamEndpoint]


@swift
@dataclass(frozen=True, slots=True)
class UpdateMedia:
    """Tell the relay new endpoints."""

    endpoints: list[StreamEndpoint]


@swift
@dataclass(frozen=True, slots=True)
class ReleaseMedia:
    """Give the slot back; nothing follows."""


class Record(enum.IntEnum):
    """Events that are written to the outbox."""

    INITIATED = 0
    DIALING = 1
    RINGING = 2
    EARLY_MEDIA = 3
    ANSWERED = 4
    HELD = 5
    RESUMED = 6
    MEDIA_TIMEOUT = 7
    ENDED = 8
    DTMF = 9


@swift
@dataclass(frozen=True, slots=True)
class Emit:
    """Write an event, and the call's new state with it, before anything of this step is revealed."""

    record: Record
    status: int = 0
    side: Side | None = None
    leg: int = CALLER
    """Of DIALING, RINGING and EARLY_MEDIA: that of the phone."""
    at: float = 0.0
    """Monotonic seconds; stamped when it is performed."""
    sequence: int = 0
    """Counts the call's events from 1; stamped when it is performed."""
    digit: str = ""
    """Of DTMF."""
    duration_ms: int = 0

    def stamped(self, at: float, sequence: int) -> Emit:
        """The same, with its time and its number."""
        return Emit(self.record, self.status, self.side, self.leg, at, sequence, self.digit, self.duration_ms)


@swift
@dataclass(frozen=True, slots=True)
class SetDeadline:
    """Send Expired after so many seconds."""

    deadline: Deadline
    after_s: float
    leg: int = CALLER
    """Of BRANCH and SILENCE."""


@swift
@dataclass(frozen=True, slots=True)
class ClearDeadline:
    """Forget a deadline."""

    deadline: Deadline
    leg: int = CALLER


@dataclass(frozen=True, slots=True)
class Count:
    """An attempt that gets no CDR of its own because it is one of a flood: counted only."""


@dataclass(frozen=True, slots=True)
class Forget:
    """The call has no use for a leg any more; what it has begun may finish."""

    leg: int


@swift
@dataclass(frozen=True, slots=True)
class Finish:
    """The call is over: its legs may finish what they have begun, the call itself is forgotten."""


Command = (
    Dial
    | Ring
    | Answer
    | Reject
    | Acknowledge
    | Cancel
    | Pass
    | Reply
    | Withdraw
    | Confirm
    | HangUp
    | Authenticate
    | FindTargets
    | ReserveMedia
    | UpdateMedia
    | ReleaseMedia
    | Emit
    | SetDeadline
    | ClearDeadline
    | Count
    | Forget
    | Finish
)
