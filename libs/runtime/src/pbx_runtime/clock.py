"""Time as a value that is handed in: the system's clock, and one that tests turn by hand."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Two readings: a monotonic one for durations, a civil one for records."""

    def now(self) -> float:
        """Monotonic seconds; comparable only within this process."""

    def epoch_ms(self) -> int:
        """Milliseconds since the Unix epoch."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """`time.monotonic()`."""
        return time.monotonic()

    def epoch_ms(self) -> int:
        """`time.time()` in milliseconds."""
        return time.time_ns() // 1_000_000


@dataclass(slots=True)
class ManualClock:
    """Stands still until told to go on."""

    monotonic: float = 1000.0
    epoch: int = 1_700_000_000_000

    def now(self) -> float:
        """The monotonic reading."""
        return self.monotonic

    def epoch_ms(self) -> int:
        """The civil reading."""
        return self.epoch

    def advance(self, seconds: float) -> None:
        """Turn both readings forward."""
        self.monotonic += seconds
        self.epoch += round(seconds * 1000)
