"""What /proc says of a process: whether it lives, its CPU time, memory, descriptors, affinity. Linux only."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SWITCHES_FIELD = re.compile(rb"^voluntary_ctxt_switches:\s+(\d+)", re.MULTILINE)
_SMAPS_FIELD = re.compile(rb"^(Rss|Pss):\s+(\d+) kB", re.MULTILINE)
_GONE = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident and proportional memory in bytes."""

    rss: int
    pss: int


def _stat_fields(pid: int) -> list[bytes]:
    # The command stands in parentheses and may hold spaces: cut after the last one.
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return _stat_fields(pid)[0] != b"Z"
    except _GONE:
        return False


def descendants(root: int) -> set[int]:
    """The process itself and all that it started, as far as they still hang together."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(*_GONE):
                children.setdefault(int(_stat_fields(int(entry))[1]), []).append(int(entry))
    found: set[int] = set()
    todo = [root]
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo.extend(children.get(pid, ()))
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """utime + stime of all threads of the processes, in steps of a kernel tick (10 ms)."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(*_GONE):
            fields = _stat_fields(pid)
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_S


def memory(pids: Iterable[int]) -> Memory:
    """Memory of the processes together."""
    sums = {b"Rss": 0, b"Pss": 0}
    for pid in pids:
        with contextlib.suppress(*_GONE):
            for name, kib in _SMAPS_FIELD.findall(Path(f"/proc/{pid}/smaps_rollup").read_bytes()):
                sums[name] += int(kib) * 1024
    return Memory(rss=sums[b"Rss"], pss=sums[b"Pss"])


def voluntary_switches(pids: Iterable[int]) -> int:
    """How often threads of the processes that are there went to sleep: context switches that they asked for."""
    sleeps = 0
    for pid in pids:
        with contextlib.suppress(*_GONE):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(*_GONE):
                    sleeps += switches_in(Path(f"/proc/{pid}/task/{thread}/status").read_bytes())
    return sleeps


def switches_in(status: bytes) -> int:
    """Voluntary context switches, out of what /proc says of a thread. Raises ValueError where it does not say."""
    found = _SWITCHES_FIELD.search(status)
    if found is None:
        raise ValueError("no count of context switches in a thread's status")
    return int(found[1])


def descriptors(pid: int) -> int:
    """How many file descriptors the process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def pin(pids: Iterable[int], cpus: set[int]) -> None:
    """Set the CPU affinity of every thread of the processes."""
    for pid in pids:
        with contextlib.suppress(*_GONE):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(*_GONE):
                    os.sched_setaffinity(int(thread), cpus)


def tcp_listeners(pid: int) -> list[str]:
    """Where the process listens over TCP, as host:port; a wildcard is told as loopback."""
    sockets = set()
    with contextlib.suppress(*_GONE):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(*_GONE):
                sockets.add(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    found = []
    for table, loopback in (("tcp", "127.0.0.1"), ("tcp6", "[::1]")):
        with contextlib.suppress(*_GONE):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                    found.append(f"{loopback}:{int(fields[1].rpartition(':')[2], 16)}")
    return found
