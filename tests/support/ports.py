"""Free ports on loopback, for servers that a test starts."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_RANGE_LOWEST = 10_000
_RANGE_ATTEMPTS = 200
_DEFAULT_RELAY_PORTS = range(30_000, 40_000)
"""`sip-pbx up` relays on these unless told otherwise, and refuses any other listener among them."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free for UDP and TCP now, and none of the relay's by default.

    Another process may still take it first.
    """
    for _ in range(100):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
            tcp.bind((host, 0))
            port = int(tcp.getsockname()[1])
            if port in _DEFAULT_RELAY_PORTS:
                continue
            with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.bind((host, port))
                return port
    raise OSError("no port is free for both UDP and TCP")


def free_block(size: int, *, align: int = 8, host: str = "127.0.0.1") -> tuple[int, int]:
    """First and last port of a block of free UDP ports outside the kernel's ephemeral range.

    `align` is what the first port is a multiple of. The choice is random, so that parallel test processes
    seldom meet; every port of the block was bound once before it is returned.
    """
    highest = int(_EPHEMERAL.read_text().split()[0]) - size
    for _ in range(_RANGE_ATTEMPTS):
        first = random.randrange(_RANGE_LOWEST, highest) // align * align
        if all(_bindable(host, port) for port in range(first, first + size)):
            return first, first + size - 1
    raise OSError(f"no block of {size} free ports between {_RANGE_LOWEST} and {highest}")


def _bindable(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        try:
            udp.bind((host, port))
        except OSError:
            return False
    return True


def udp_is_bound(port: int) -> bool:
    """Whether some process of this network namespace has a UDP socket on the port."""
    return _is_open(port, "udp")


def tcp_listens(port: int) -> bool:
    """Whether some process of this network namespace takes TCP connections on the port."""
    return _is_open(port, "tcp", "0A")


def _is_open(port: int, protocol: str, state: str = "") -> bool:
    wanted = f":{port:04X}"
    tables = (Path(f"/proc/net/{name}").read_text() for name in (protocol, f"{protocol}6"))
    lines = [line.split() for table in tables for line in table.splitlines()]
    return any(line[1].endswith(wanted) and state in ("", line[3]) for line in lines)
