"""Call-control events: what legs, the world and time tell the call logic.

These are the only words that call logic hears. A leg translates one SIP dialog to and from them; the executor
translates the answers of registrar, relay and administrator. All are plain slotted values.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from pbx_signaling.media.stream import Slot

Carried = tuple[tuple[str, str], ...]
"""Header fields on their way to the other leg; opaque to call logic."""
CALLER: Final = 0
"""The caller's leg. Legs of the callee are numbered from 1, one for each attempt to reach it."""


class Side(enum.IntEnum):
    """The two sides of a call, numbered as in the relay's contract."""

    CALLER = 1
    CALLEE = 2

    @property
    def other(self) -> Side:
        """The opposite side."""
        return Side.CALLEE if self is Side.CALLER else Side.CALLER

    @classmethod
    def of(cls, leg: int) -> Side:
        """The side to which a leg belongs."""
        return cls.CALLEE if leg else cls.CALLER


class Ask(enum.IntEnum):
    """Requests that one side makes of the other inside a call."""

    MODIFY = 0
    """Change the session, with three steps: re-INVITE."""
    UPDATE = 1
    """Change the session, with two steps (RFC 3311)."""
    CONFIRM_PROGRESS = 2
    """Acknowledge a reliable provisional answer: PRACK (RFC 3262)."""
    INFORM = 3
    """Application data: INFO (RFC 6086)."""
    MESSAGE = 4
    """An instant message within the call (RFC 3428)."""


@dataclass(frozen=True, slots=True)
class Content:
    """A body: an SDP session description, something opaque, or several parts with a description among them."""

    type: str
    data: bytes
    disposition: str = ""
    span: tuple[int, int] | None = None
    """In a body of several parts: the first octet of the session description, and the one after its last."""

    @property
    def is_sdp(self) -> bool:
        """Whether it holds a session description."""
        return self.span is not None or self.type.partition(";")[0].strip().lower() == "application/sdp"

    @property
    def sdp(self) -> bytes:
        """The session description."""
        return self.data if self.span is None else self.data[slice(*self.span)]

    def with_sdp(self, sdp: bytes) -> Content:
        """The same body with another session description."""
        if self.span is None:
            return Content(self.type, sdp, self.disposition)
        start, end = self.span
        return Content(
            self.type, self.data[:start] + sdp + self.data[end:], self.disposition, (start, start + len(sdp))
        )


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a call or a leg ends: the Reason headers (RFC 3326), where there were any."""

    text: str = ""
    q850: int = 0
    q850_location: str = ""
    """Where the cause arose, as Q.850 has it ("LN"; RFC 8606)."""
    others: tuple[str, ...] = ()
    """Reasons of other protocols (SIP, Preemption), as values of the header."""


@dataclass(frozen=True, slots=True)
class Pressed:
    """A DTMF key that was pressed, as phones and gateways say it in INFO."""

    digit: str
    duration_ms: int


# --- from a leg


@dataclass(frozen=True, slots=True)
class Heard:
    """A phone has the INVITE, and says nothing else yet (100)."""

    leg: int


@dataclass(frozen=True, slots=True)
class Progress:
    """The callee rings, or sends early media (a provisional answer above 100)."""

    leg: int
    status: int
    reason: str
    content: Content | None
    fork: str
    """Which early dialog of that leg: the same string as in later signals of it."""
    reliable: int = 0
    """Number by which the sender wants it confirmed; 0: it does not."""
    headers: Carried = ()
    """Header fields that cross to the other leg; so in the events below."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The callee answered."""

    leg: int
    content: Content | None
    fork: str
    headers: Carried = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """The callee, or its network, refused or failed."""

    leg: int
    status: int
    reason: str
    cause: Cause
    retry_after_s: int = 0
    local: bool = False
    """No answer came at all; `status` is ours (408, 503)."""
    headers: Carried = ()
    users: tuple[str, ...] = ()
    """Addresses-of-record of our own domain to which a 3xx points."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The caller confirmed the answer; carries the session answer where the callee made the offer."""

    content: Content | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The caller gave up before an answer."""

    leg: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class HungUp:
    """A side ended the call."""

    leg: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Asked:
    """A side asks something of the other inside the call."""

    leg: int
    exchange: int
    ask: Ask
    content: Content | None
    fork: str = ""
    package: str = ""
    """Info-Package, for INFORM."""
    confirms: int = 0
    """Number of the progress confirmed, for CONFIRM_PROGRESS."""
    headers: Carried = ()
    pressed: Pressed | None = None
    """The key of an INFORM that tells of one."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The asker of MODIFY cancelled it before its answer."""

    leg: int
    exchange: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class Replied:
    """A side answered what it was asked."""

    leg: int
    exchange: int
    status: int
    reason: str
    content: Content | None
    retry_after_s: int = 0
    headers: Carried = ()


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The asker of MODIFY confirmed the positive answer; carries the session answer of a delayed offer."""

    leg: int
    exchange: int
    content: Content | None


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A side repeated its session description in answer to a refresh of ours; nobody asked for a change."""

    leg: int
    content: Content


@dataclass(frozen=True, slots=True)
class LegLost:
    """A side cannot be reached any more, or did not confirm in time."""

    leg: int
    cause: str
    """A word for the CDR: "no_prack", "no_ack", "no_response", "transport", "session_expired"."""


# --- from the world


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The caller is who it says."""

    user: str
    display_name: str
    calls_max: int = 0
    """Calls that its account may have at once; 0: what accounts without a limit of their own may."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The caller is not let in."""

    status: int
    stale: bool = False
    retry_after_s: int = 0


@dataclass(frozen=True, slots=True)
class Limited:
    """The caller is who it says, and has or asks for more than it may."""

    status: int
    word: str
    """For the CDR: which limit."""
    retry_after_s: int = 0
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """One way to reach the callee: a binding."""

    uri: str
    aor: str
    path: tuple[str, ...]
    transport: int
    host: str
    port: int
    listener: str
    connection: int
    instance: str
    unreachable: bool = False
    """Its phone does not answer any more, so far as is known."""
    q_thousandths: int = 1_000
    """How much the callee prefers it (RFC 3261 section 20.10): the higher the sooner."""
    sip_instance: str = ""
    """Of the phone (RFC 5626 section 4.1): several flows to one have the same; empty where it says none."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the registrar knows of the callee: `known` without targets is "not registered"."""

    known: bool
    targets: list[Target]
    is_own: bool = False
    """There is no target but the phone that calls."""


@dataclass(frozen=True, slots=True)
class MediaReady:
    """A relay gave a slot."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class MediaUnavailable:
    """No relay could give a slot."""

    detail: str


@dataclass(frozen=True, slots=True)
class MediaLost:
    """The relay does not have the call on the slot that it had granted."""

    slot: Slot
    detail: str


@dataclass(frozen=True, slots=True)
class ServiceFailed:
    """The registrar could not be asked."""

    detail: str
    retry_after_s: int = 0


@dataclass(frozen=True, slots=True)
class LookupFailed(ServiceFailed):
    """It could not be asked where the callee is: that counts for a caller who proved to be one."""


@dataclass(frozen=True, slots=True)
class MediaSilent:
    """Neither side sent media for the media timeout."""

    silent_s: int


@dataclass(frozen=True, slots=True)
class Ordered:
    """An administrator, or the end of this process, ends the call."""

    reason: str
    drain: bool = False


class Deadline(enum.IntEnum):
    """Deadlines of a call."""

    SETUP = 0
    """Authentication, look-up and allocation together."""
    NO_ANSWER = 1
    """From the invitation of the callee to its answer."""
    LONGEST = 2
    """From the answer to the end."""
    RELEASE = 3
    """From the end of a call to the last word of its phones, or to a slot that is not wanted any more."""
    INVITATION = 4
    """As long as the caller's INVITE is of use (its Expires)."""
    BRANCH = 5
    """From the invitation of one phone to its answer, where others come after it; of each leg."""
    SILENCE = 6
    """From the invitation of one phone among several to any word of it; of each leg."""


@dataclass(frozen=True, slots=True)
class Expired:
    """A deadline passed."""

    deadline: Deadline
    leg: int = CALLER
    """Of BRANCH and SILENCE."""


Signal = (
    Heard
    | Progress
    | Answered
    | Rejected
    | Acknowledged
    | Cancelled
    | HungUp
    | Asked
    | Replied
    | Withdrawn
    | Confirmed
    | Refreshed
    | LegLost
    | Authenticated
    | Refused
    | Limited
    | Found
    | MediaReady
    | MediaUnavailable
    | MediaLost
    | ServiceFailed
    | LookupFailed
    | MediaSilent
    | Ordered
    | Expired
)
