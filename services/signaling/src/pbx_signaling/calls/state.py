"""Where a call can stand, its limits and times, and what its two sides have asked of each other."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

from pbx_runtime.media_address import Barred
from pbx_signaling.calls.signals import Ask

OFFERING: Final = (Ask.MODIFY, Ask.UPDATE, Ask.CONFIRM_PROGRESS)
"""Requests inside a call whose session description is an offer or an answer; in others it is anybody's text."""
MAX_EXCHANGES: Final = 16
"""Requests under way inside one call. Threat: a phone that asks without end while the other does not answer."""

MAX_DIGITS: Final = 1_024
"""DTMF digits of one call that become events. Threat: a phone that sends INFO without end fills the event stream."""


class State(enum.IntEnum):
    """Where a call stands."""

    AUTHENTICATING = 0
    ROUTING = 1
    ALLOCATING = 2
    DIALING = 3
    RINGING = 4
    ANSWERED = 5
    """The caller was told of the answer and has not confirmed it."""
    TALKING = 6
    CANCELLING = 7
    """The attempt is over for the caller; the callee has not said so yet."""
    ENDED = 9


SETUP: Final = (State.AUTHENTICATING, State.ROUTING, State.ALLOCATING)
BEFORE_ANSWER: Final = (*SETUP, State.DIALING, State.RINGING)
CONNECTED: Final = (State.ANSWERED, State.TALKING)


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """Limits and times of calls, from the settings."""

    setup_s: float = 5.0
    """Authentication, look-up and allocation; a caller's patience with silence, and above one Redis reconnect."""
    no_answer_s: float = 120.0
    """Ringing. RFC 3261 gives proxies more than three minutes (timer C); voicemail and people expect less."""
    longest_s: float = 14_400.0
    """A whole call. Four hours: what remains when both phones vanished and no media timeout was set."""
    redirects: int = 5
    """Times that a call follows a 3xx to another user of our domain; 0: never. More than this is a mistake."""
    cancel_s: float = 40.0
    """Waiting for the callee's last word on a CANCEL, or for a slot that is not wanted any more: above 64*T1, when the
    INVITE's transaction gives up. The net under everything that should have ended the attempt."""
    barred: Barred = field(default_factory=Barred, compare=False)
    """Addresses that session descriptions may not name."""


@dataclass(slots=True)
class Exchange:
    """A request of one side to the other that is under way."""

    by: int
    """The leg that asks."""
    ask: Ask
    offered: bool
    """It carried a session description, which is an offer (in CONFIRM_PROGRESS perhaps an answer)."""
