"""A response that is sent again and again until the peer confirms it: when next, and when to give up.

The 2xx to an INVITE until its ACK (RFC 3261 section 13.3.1.4: T1, doubled up to T2), a reliable provisional response
until its PRACK (RFC 3262 section 3: T1, doubled without bound); both over any transport, both for 64*T1.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from math import inf
from typing import Self

from pbx_sip.transaction.timers import Timers


class Due(enum.IntEnum):
    """What is due."""

    NOTHING = 0
    SEND = 1
    """Send the response once more."""
    GIVE_UP = 2
    """It was never confirmed."""


@dataclass(slots=True)
class Repetition:
    """The times of one such response. All in seconds of the caller's clock."""

    at: float
    """When `expire` is due."""
    interval_s: float
    longest_s: float
    gives_up: float

    @classmethod
    def of_answer(cls, now: float, timers: Timers) -> Self:
        """For a 2xx that is being sent for the first time."""
        return cls(now + timers.t1, timers.t1, timers.t2, now + timers.timeout)

    @classmethod
    def of_progress(cls, now: float, timers: Timers) -> Self:
        """For a reliable provisional response that is being sent for the first time."""
        return cls(now + timers.t1, timers.t1, inf, now + timers.timeout)

    def expire(self, now: float) -> Due:
        """What to do at `now`; moves `at` on. After GIVE_UP there is nothing more to ask."""
        if now < self.at:
            return Due.NOTHING
        if now >= self.gives_up:
            return Due.GIVE_UP
        self.interval_s = min(2 * self.interval_s, self.longest_s)
        self.at = min(now + self.interval_s, self.gives_up)
        return Due.SEND
