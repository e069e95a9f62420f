"""bpf(2) through ctypes: no libbpf, no compiler, no extension module. Only the commands that the relay needs.

Every function raises OSError with the kernel's errno. Descriptors are the caller's to close.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final

NUMBERS: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
"""bpf(2) by machine (asm/unistd.h)."""
MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT, PROG_LOAD, OBJ_PIN, OBJ_GET = range(8)
PROG_TEST_RUN, OBJ_INFO, LINK_CREATE, LINK_UPDATE = 10, 15, 28, 29
HASH, ARRAY = 1, 2
MMAPABLE: Final = 1 << 10
SCHED_CLS: Final = 3
TCX_INGRESS: Final = 46
LOG_SIZE: Final = 1 << 20
LOG_TAIL: Final = 600
"""Characters of the verifier's log that are told: its last words name the reason."""
_libc = ctypes.CDLL(None, use_errno=True)


def is_known_machine() -> bool:
    """Whether this processor's number of bpf(2) is known."""
    return platform.machine() in NUMBERS


def bpf(command: int, attributes: bytes) -> tuple[int, bytes]:
    """One call; answers its result and the attributes as the kernel left them."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = _libc.syscall(NUMBERS[platform.machine()], command, buffer, len(attributes))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"bpf({command}): {os.strerror(code)}")
    return result, buffer.raw


def _address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


def map_create(kind: int, key_size: int, value_size: int, entries: int, flags: int, name: str) -> int:
    """A new map's descriptor."""
    return bpf(
        MAP_CREATE,
        struct.pack("=IIIIIII16s", kind, key_size, value_size, entries, flags, 0, 0, name.encode()[:15]),
    )[0]


def map_lookup(fd: int, key: bytes, value_size: int) -> bytes | None:
    """The value, or None where there is none."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    value = ctypes.create_string_buffer(value_size)
    try:
        bpf(MAP_LOOKUP, struct.pack("=IIQQQ", fd, 0, _address(key_buffer), _address(value), 0))
    except FileNotFoundError:
        return None
    return value.raw


def map_update(fd: int, key: bytes, value: bytes) -> None:
    """Write one entry."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    value_buffer = ctypes.create_string_buffer(value, len(value))
    bpf(MAP_UPDATE, struct.pack("=IIQQQ", fd, 0, _address(key_buffer), _address(value_buffer), 0))


def map_delete(fd: int, key: bytes) -> None:
    """Delete one entry; nothing happens where there is none."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    try:
        bpf(MAP_DELETE, struct.pack("=IIQQQ", fd, 0, _address(key_buffer), 0, 0))
    except FileNotFoundError:
        return


def map_keys(fd: int, key_size: int, limit: int) -> list[bytes]:
    """The keys, at most `limit`."""
    keys: list[bytes] = []
    following = ctypes.create_string_buffer(key_size)
    while len(keys) < limit:
        known = ctypes.create_string_buffer(keys[-1], key_size) if keys else None
        try:
            bpf(MAP_NEXT, struct.pack("=IIQQQ", fd, 0, _address(known) if known else 0, _address(following), 0))
        except FileNotFoundError:
            break
        keys.append(following.raw)
    return keys


def program_load(code: bytes, licence: str, name: str) -> int:
    """A classifier's descriptor. The error's text ends with the verifier's last words."""
    instructions = ctypes.create_string_buffer(code, len(code))
    licence_buffer = ctypes.create_string_buffer(licence.encode())
    log = ctypes.create_string_buffer(LOG_SIZE)

    def attributes(level: int) -> bytes:
        return struct.pack(
            "=IIQQIIQII16s",
            SCHED_CLS,
            len(code) // 8,
            _address(instructions),
            _address(licence_buffer),
            level,
            LOG_SIZE if level else 0,
            _address(log) if level else 0,
            0,
            0,
            name.encode()[:15],
        )

    try:
        return bpf(PROG_LOAD, attributes(0))[0]
    except OSError as refused:
        try:
            return bpf(PROG_LOAD, attributes(1))[0]
        except OSError:
            words = log.value.decode(errors="replace")[-LOG_TAIL:].strip()
            raise OSError(refused.errno, f"{refused.strerror} {words}".strip()) from refused


def link_create(program: int, ifindex: int, attach_type: int = TCX_INGRESS) -> int:
    """Attach a program to an interface; the link's descriptor."""
    return bpf(LINK_CREATE, struct.pack("=IIIIIIQ", program, ifindex, attach_type, 0, 0, 0, 0))[0]


def link_update(link: int, program: int) -> None:
    """Replace a link's program: one packet sees the old one, the next the new one."""
    bpf(LINK_UPDATE, struct.pack("=IIIIQQ", link, program, 0, 0, 0, 0))


def link_interface(link: int) -> int:
    """The interface of a tcx link; 0: gone."""
    info = ctypes.create_string_buffer(64)
    bpf(OBJ_INFO, struct.pack("=IIQ", link, len(info), _address(info)))
    return int(struct.unpack_from("=I", info.raw, 16)[0])


def pin(fd: int, path: str) -> None:
    """Keep an object beyond this process."""
    name = ctypes.create_string_buffer(path.encode())
    bpf(OBJ_PIN, struct.pack("=QII", _address(name), fd, 0))


def pinned(path: str) -> int:
    """A descriptor of a pinned object."""
    name = ctypes.create_string_buffer(path.encode())
    return bpf(OBJ_GET, struct.pack("=QII", _address(name), 0, 0))[0]


def run_once(program: int, packet: bytes, room: int = 256) -> tuple[int, bytes]:
    """Run a classifier on one frame: its verdict and the frame as it left it."""
    data = ctypes.create_string_buffer(packet, len(packet))
    out = ctypes.create_string_buffer(len(packet) + room)
    attributes = struct.pack(
        "=IIIIQQIIIIQQIIII",
        program,
        0,
        len(packet),
        len(out),
        _address(data),
        _address(out),
        1,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    )
    _, left = bpf(PROG_TEST_RUN, attributes)
    verdict, _, size = struct.unpack_from("=iII", left, 4)
    return verdict, out.raw[:size]
