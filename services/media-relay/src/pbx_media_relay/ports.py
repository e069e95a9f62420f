"""Which slots of the shard are free, taken, resting or broken. Pure: no socket, time is an argument.

A slot is 8 consecutive ports, aligned to 8; its number is its first port divided by 8. The order of use is
random, so that ports cannot be guessed. A released slot rests until its ports were silent, since the last
call's phones may still send; one on which nothing was ever heard rests as well, but may be taken when nothing
else is left.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pbx_media_relay.forward import PORTS_PER_SLOT

SECOND_NS: Final = 1_000_000_000
SILENCE_NS: Final = 10 * SECOND_NS
"""A phone that missed the BYE repeats it for 32 s but stops sending within seconds; 10 s of silence is an
end."""
REST_MAX_NS: Final = 60 * SECOND_NS
"""A source that never stops must not take slots away for ever: strict sources keep it out of the next
call."""
BROKEN_RETRY_NS: Final = 60 * SECOND_NS
"""Whoever holds a port of a broken slot may have gone after this."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The ports that this relay owns: first and last, both included."""

    first: int
    last: int

    def __post_init__(self) -> None:
        """Refuse what is no range of unprivileged ports holding at least one slot."""
        if not 1024 <= self.first <= self.last <= 65535:
            raise ValueError(f"ports {self.first}-{self.last} are not a range within 1024-65535")
        if not self.slots():
            raise ValueError(f"ports {self.first}-{self.last} hold no slot of 8 ports aligned to 8")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "30000-39999". Raises ValueError."""
        first, dash, last = text.strip().partition("-")
        if not dash:
            raise ValueError(f"{text!r} is not FIRST-LAST")
        return cls(int(first), int(last))

    def slots(self) -> range:
        """Numbers of the whole slots inside."""
        return range(-(-self.first // PORTS_PER_SLOT), (self.last + 1) // PORTS_PER_SLOT)

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class SlotCounts:
    """How many slots are in which state."""

    total: int
    free: int
    quarantined: int
    broken: int
    taken: int


class SlotPool:
    """The slots of one shard. Every slot is in exactly one state."""

    def __init__(self, shard: Shard, rng: random.Random) -> None:
        self._rng = rng
        self.shard = shard
        self._free = list(shard.slots())
        self._taken: set[int] = set()
        self._resting: dict[int, int] = {}
        self._unheard: dict[int, int] = {}
        self._broken: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<SlotPool {self.shard} {self.counts}>"

    @property
    def counts(self) -> SlotCounts:
        """The states, counted. Taken slots of a former shard count as taken, not into the total."""
        quarantined = len(self._resting) + len(self._unheard)
        return SlotCounts(len(self.shard.slots()), len(self._free), quarantined, len(self._broken), len(self._taken))

    def take(self) -> int | None:
        """A random free slot, else the one that rests longest without ever being heard, else None."""
        if self._free:
            at = self._rng.randrange(len(self._free))
            self._free[at], self._free[-1] = self._free[-1], self._free[at]
            slot = self._free.pop()
        elif self._unheard:
            slot = next(iter(self._unheard))
            del self._unheard[slot]
        else:
            return None
        self._taken.add(slot)
        return slot

    def give_back(self, slot: int, heard: bool, now_ns: int) -> None:
        """A taken slot begins to rest; `heard` says whether anything ever came to its ports."""
        self._taken.remove(slot)
        (self._resting if heard else self._unheard)[slot] = now_ns

    def take_out(self, slot: int, now_ns: int) -> None:
        """A taken slot is broken: another process holds a port of it."""
        self._taken.remove(slot)
        self._broken[slot] = now_ns

    def settle(self, now_ns: int, last_heard_ns: Callable[[int], int]) -> list[int]:
        """End the rest of slots whose time has come and answer them: their ports are to be unbound."""
        rested = self._rested(self._resting, now_ns, last_heard_ns)
        rested += self._rested(self._unheard, now_ns, last_heard_ns)
        for slot in [slot for slot, since in self._broken.items() if now_ns - since >= BROKEN_RETRY_NS]:
            del self._broken[slot]
            self._make_free(slot)
        return rested

    def reshape(self, shard: Shard) -> None:
        """Own another shard from now on. Taken and resting slots outside of it vanish when they are
        through."""
        busy = self._taken | self._resting.keys() | self._unheard.keys()
        self.shard = shard
        self._broken = {slot: since for slot, since in self._broken.items() if slot in shard.slots()}
        self._free = [slot for slot in shard.slots() if slot not in busy and slot not in self._broken]

    def adopt(self, slot: int) -> bool:
        """Mark a given slot as taken, as after a restart. False where it is not free."""
        if slot not in self._free:
            return False
        self._free.remove(slot)
        self._taken.add(slot)
        return True

    def _rested(self, resting: dict[int, int], now_ns: int, last_heard_ns: Callable[[int], int]) -> list[int]:
        rested = []
        for slot, since in resting.items():
            if now_ns - since >= REST_MAX_NS or now_ns - max(since, last_heard_ns(slot)) >= SILENCE_NS:
                rested.append(slot)
        for slot in rested:
            del resting[slot]
            self._make_free(slot)
        return rested

    def _make_free(self, slot: int) -> None:
        if slot in self.shard.slots():
            self._free.append(slot)
