"""What the processes of one address know of each other without asking: memory that they share. Pure, but for that.

Two tables of 8 octets an entry. Each entry is written by one process and in one piece, so nobody locks; what two write
at once is right for one of them. No call depends on the board: an entry that was overwritten, or whose process was
started anew, is as none, and what is done then is right, only dearer or less strict.

    branches   whose a transaction is that a phone began: the hash of the branch, and the process
    calls      how many calls an account has at each process: a row a process, the hash of the name, and the number
"""

from __future__ import annotations

import hashlib
from typing import Final

ENTRY: Final = 8
BRANCHES: Final = 1 << 16
"""Transactions that are remembered: half a minute of 2000 a second. The newer one takes the place of another."""
ROW: Final = 1 << 15
"""Places of a process for accounts and addresses with calls; a process has 20 000 calls at the most."""
PROBES: Final = 8
"""Places at which an account may stand. Where all are taken it is counted by its process alone."""
PROCESSES: Final = 64
OCTETS: Final = ENTRY * (BRANCHES + PROCESSES * ROW)
"""Of memory that is only taken where it is written or read: 768 KiB with one process, 256 more with each other one."""

_PLACE: Final = 0xFFFF
_MARK: Final = ~0xFFFF & (1 << 64) - 1


class Board:
    """As one process sees it."""

    def __init__(self, memory: memoryview, index: int, names: tuple[str, ...]) -> None:
        """`memory`: `OCTETS` that all share; `names`: the instances in their order, this one at `index`."""
        self._cells = memory.cast("Q")
        self._index = index
        self._names = names
        self._mine = BRANCHES + index * ROW
        self._rows = [BRANCHES + each * ROW for each in range(len(names)) if each != index]
        self._cells[self._mine : self._mine + ROW] = memoryview(bytes(ENTRY * ROW)).cast("Q")

    def owner(self, branch: bytes) -> str:
        """The process that began the transaction of a phone's branch; empty where none is known."""
        key = _hash(branch)
        entry = self._cells[key & _PLACE]
        number = (entry & _PLACE) - 1
        return self._names[number] if not (entry ^ key) & _MARK and 0 <= number < len(self._names) else ""

    def note(self, branch: bytes) -> None:
        """This process begins it."""
        key = _hash(branch)
        self._cells[key & _PLACE] = key & _MARK | self._index + 1

    def put(self, name: str, number: int) -> None:
        """This process has so many calls of that account or address now."""
        key = _hash(name.encode("utf-8", "surrogateescape"))
        cells, free = self._cells, -1
        for place in _places(key, self._mine):
            entry = cells[place]
            if not entry & _PLACE:
                free = place if free < 0 else free
            elif not (entry ^ key) & _MARK:
                free = place
                break
        if free >= 0:
            cells[free] = key & _MARK | min(number, _PLACE)

    def elsewhere(self, name: str) -> int:
        """How many the other processes have together."""
        key = _hash(name.encode("utf-8", "surrogateescape"))
        cells, total = self._cells, 0
        for row in self._rows:
            for place in _places(key, row):
                entry = cells[place]
                if entry and not (entry ^ key) & _MARK:
                    total += entry & _PLACE
                    break
        return total


def _places(key: int, row: int) -> list[int]:
    return [row + (key + probe) % ROW for probe in range(PROBES)]


def _hash(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
