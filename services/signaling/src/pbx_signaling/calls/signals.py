"""Call-control events: what legs, the world and time tell the call logic.

These are the only words that call logic hears. A leg translates one SIP dialog to and from them; the executor
translates the answers of registrar, relay and administrator. All are plain slotted values.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

# Exported from here: what signals and commands speak of.
from pbx_signaling.calls.words import CALLER as CALLER
from pbx_signaling.calls.words import Ask as Ask
from pbx_signaling.calls.words import Carried as Carried
from pbx_signaling.calls.words import Cause as Cause
from pbx_signaling.calls.words import Content as Content
from pbx_signaling.calls.words import Pressed as Pressed
from pbx_signaling.calls.words import Side as Side
from pbx_signaling.calls.words import Target as Target
from pbx_signaling.media.stream import Slot
from pbx_sip.swift import swift

# --- from a leg


@dataclass(frozen=True, slots=True)
class Heard:
    """A phone has the INVITE, and says nothing else yet (100)."""

    leg: int


@swift
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


@swift
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


@swift
@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The caller confirmed the answer; carries the session answer where the callee made the offer."""

    content: Content | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The caller gave up before an answer."""

    leg: int
    cause: Cause


@swift
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
    """The relay does not have the call on its slot, or is out of reach."""

    slot: Slot
    detail: str
    is_certain: bool = True
    """Whether the relay said so; else it may carry media still."""


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
    """A deadline passed that the call had set and not cleared."""

    deadline: Deadline
    leg: int = CALLER
    """Whose deadline it is: BRANCH and SILENCE are set for each leg, the others for the call."""


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
