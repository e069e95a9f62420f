"""How failures of authentication slow down who makes them. Pure: counts in, waiting times out.

Failures are counted in three drawers, each with a window: the pair of source and account (a phone with a wrong
password), the source (guessing over many accounts) and the account (guessing from many sources). Beyond the free ones
of a drawer each failure doubles the wait that a wrong answer is told. A right one never waits: else whoever can make
failures locks phones out. Only who has a nonce that was sent to its own address gets here (`authenticate`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Drawer:
    """One counter of failures."""

    free: int
    """Failures in a window that cost nothing."""
    window_ms: int
    first_ms: int
    """The wait after the first failure too many; doubles with each further one."""
    most_ms: int

    def wait_ms(self, failures: int) -> int:
        """The wait after so many failures in the window."""
        beyond = failures - self.free
        return min(self.first_ms << min(beyond - 1, 20), self.most_ms) if beyond > 0 else 0


MINUTE_MS: Final = 60_000
PAIR: Final = Drawer(free=5, window_ms=15 * MINUTE_MS, first_ms=2_000, most_ms=10 * MINUTE_MS)
"""Five typing errors are human; after them a phone that tries every few seconds is held to one try in ten minutes."""
SOURCE: Final = Drawer(free=30, window_ms=10 * MINUTE_MS, first_ms=5_000, most_ms=10 * MINUTE_MS)
"""Behind one address may be an office of phones; 30 failures of it are still no search through a list of numbers."""
ACCOUNT: Final = Drawer(free=20, window_ms=10 * MINUTE_MS, first_ms=5_000, most_ms=10 * MINUTE_MS)
DRAWERS: Final = (PAIR, SOURCE, ACCOUNT)
REPORT_MS: Final = 10_000
"""Failures of a source are told at most once in this time."""
SOURCES_MAX: Final = 10_000
"""Sources counted apart for reports; those beyond are told together, without a name. Threat: forged sources."""
