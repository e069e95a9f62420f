"""A program for the kernel that gives a SIP datagram to the process that it belongs to. Pure: names in, octets out.

Several processes share a UDP port; the kernel picks one by the source of a datagram. What names an instance is that
instance's, whoever the kernel would pick: a response by the branch in its topmost Via, a request in a dialog by the
user of its Request-URI, which is our Contact. This program looks for that name and answers the number of the process's
socket; where it finds none, the kernel picks as before.

It is classic BPF, as of tcpdump: any user may attach it (`SO_ATTACH_REUSEPORT_CBPF`, socket(7)), it has no loops and no
memory, and reads 4 octets at a time. So names are `family` and two figures, and the search is written out in steps of
4 octets for the 7 octets `4bK` + `family`, of which each step sees one of four parts. Its answer is a saving and no
promise: proxies, retransmissions from elsewhere and other kernels make messages come to the wrong process all the same,
and that one hands them over.
"""

from __future__ import annotations

import struct
from typing import Final

FAMILY_LENGTH: Final = 4
REPLICAS_MAX: Final = 64
SHORTEST: Final = 64
"""Octets below which a datagram is no SIP message with a name of ours in it."""
RESPONSE_FROM: Final = 24
"""Behind "SIP/2.0 200 OK", "Via: " and the protocol's first letters."""
RESPONSE_TO: Final = 312
"""How far the branch is looked for: a status line, a long address and what phones put before the branch."""
REQUEST_AT: Final = (8, 9, 10, 11, 12, 14)
"""Where the user of "sip:user@host" stands behind methods of 3, 4, 5, 6, 7 and 9 letters."""

_LD_W, _LD_W_X, _LD_B_X, _LD_LEN = 0x20, 0x40, 0x50, 0x80
_LDX, _LDX_M, _ST, _TAX, _TXA = 0x01, 0x61, 0x02, 0x07, 0x87
_SUB, _MUL, _ADD, _ADD_X = 0x14, 0x24, 0x04, 0x0C
_JA, _JEQ, _JGE, _RET, _RET_A = 0x05, 0x15, 0x35, 0x06, 0x16
_NOBODY: Final = 0xFFFF_FFFF
_STEPS: Final = 36
"""Steps between two sets of jumps: those of classic BPF reach 255 instructions."""

Line = tuple[int, int, int, int]
"""Operation, jump where true, jump where false, operand."""


def names(family: str, replicas: int) -> tuple[str, ...]:
    """The instance ids of a family in the order of their sockets. Raises ValueError where the program could not read
    them."""
    if len(family) != FAMILY_LENGTH or not family.isascii() or not family.isalnum() or not family.islower():
        raise ValueError(f"{family!r} is not {FAMILY_LENGTH} lower-case letters and figures")
    if not 1 <= replicas <= REPLICAS_MAX:
        raise ValueError(f"{replicas} is not between 1 and {REPLICAS_MAX}")
    return tuple(f"{family}{number:02d}" for number in range(replicas))


def program(family: str, replicas: int) -> bytes:
    """The instructions, as `struct sock_filter` of linux/filter.h has them. Raises ValueError as `names` does."""
    names(family, replicas)
    name = _word(family.encode())
    found = _found(replicas)
    requests = _requests(name)
    responses = _responses(b"4bK" + family.encode())
    lines: list[Line] = [
        (_LD_LEN, 0, 0, 0),
        (_JGE, 1, 0, SHORTEST),
        (_RET, 0, 0, _NOBODY),
        (_LD_W, 0, 0, 0),
        (_JEQ, 0, 1, _word(b"SIP/")),
        (_JA, 0, 0, len(requests)),
        *requests,
        *responses,
    ]
    end = len(lines)
    for index, line in enumerate(lines):
        if line == _TO_FOUND:
            lines[index] = (_JA, 0, 0, end - index - 1)
    return b"".join(struct.pack("=HBBI", *line) for line in (*lines, *found))


_TO_FOUND: Final[Line] = (_JA, 0, 0, _NOBODY)
"""Stands for a jump to what reads the number, until it is known how far that is."""


def _requests(name: int) -> list[Line]:
    """Compares at each place where the user of a Request-URI can begin."""
    lines: list[Line] = []
    for at in REQUEST_AT:
        lines += [(_LD_W, 0, 0, at), (_JEQ, 0, 2, name), (_LDX, 0, 0, at), _TO_FOUND]
    return [*lines, (_RET, 0, 0, _NOBODY)]


def _responses(pattern: bytes) -> list[Line]:
    """Looks for the pattern of 7 octets in steps of 4; with its family the register X ends at, the number behind."""
    words = [_word(pattern[shift : shift + 4]) for shift in range(4)]
    places = range(RESPONSE_FROM, RESPONSE_TO, 4)
    lines: list[Line] = []
    for first in range(0, len(places), _STEPS):
        group = places[first : first + _STEPS]
        size = 6 * len(group)
        for step, at in enumerate(group):
            left = size - 6 * step - 6  # instructions of the group behind this step
            lines += [(_LDX, 0, 0, at), (_LD_W_X, 0, 0, 0)]
            # Behind the group: a jump over the handlers, then those of shifts 0 to 3, four instructions each.
            lines += [(_JEQ, left + (3 - shift) + 1 + 4 * shift, 0, words[shift]) for shift in range(4)]
        lines.append((_JA, 0, 0, 16))
        for shift in range(4):
            lines += [(_TXA, 0, 0, 0), (_ADD, 0, 0, 3 - shift), (_TAX, 0, 0, 0), _TO_FOUND]
    return [*lines, (_RET, 0, 0, _NOBODY)]


def _found(replicas: int) -> list[Line]:
    """X is where the family stands: reads the two figures behind it."""
    return [
        (_LD_B_X, 0, 0, FAMILY_LENGTH),
        (_SUB, 0, 0, ord("0")),
        (_MUL, 0, 0, 10),
        (_ST, 0, 0, 0),
        (_LD_B_X, 0, 0, FAMILY_LENGTH + 1),
        (_SUB, 0, 0, ord("0")),
        (_LDX_M, 0, 0, 0),
        (_ADD_X, 0, 0, 0),
        (_JGE, 0, 1, replicas),
        (_RET, 0, 0, _NOBODY),
        (_RET_A, 0, 0, 0),
    ]


def _word(octets: bytes) -> int:
    return int.from_bytes(octets, "big")
