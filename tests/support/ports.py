"""Free ports on loopback, for servers that a test starts."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_SERVERS = (10_000, 20_000)
"""Below the kernel's ephemeral ports: no connection that is made meanwhile takes a port that was found free."""
_BLOCKS_FIRST = 20_000
_BLOCK_ATTEMPTS = 400
_given: set[int] = set()
_blocks: set[tuple[int, int]] = set()


def free_port(host: str = "127.0.0.1") -> int:
    """An even port that is free for UDP and TCP now, and so is the next one, which phones take for TLS.

    Parallel test processes choose from ranges of their own, and none is given twice in a process.
    """
    low, high = _share(_SERVERS)
    candidates = list(range(low, high, 2))
    random.shuffle(candidates)
    for port in candidates:
        if port not in _given and _is_free(host, port):
            _given.add(port)
            return port
    raise OSError(f"no port between {low} and {high} is free for both UDP and TCP")


def _share(ports: tuple[int, int]) -> tuple[int, int]:
    """The part of a range that belongs to this worker of pytest-xdist; all of it outside."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    index = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    size = (ports[1] - ports[0]) // workers // 2 * 2
    return ports[0] + index * size, ports[0] + (index + 1) * size


def free_block(size: int, *, align: int = 8, host: str = "127.0.0.1") -> tuple[int, int]:
    """First and last port of a block of free UDP ports outside the kernel's ephemeral range.

    `align` is what the first port is a multiple of. Every port of the block was bound once before it is
    returned. It is the caller's until `give_back_block`, though nothing may be bound in it for a while: a relay
    takes its ports call by call, and one that is killed and started again wants the same ones. Parallel test
    processes choose from ranges of their own.
    """
    low, high = _share((_BLOCKS_FIRST, int(_EPHEMERAL.read_text().split()[0])))
    for _ in range(_BLOCK_ATTEMPTS):
        first = random.randint(-(-low // align), (high - size) // align) * align
        block = (first, first + size - 1)
        if any(first <= other_last and other_first <= block[1] for other_first, other_last in _blocks):
            continue
        if all(_bindable(host, port, socket.SOCK_DGRAM) for port in range(first, first + size)):
            _blocks.add(block)
            return block
    raise OSError(f"no block of {size} free ports between {low} and {high}; held: {sorted(_blocks)}")


def give_back_block(block: tuple[int, int]) -> None:
    """Whoever had the block is gone; one that was not given, or was given back already, is passed over."""
    _blocks.discard(block)


_KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM)


def _is_free(host: str, port: int) -> bool:
    return all(_bindable(host, each, kind) for each in (port, port + 1) for kind in _KINDS)


def _bindable(host: str, port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind((host, port))
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
