"""Where a call can stand, and its limits and times."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

from pbx_runtime.media_address import Barred
from pbx_signaling.calls.hunt import HuntPolicy


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
    """The call is over and written down; a phone, or the relay with its slot, has not said its last word yet."""
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
    branch_s: float = 20.0
    """Ringing of one phone while less preferred ones wait: five rings, and time to walk to the telephone."""
    hunt: HuntPolicy = field(default_factory=HuntPolicy)
    """How the phones of a callee are found."""
    cancel_s: float = 40.0
    """Waiting for the callee's last word on a CANCEL, or for a slot that is not wanted any more: above 64*T1, when the
    INVITE's transaction gives up. The net under everything that should have ended the attempt."""
    barred: Barred = field(default_factory=Barred, compare=False)
    """Addresses that session descriptions may not name."""
