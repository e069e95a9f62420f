"""Blocks of ports on one node: which is free. Pure.

A relay's block is assigned once and kept for life; this module only ever chooses a new one. Blocks begin at a
multiple of 8 (a call's slot), lie inside the pool's range, and never overlap another block on the same node, of
whatever pool and size that one is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

PORTS_PER_SLOT: Final = 8
"""Leg A audio and video, leg B audio and video, RTP and RTCP each (DESIGN section 3)."""
CONTROL_PORTS: Final = 2
"""gRPC and HTTP: relays share the node's network, so each needs its own."""
MARKER_STEP: Final = 256
"""A hostPort is declared for the first port of a block and for each multiple of this inside: enough for the
scheduler to refuse a clash of blocks on one grid, without thousands of entries in a pod."""
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


def free_block(within: Block, size: int, step: int, taken: Iterable[Block]) -> Block | None:
    """The lowest free block of `size` ports inside a range that begins at a multiple of `step`; None: full.

    Blocks lie one behind the other from the aligned beginning of the range; one that is taken, even in part, by a
    block of another size is stepped over.
    """
    busy = sorted(block for block in taken if block.overlaps(within))
    first = align(within.first, step)
    for block in busy:
        if first + size - 1 < block.first:
            break
        first = max(first, align(block.last + 1, step))
    last = first + size - 1
    return Block(first, last) if last <= within.last else None


def capacity(within: Block, size: int, step: int) -> int:
    """How many blocks of `size` ports a whole range holds."""
    usable = within.last - align(within.first, step) + 1
    return max(0, usable // align(size, step))


def markers(block: Block) -> tuple[int, ...]:
    """The ports of a block that its pod declares as hostPorts."""
    multiples = range(align(block.first, MARKER_STEP), block.last + 1, MARKER_STEP)
    return tuple(sorted({block.first, *multiples}))
