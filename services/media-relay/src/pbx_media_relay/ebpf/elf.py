"""What the loader takes out of the compiled object: the code, the places that name maps, the layout. Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MAGIC: Final = b"\x7fELF\x02\x01"
"""64 bit, little-endian."""
SYMBOLS, RELOCATIONS = 2, 9
SECTION: Final = struct.Struct("<IIQQQQIIQQ")
PSEUDO_MAP_FD: Final = 0x10
"""BPF_PSEUDO_MAP_FD in the source register's half of the second octet."""


class ObjectError(Exception):
    """The object is not one that this loader knows."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program, before it knows its maps."""

    code: bytes
    maps: tuple[tuple[int, str], ...]
    """Offset of an instruction, and the map that it names."""
    licence: str
    layout: tuple[int, ...]
    """The object's sizes and offsets, see relay.bpf.c."""

    def bound(self, maps: Mapping[str, int]) -> bytes:
        """The code with descriptors in place of map names."""
        code = bytearray(self.code)
        for offset, name in self.maps:
            code[offset + 1] = (code[offset + 1] & 0x0F) | PSEUDO_MAP_FD
            struct.pack_into("<i", code, offset + 4, maps[name])
        return bytes(code)


class _Sections:
    def __init__(self, data: bytes) -> None:
        if data[:6] != MAGIC:
            raise ObjectError("not a 64-bit little-endian ELF object")
        self.data = data
        (start,) = struct.unpack_from("<Q", data, 40)
        size, count, names = struct.unpack_from("<HHH", data, 58)
        self.heads = [SECTION.unpack_from(data, start + number * size) for number in range(count)]
        self._names = names

    def text(self, table: int, offset: int) -> str:
        at = self.heads[table][4] + offset
        return self.data[at : self.data.index(b"\0", at)].decode()

    def find(self, name: str) -> int:
        for number, head in enumerate(self.heads):
            if self.text(self._names, head[0]) == name:
                return number
        raise ObjectError(f"no section {name}")

    def body(self, number: int) -> bytes:
        head = self.heads[number]
        return self.data[head[4] : head[4] + head[5]]


def parse(data: bytes, section: str = "tc") -> Program:
    """The program of one section. Raises ObjectError."""
    try:
        sections = _Sections(data)
        number = sections.find(section)
        layout = sections.body(sections.find("abi.layout"))
        return Program(
            code=sections.body(number),
            maps=tuple(_map_uses(sections, number)),
            licence=sections.body(sections.find("license")).rstrip(b"\0").decode(),
            layout=struct.unpack(f"<{len(layout) // 4}I", layout),
        )
    except (struct.error, ValueError, IndexError) as error:
        raise ObjectError(f"cut or malformed: {error}") from error


def _map_uses(sections: _Sections, number: int) -> list[tuple[int, str]]:
    symbols = next(head for head in sections.heads if head[1] == SYMBOLS)
    uses = []
    for index, head in enumerate(sections.heads):
        if head[1] == RELOCATIONS and head[7] == number:
            for offset, info in struct.iter_unpack("<QQ", sections.body(index)):
                (name,) = struct.unpack_from("<I", sections.data, symbols[4] + (info >> 32) * 24)
                uses.append((offset, sections.text(symbols[6], name)))
    return uses
