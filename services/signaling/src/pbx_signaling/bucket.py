"""A token bucket: how many now, how many per second. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """A token bucket on an external clock."""

    tokens: float
    at: float
    refused: int = 0
    """In a row."""

    def take(self, rate: float, burst: float, now: float) -> bool:
        """Whether there is a token at `now`; takes it."""
        self.tokens = min(burst, self.tokens + (now - self.at) * rate)
        self.at = now
        if self.tokens < 1.0:
            self.refused += 1
            return False
        self.tokens -= 1.0
        self.refused = 0
        return True
