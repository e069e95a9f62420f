"""`switches_per_call`: how often processes go to sleep for one call, by service, at 60 calls/s.

Counted are voluntary context switches of all threads: each is a wake-up that cost more than what it did, and in part
the reason why a call takes longer under no load. What the services do by themselves is measured before the first
call and taken off. Counts are about the same whatever else the machine does, as long as the server keeps up.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from load import run
from load.servers import Server
from support import procfs

FIGURE: Final = "switches_per_call"
RATE: Final = 60.0
SECONDS: Final = 10.0
IDLE_S: Final = 5.0
SETTLED_S: Final = 2.0

Sleeps = Mapping[str, int]
"""Since each thread began, by service."""


def per_call(
    idle: tuple[Sleeps, Sleeps], idle_s: float, load: tuple[Sleeps, Sleeps], load_s: float, calls: float
) -> dict[str, float]:
    """Switches of each service for a call, and of all, without what they do by themselves."""
    found = {}
    for name, after in load[1].items():
        own_per_s = (idle[1].get(name, 0) - idle[0].get(name, 0)) / idle_s
        found[name] = round(max(0.0, after - load[0].get(name, 0) - own_per_s * load_s) / calls, 1)
    return found | {"all": round(sum(found.values()), 1)}


def measure(server: Server) -> dict[str, Any]:
    """Switches by service; and why the run does not count, where it does not."""
    with run.Called(server):
        time.sleep(SETTLED_S)
        idle_before, started = _sleeps(server), time.monotonic()
        time.sleep(IDLE_S)
        idle, idle_s = (idle_before, _sleeps(server)), time.monotonic() - started
        before, started = _sleeps(server), time.monotonic()
        result = run.calls(server, RATE, SECONDS)
        load, load_s = (before, _sleeps(server)), time.monotonic() - started
    return {"reason": result.reason} | per_call(idle, idle_s, load, load_s, result.planned)


def _sleeps(server: Server) -> Sleeps:
    return {name: procfs.voluntary_switches(pids) for name, pids in server.pids().items()}
