"""When to try again (Standard Webhooks: ten steps, from seconds to a day), and what an answer means. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

STEPS_S: Final = (0, 5, 30, 120, 600, 1800, 7200, 18_000, 36_000, 86_400)
"""Seconds after the first, second, ... failure. After the tenth the event is dead: kept, and sent on request."""
RETRY_AFTER_MAX_S: Final = 86_400


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
    if status == 410:
        return Step(Next.GONE)
    if attempts + 1 >= len(STEPS_S):
        return Step(Next.DEAD)
    wait = STEPS_S[attempts + 1] * (0.8 + 0.4 * jitter)
    return Step(Next.AGAIN, max(wait, min(retry_after_s, RETRY_AFTER_MAX_S)))
