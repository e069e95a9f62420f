"""When to try again (Standard Webhooks: ten steps, from seconds to a day), and what an answer means. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

STEPS_S: Final = (0, 5, 30, 120, 600, 1800, 7200, 18_000, 36_000, 86_400)
"""Seconds after the first, second, ... failure. After the tenth the event is dead: kept, and sent on request."""
RETRY_AFTER_MAX_S: Final = 86_400
GONE_STATUS: Final = 410
"""The endpoint wants nothing more (Standard Webhooks): it is disabled."""


class Next(enum.Enum):
    """What becomes of a delivery."""

    DONE = "delivered"
    AGAIN = "pending"
    DEAD = "dead"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Step:
    """The decision."""

    next: Next
    after_s: float = 0.0


def decide(status: int, attempts: int, retry_after_s: int, jitter: float) -> Step:
    """After an attempt: `status` 0 for no answer; `attempts` made before it; `jitter` in [0, 1)."""
    if 200 <= status < 300:
        return Step(Next.DONE)
    if status == GONE_STATUS:
        return Step(Next.GONE)
    if attempts + 1 >= len(STEPS_S):
        return Step(Next.DEAD)
    wait = STEPS_S[attempts + 1] * (0.8 + 0.4 * jitter)
    return Step(Next.AGAIN, max(wait, min(retry_after_s, RETRY_AFTER_MAX_S)))


BREAK_AFTER: Final = 5
"""Failures in a row after which an endpoint counts as down."""
BREAK_FIRST_S: Final = 1.0
BREAK_MAX_S: Final = 60.0
"""The longest pause: an endpoint that is back waits no longer than this for its backlog."""


class Breaker:
    """Spares an endpoint that is down, and this process the attempts: one probe after each pause."""

    def __init__(self) -> None:
        self._failures = 0
        self._closed_at = 0.0

    def allowance(self, now: float, most: int) -> int:
        """How many deliveries may be tried now: `most`, one as a probe, or none."""
        if self._failures < BREAK_AFTER:
            return most
        return 1 if now >= self._closed_at else 0

    def pause_s(self, now: float) -> float:
        """Until the next probe; 0 where the endpoint does not count as down."""
        return max(self._closed_at - now, 0.0) if self._failures >= BREAK_AFTER else 0.0

    def failed(self, now: float) -> None:
        """An attempt failed."""
        self._failures += 1
        doubled = min(self._failures - BREAK_AFTER, 16)
        if doubled >= 0:
            self._closed_at = now + min(BREAK_FIRST_S * 2**doubled, BREAK_MAX_S)

    def succeeded(self) -> bool:
        """An attempt succeeded. Returns whether the endpoint had counted as down."""
        was_down = self._failures >= BREAK_AFTER
        self._failures = 0
        return was_down
