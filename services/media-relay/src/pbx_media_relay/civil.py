"""From the datapath's monotonic clock to civil time, for records."""

from __future__ import annotations

import time
from collections.abc import Callable


class CivilTime:
    """Turns CLOCK_MONOTONIC readings into milliseconds since the Unix epoch, by both clocks as they are
    now."""

    def __init__(
        self,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        epoch_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.monotonic_ns = monotonic_ns
        self._epoch_ns = epoch_ns

    def epoch_ms(self, at_ns: int) -> int:
        """The civil time of a monotonic reading."""
        return (self._epoch_ns() - self.monotonic_ns() + at_ns) // 1_000_000
