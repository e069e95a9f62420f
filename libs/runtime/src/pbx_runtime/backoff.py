"""Exponential back-off with jitter, as a value: no clock, no sleeping."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Delays that grow: `next()` after each failure, `reset()` after a success."""

    first_s: float = 0.1
    most_s: float = 5.0
    factor: float = 2.0
    jitter: float = 0.2
    """Share of the delay that is random, so that peers do not return in step."""
    uniform: Callable[[float, float], float] = random.uniform  # noqa: S311 -- spreads load, protects nothing
    failures: int = field(default=0, init=False)

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        # The exponent is capped: a peer away for days must not overflow a float.
        delay = min(self.first_s * self.factor ** min(self.failures, 64), self.most_s)
        self.failures += 1
        return delay * self.uniform(1 - self.jitter, 1 + self.jitter)

    def reset(self) -> None:
        """It worked: start again from the first delay."""
        self.failures = 0
