"""Timer values of transactions (RFC 3261 table 4, RFC 6026 section 8). All in seconds.

Zero-length timers of reliable transports are not told here: a machine looks at its flow's transport.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Timers:
    """T1, T2, T4 and what follows from them; named after the table's letters."""

    t1: float = 0.5
    """Round-trip time estimate; timers A, E and G begin with it."""
    t2: float = 4.0
    """Longest interval between repetitions of a non-INVITE request (E) or an INVITE response (G)."""
    t4: float = 5.0
    """Longest time that a message stays in the network; timers I and K."""
    d: float = 32.0
    """How long repetitions of a final INVITE response are waited for: "at least 32 seconds for
    unreliable"."""

    c: float = 600.0
    """How long an INVITE may ring without a further provisional response before it is cancelled. A net, not a policy:
    section 16.6 has proxies wait more than three minutes, and a user agent has its own patience."""

    @property
    def timeout(self) -> float:
        """64 * T1: timers B, F, H, J, L and M, and how long a cancelled INVITE is waited for (section
        9.1)."""
        return 64 * self.t1


DEFAULT: Final = Timers()
"""The values of the RFC."""
