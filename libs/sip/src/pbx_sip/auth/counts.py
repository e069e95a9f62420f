"""Which counts of which nonces were used: each is good once (RFC 7616 section 3.4, nc). Pure; time is an argument.

Kept by whoever minted the nonces, for those that a right response came with; so nobody without a password fills it.
Counts may come out of order, as a phone's requests over two transports do; one that is further behind than the window
counts as used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

WINDOW: Final = 1_024
"""Counts behind the highest that are told apart. Threat: a phone with a password that counts to 2^32 to fill memory."""
NONCES_MAX: Final = 100_000
"""Nonces remembered, about 300 octets each. Threat: calls with a new nonce each; a busy instance has 2500 a second for
300 s, and what does not fit is asked of Redis."""


@dataclass(slots=True)
class _Used:
    until: float
    highest: int = 0
    behind: int = 0
    """Bit n: the count `highest - n` was used."""


@dataclass(slots=True)
class NonceCounts:
    """The counts used of nonces that are good still."""

    lifetime_s: float
    """How long a nonce is remembered after it was seen first: not shorter than it is good."""
    nonces_max: int = NONCES_MAX
    _used: dict[str, _Used] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._used)

    def use(self, nonce: str, count: int, now: float) -> bool | None:
        """Uses a count up; False where it was used before, None where this table has no room for its nonce.

        Without qop a nonce has no count, and is good once (RFC 2069): its count is 0.
        """
        used = self._used.get(nonce)
        if used is None:
            self._forget(now)
            if len(self._used) >= self.nonces_max:
                return None
            used = self._used[nonce] = _Used(now + self.lifetime_s)
        ahead = count - used.highest
        if ahead > 0:
            used.behind = (used.behind << min(ahead, WINDOW) | 1) & ((1 << WINDOW) - 1)
            used.highest = count
            return True
        bit = 1 << -ahead
        if -ahead >= WINDOW or used.behind & bit:
            return False
        used.behind |= bit
        return True

    def _forget(self, now: float) -> None:
        # A dict keeps the order of insertion, which is that of their ends.
        while self._used:
            first = next(iter(self._used))
            if self._used[first].until > now:
                return
            del self._used[first]
