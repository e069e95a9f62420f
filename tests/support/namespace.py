"""A network namespace of the calling thread's own, with nothing in it but loopback; needs root."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
OWN = Path("/proc/thread-self/ns/net")
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """Entered when made, left by `leave`. Sockets made inside stay inside."""

    def __init__(self) -> None:
        self._home = os.open(OWN, os.O_RDONLY)
        if _libc.unshare(CLONE_NEWNET):
            os.close(self._home)
            raise PermissionError(ctypes.get_errno(), "CAP_SYS_ADMIN is needed to make a network namespace")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))

    def leave(self) -> None:
        """Back to where this thread came from; the namespace ends with its last socket."""
        if self._home >= 0:
            assert not _libc.setns(self._home, CLONE_NEWNET), os.strerror(ctypes.get_errno())
            os.close(self._home)
            self._home = -1
