"""The program as a direct-action filter of the clsact qdisc: for kernels before 6.6, which have no tcx links.

A filter belongs to the interface, not to a process: it stays when the relay is killed, and attaching again replaces
its program in place.
"""

from __future__ import annotations

import contextlib
import errno
import struct
from typing import Final

from pbx_media_relay.ebpf.network import ask, attribute

NEWQDISC, NEWTFILTER, DELTFILTER = 36, 44, 45
ACK, CREATE, REPLACE, EXCL = 4, 0x400, 0x100, 0x200
MESSAGE: Final = struct.Struct("=BxxxiIII")
CLSACT_HANDLE: Final = 0xFFFF0000
CLSACT_PARENT: Final = 0xFFFFFFF1
INGRESS_PARENT: Final = 0xFFFFFFF2
ETH_P_ALL: Final = 0x0003
PRIORITY: Final = 0x5042
"""Nobody else's: "PB"."""
KIND, OPTIONS = 1, 2
BPF_FD, BPF_NAME, BPF_FLAGS = 6, 7, 8
DIRECT_ACTION: Final = 1


def attach(program: int, ifindex: int, handle: int) -> None:
    """Put the program on an interface's ingress, in place of the one with that handle. Raises OSError."""
    qdisc = MESSAGE.pack(0, ifindex, CLSACT_HANDLE, CLSACT_PARENT, 0) + attribute(KIND, b"clsact\0")
    with contextlib.suppress(FileExistsError):
        _do(NEWQDISC, CREATE | EXCL, qdisc)
    options = (
        attribute(BPF_FD, struct.pack("=I", program))
        + attribute(BPF_NAME, b"pbx_relay\0")
        + attribute(BPF_FLAGS, struct.pack("=I", DIRECT_ACTION))
    )
    body = _filter(ifindex, handle) + attribute(KIND, b"bpf\0") + attribute(OPTIONS, options)
    _do(NEWTFILTER, CREATE | REPLACE, body)


def detach(ifindex: int, handle: int) -> None:
    """Take the filter away; the qdisc stays, since others may use it."""
    try:
        _do(DELTFILTER, 0, _filter(ifindex, handle))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL, errno.ENODEV):
            raise


def _filter(ifindex: int, handle: int) -> bytes:
    info = PRIORITY << 16 | int.from_bytes(struct.pack("!H", ETH_P_ALL), "little")
    return MESSAGE.pack(0, ifindex, handle, INGRESS_PARENT, info)


def _do(kind: int, flags: int, body: bytes) -> None:
    for _ in ask(kind, ACK | flags, body):
        pass
