"""How many requests somebody may make: a bucket of tokens for each who asks, refilled at a steady rate."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

RATE_DEFAULT: Final = 200
"""Requests per second: about what one core answers, so that one client's loop leaves others their share."""
BURST_S: Final = 2.0
"""Seconds of the rate that may come at once: a page of a browser, a script that starts."""
ASKERS_MAX: Final = 10_000
"""Buckets that are kept. Threat: requests without a token from many addresses; the oldest bucket makes room."""


@dataclass(frozen=True, slots=True)
class Left:
    """What is left to somebody."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: int
    """Until the bucket is full."""
    wait_s: int = 0
    """Until the next request is allowed."""

    def headers(self) -> dict[str, str]:
        """As draft-ietf-httpapi-ratelimit-headers-07 has them in common use."""
        return {
            "ratelimit-limit": str(self.limit),
            "ratelimit-remaining": str(self.remaining),
            "ratelimit-reset": str(self.reset_s),
        }

    def sentence(self, name: str) -> str:
        """For the error."""
        return f"{name or 'this address'} may make {self.limit} requests at once; wait {self.wait_s} s"


class Limits:
    """The buckets."""

    def __init__(self, rate: float = RATE_DEFAULT, now: Callable[[], float] = time.monotonic) -> None:
        """Rate 0: no limit."""
        self._rate = rate
        self._now = now
        self._most = max(rate * BURST_S, 1.0)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> Left:
        """One request of somebody."""
        if not self._rate:
            return Left(True, 0, 0, 0)
        now = self._now()
        filled, at = self._buckets.pop(name, (self._most, now))
        filled = min(self._most, filled + (now - at) * self._rate)
        allowed = filled >= 1
        filled -= allowed
        self._buckets[name] = (filled, now)
        if len(self._buckets) > ASKERS_MAX:
            self._buckets.popitem(last=False)
        reset_s = math.ceil((self._most - filled) / self._rate)
        wait_s = 0 if allowed else math.ceil((1 - filled) / self._rate)
        return Left(allowed, int(self._most), int(filled), reset_s, wait_s)
