"""Timer values of transactions (RFC 3261 table 4, RFC 6026). All in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timers:
    """T1, T2, T4 and what follows from them."""

    t1: float = 0.5
    """Round-trip time estimate."""
    t2: float = 4.0
    """Longest interval between repetitions of a non-INVITE request or an INVITE response."""
    t4: float = 5.0
    """Longest time that a message stays in the network."""
    d: float = 32.0
    """Timer D: how long repetitions of a final INVITE response are waited for; over 32 s on UDP."""

    @property
    def timeout(self) -> float:
        """64 * T1: timers B, F, H, J, L and M."""
        return 64 * self.t1
