"""The relays under load, one at a time: each a process in the relay's namespace with its calls installed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from load.media import rtpengine
from load.media.topology import RELAY, RELAY_CORE, forwarded_lines, leg_lines
from load.relay_bench import rss_kib

CLONE_NEWNET = 0x40000000
PRIORITY = ["chrt", "-f", "10", "taskset", "-c", str(RELAY_CORE)]
"""The same for every relay: real time, on one core. `native` asks for it itself, rtpengine has an option for it."""


@dataclass(frozen=True, slots=True)
class Running:
    """A relay with its calls installed."""

    lines: list[str]
    """Of the load generator's file."""
    pid: int = 0
    setup_us: float | None = None
    """Per call."""
    kib_per_call: float | None = None
    """Resident memory of the process, kernel memory not counted."""


class Missing(Exception):
    """The relay is not installed or not possible here; the text says why."""


@contextmanager
def forward(count: int) -> Iterator[Running]:
    """No relay: the kernel routes between the two ends."""
    yield Running(forwarded_lines(count))


def ours(name: str) -> Callable[[int], AbstractContextManager[Running]]:
    """One of our datapaths."""

    @contextmanager
    def running(count: int) -> Iterator[Running]:
        module = [sys.executable, "-m", "load.media.target", name, str(count), str(RELAY_CORE)]
        prefix = PRIORITY if name == "python" else []
        process = _start([*prefix, *module], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            told = next((line for line in process.stdout if line.startswith(b"{")), b"")  # log lines come before
            if not told:
                raise Missing(f"{name} does not start here")
            said = json.loads(told)
            yield Running(leg_lines(said["ports"]), process.pid, said["setup_us"], said["kib_per_call"])
        finally:
            assert process.stdin is not None
            process.stdin.close()
            _end(process)

    return running


@contextmanager
def rtpengine_user_space(count: int) -> Iterator[Running]:
    """rtpengine without its kernel module."""
    if not shutil.which("rtpengine"):
        raise Missing("rtpengine is not installed (Debian package rtpengine-daemon)")
    with tempfile.TemporaryFile() as log:
        process = _start([*PRIORITY, *rtpengine.command_line()], stdout=log, stderr=log)
        try:
            ng = _in_relay_namespace(rtpengine.Ng)
            ng.wait()
            empty, began = rss_kib(process.pid), time.perf_counter()
            ports = [ng.call(number) for number in range(count)]
            took = time.perf_counter() - began
            ng.close()
            grown = rss_kib(process.pid) - empty
            yield Running(leg_lines(ports), process.pid, took / count * 1e6, grown / count)
        finally:
            process.send_signal(signal.SIGTERM)
            _end(process)


RELAYS: dict[str, Callable[[int], AbstractContextManager[Running]]] = {
    "forward": forward,
    "rtpengine": rtpengine_user_space,
    "python": ours("python"),
    "native": ours("native"),
    "ebpf": ours("ebpf"),
}


def _start(command: list[str], **streams: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["ip", "netns", "exec", RELAY, *command], **streams)  # type: ignore[call-overload,no-any-return]


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _in_relay_namespace(make: Callable[[], rtpengine.Ng]) -> rtpengine.Ng:
    """A socket made in there stays there."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    home, there = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.open(f"/run/netns/{RELAY}", os.O_RDONLY)
    try:
        if libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        return make()
    finally:
        libc.setns(home, CLONE_NEWNET)
        os.close(home)
        os.close(there)
