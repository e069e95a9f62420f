"""The forwards in the kernel: who stands where in the maps, and the change of one under traffic.

A forward has two buffers. A change is written into the one that nobody reads, then its place names it: the program
sees the old value or the new one, never half of each.
"""

from __future__ import annotations

import ctypes
import struct
from collections import deque
from typing import Final

from pbx_media_relay.ebpf import abi
from pbx_media_relay.ebpf.maps import Maps

STREAM_SIZE: Final = ctypes.sizeof(abi.StreamC)
FORWARD_SIZE: Final = ctypes.sizeof(abi.ForwardC)
PLACE: Final = struct.Struct("=II")
LATCH_HEAD: Final = struct.Struct("=4I")
"""word, lock, epoch and aim of a struct latch: `word` counts what was learned."""
NEVER: Final = bytes(8)
assert abi.StreamC.heard_ns.offset == 0
FIRST_NS_AT: Final = abi.StreamC.first_ns.offset
LATCHES_AT: Final = tuple(abi.StreamC.latch.offset + index * ctypes.sizeof(abi.LatchC) for index in range(2))
Glance = tuple[bool, tuple[int, ...], tuple[int, ...]]
UNHEARD: Final[Glance] = (False, (), ())


class Installed:
    """One forward in the kernel."""

    __slots__ = ("index", "value", "version")

    def __init__(self, index: int, version: int, value: abi.ForwardC) -> None:
        self.index = index
        self.version = version
        self.value = value


class Table:
    """All forwards in the kernel."""

    def __init__(self, maps: Maps) -> None:
        self._maps = maps
        self._installed: dict[int, Installed] = {}
        if maps.is_taken_over:
            self._read()
        taken = {each.index for each in self._installed.values()}
        # First in, first out: an index that was given back rests for as long as there are others.
        self._free = deque(index for index in range(maps.forwards) if index not in taken)

    def __len__(self) -> int:
        return len(self._installed)

    def __repr__(self) -> str:
        return f"<Table {len(self)} of {self._maps.forwards}>"

    def ids(self) -> frozenset[int]:
        """The forwards that are installed."""
        return frozenset(self._installed)

    def get(self, forward: int) -> Installed | None:
        """What is installed under an id."""
        return self._installed.get(forward)

    def install(self, forward: int, value: abi.ForwardC) -> bool:
        """Put a value in place; False where there is no room for another forward."""
        each = self._installed.get(forward)
        if each is None:
            if not self._free:
                return False
            each = Installed(self._free.popleft(), 1, value)
            self.write_stream(each, bytes(STREAM_SIZE))
        else:
            each.version = (each.version + 1) & 0xFFFFFFFF
            each.value = value
        buffer = 2 * each.index + (each.version & 1)
        self._maps.update("forwards", buffer.to_bytes(4, "little"), bytes(value))
        self._maps.update("places", forward.to_bytes(4, "little"), PLACE.pack(each.version, each.index + 1))
        self._installed[forward] = each
        return True

    def remove(self, forward: int) -> abi.StreamC | None:
        """Take a forward out; what was counted of it."""
        each = self._installed.pop(forward, None)
        if each is None:
            return None
        self._maps.update("places", forward.to_bytes(4, "little"), bytes(8))
        self._free.append(each.index)
        return self.stream(each)

    def stream(self, each: Installed) -> abi.StreamC:
        """What the program wrote about a forward: a copy."""
        at = each.index * STREAM_SIZE
        return abi.StreamC.from_buffer_copy(self._maps.streams[at : at + STREAM_SIZE])

    def glance(self, each: Installed) -> Glance:
        """What changes when the program hears or latches a source, without the copy of all the rest."""
        at, streams = each.index * STREAM_SIZE, self._maps.streams
        if streams[at : at + 8] == NEVER:
            return UNHEARD
        first, second = (LATCH_HEAD.unpack_from(streams, at + latch) for latch in LATCHES_AT)
        return streams[at + FIRST_NS_AT : at + FIRST_NS_AT + 8] != NEVER, first, second

    def write_stream(self, each: Installed, data: bytes) -> None:
        """Replace it: only while the program does not touch the forward (not in place, or slow)."""
        at = each.index * STREAM_SIZE
        self._maps.streams[at : at + STREAM_SIZE] = data

    def _read(self) -> None:
        for forward in range(abi.PLACES):
            version, index = PLACE.unpack(self._maps.lookup("places", forward, 8))
            if index:
                buffer = 2 * (index - 1) + (version & 1)
                value = abi.ForwardC.from_buffer_copy(self._maps.lookup("forwards", buffer, FORWARD_SIZE))
                self._installed[forward] = Installed(index - 1, version, value)
