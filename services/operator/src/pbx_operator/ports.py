"""Blocks of ports on one node: which is free. Pure.

A relay's block is assigned once and kept for life; this module only ever chooses a new one. Blocks begin at a
multiple of 8 (a call's slot), lie inside the pool's range, and never overlap another block on the same node, of
whatever pool and size that one is. An operator that does not see the other block is stopped by the scheduler: each
pod declares a hostPort for every cell of GRID ports that its block touches, and blocks that overlap touch one cell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

PORTS_PER_SLOT: Final = 8
"""Leg A audio and video, leg B audio and video, RTP and RTCP each (DESIGN section 3)."""
CONTROL_PORTS: Final = 2
"""gRPC and HTTP: relays share the node's network, so each needs its own."""
GRID: Final = 32
"""Ports of a cell. Four calls: a block of 500 calls has 125 entries in its pod, where a port each would be 4000."""
PORT_MAX: Final = 65535


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """Ports `first` to `last`, both included."""

    first: int
    last: int

    def __post_init__(self) -> None:
        """Refuse what is no range of ports."""
        if not 1 <= self.first <= self.last <= PORT_MAX:
            raise ValueError(f"{self.first}-{self.last} is not a range of ports")

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def __len__(self) -> int:
        return self.last - self.first + 1

    def overlaps(self, other: Block) -> bool:
        """Whether a port is in both."""
        return self.first <= other.last and other.first <= self.last

    def contains(self, other: Block) -> bool:
        """Whether all of the other lies inside."""
        return self.first <= other.first and other.last <= self.last

    @classmethod
    def parse(cls, text: str) -> Block:
        """From "30000-30799". Raises ValueError."""
        first, dash, last = text.partition("-")
        if not dash:
            raise ValueError(f"{text!r} is not FIRST-LAST")
        return cls(int(first), int(last))


def align(port: int, step: int) -> int:
    """The first multiple of `step` that is not below `port`."""
    return -(-port // step) * step


def cells(block: Block) -> Block:
    """The whole cells that a block touches; no other block of the node may touch them."""
    return Block(max(1, block.first // GRID * GRID), min(PORT_MAX, align(block.last + 1, GRID) - 1))


def free_block(within: Block, size: int, step: int, taken: Iterable[Block], grid: int = 1) -> Block | None:
    """The lowest free block of `size` ports inside a range that begins at a multiple of `step`; None: full.

    Blocks lie one behind the other from the aligned beginning of the range; one that is taken, even in part, by a
    block of another size is stepped over. With a `grid` the blocks taken are given in whole cells (`cells`), and no
    cell is touched twice.
    """
    first = align(within.first, step)
    for block in sorted(block for block in taken if block.last >= within.first // grid * grid):
        last_touched = align(first + size, grid) - 1
        if last_touched < block.first:
            break
        first = max(first, align(block.last + 1, max(step, grid)))
    last = first + size - 1
    return Block(first, last) if last <= within.last else None


def capacity(within: Block, size: int, step: int, grid: int = 1) -> int:
    """How many blocks of `size` ports a whole range holds."""
    first = align(within.first, step)
    if first + size - 1 > within.last:
        return 0
    stride = align(size, max(step, grid))
    usable = within.last + 1 - size - align(first + size, max(step, grid))
    return 1 + (usable // stride + 1 if usable >= 0 else 0)


def markers(block: Block) -> tuple[int, ...]:
    """The ports that a block's pod declares as hostPorts: the first of each cell that the block touches."""
    touched = cells(block)
    return tuple(range(touched.first, touched.last + 1, GRID))
