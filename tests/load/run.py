"""One measured run: registrations or calls at a fixed rate, calls held at once.

CPU time is by service, from /proc. The server is on `SERVER_CPU`, the load on `LOAD_CPU`. Load is open loop:
the rate stays whatever the server does.
"""

from __future__ import annotations

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from load import scenarios
from load.servers import Server, users
from support import procfs
from support.ports import free_port
from support.sipp import Outcome, Sipp
from support.waiting import until

SERVER_CPU, LOAD_CPU = 0, 1
MOST_RETRANSMISSIONS = 0.005
"""Retransmissions per call that a run may have: more means that the server stalled for half a second."""
GENERATOR_BOUND = 0.93
"""From this share of its CPU on, the load generator and not the server may be the limit."""
_LATE_S = 2.0
SLOT_S = 15.0
"""How long a short call keeps a slot from others, its rest included."""
MOST_AT_ONCE = 15_000
"""Calls that the load generator holds at most; it wants a descriptor for each."""
_PROBE_USERS = 2
_SPARE_SLOTS = 100


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run."""

    kind: str
    rate: float
    planned: int
    outcome: Outcome
    cpu_ms: Mapping[str, float]
    """CPU milliseconds per call (or registration), by service."""
    server_share: float
    load_share: float
    reason: str
    """Why it does not count; empty when it passed."""
    fine: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Every planned call completed, in time."""
        return not self.reason

    @property
    def cpu_ms_all(self) -> float:
        """CPU milliseconds per call over all processes."""
        return sum(self.cpu_ms.values())


@dataclass(frozen=True, slots=True)
class Held:
    """Memory of calls that are up at once."""

    calls: int
    kib_per_call: Mapping[str, float]
    """Growth of the proportional set size, by service."""
    reason: str


def register(server: Server, rate: float, count: int, contact_port: int) -> Result:
    """Registrations with digest where the server asks for it."""
    scenario = scenarios.register(server.domain, contact_port, digest=server.digest)
    with _load(server, scenario, rate, count) as caller:
        return _measure(server, "register", rate, count, caller, tail_s=0.3)


class Called:
    """The called party of the load; the accounts are registered to its port while it is there."""

    def __init__(self, server: Server) -> None:
        self.port = server.called_port or free_port()
        self.sipp = Sipp(scenarios.called(), port=self.port, target=None, calls=0, cpu=LOAD_CPU, trace=False)
        self._server = server

    def __enter__(self) -> Called:
        self.sipp.wait_ready()
        if self._server.registrar:
            filled = register(self._server, 100, len(users()), self.port)
            assert not filled.outcome.failed, f"registering the load's users: {filled.outcome.errors[:3]}"
        return self

    def __exit__(self, *_: object) -> None:
        self.sipp.__exit__()


def calls(server: Server, rate: float, seconds: float, *, probe_rate: float = 0.0, many_ports: bool = False) -> Result:
    """Whole calls with SDP; some of them timed finely where `probe_rate` is given.

    `many_ports`: each call from a port of its own, and everything on every core.
    """
    rate = max(1.0, rate - probe_rate)
    count = max(1, round(rate * seconds))
    _await_slots(server, min(count, math.ceil(rate * SLOT_S)))
    scenario = scenarios.call(server.domain, digest=server.digest)
    tail_s = (scenarios.HOLD_MS[1] + scenarios.RING_MS) / 1000
    ports = ("-t", "un", "-max_socket", str(MOST_AT_ONCE)) if many_ports else ()
    with _load(server, scenario, rate, count, *ports, everywhere=many_ports) as caller:
        cores = (os.cpu_count() or 1) if many_ports else 1
        return _measure(server, "calls", rate, count, caller, tail_s=tail_s, probe_rate=probe_rate, cores=cores)


def held(server: Server, count: int, rate: float) -> Held:
    """Memory per call while `count` calls are up."""
    setup_s = count / rate
    hold_s = setup_s + 4.0
    scenario = scenarios.held_call(server.domain, digest=server.digest)
    _await_slots(server, count)
    before = _memory(server)
    with _load(server, scenario, rate, count, "-d", str(round(hold_s * 1000))) as caller:
        time.sleep(setup_s + 2.0)
        during = _memory(server)
        outcome = caller.wait(hold_s + 20)
    growth = {name: (during[name] - before.get(name, 0)) / 1024 / count for name in during}
    complete = outcome.failed == 0 and outcome.successful == count
    return Held(count, growth, "" if complete else f"{outcome.successful} of {count} completed")


def _await_slots(server: Server, calls: int) -> None:
    """Until the relay's slots have rested from the run before: a lack of ports is not what is measured."""
    product = server.product
    if product is not None:
        wanted = calls + _SPARE_SLOTS
        until(lambda: product.slots_free() >= wanted, timeout_s=90, what=f"{wanted} free slots")


def _memory(server: Server) -> dict[str, int]:
    return {name: procfs.memory(pids).pss for name, pids in server.pids().items()}


@contextmanager
def _load(
    server: Server, scenario: str, rate: float, count: int, *extra: str, everywhere: bool = False
) -> Iterator[Sipp]:
    accounts = users()[_PROBE_USERS:]
    with tempfile.TemporaryDirectory(prefix="load-") as directory:
        table = Path(directory) / "users.csv"
        rows = ["SEQUENTIAL"]
        for callee, caller in zip(accounts, accounts[1:] + accounts[:1], strict=True):
            secret = f"[authentication username={caller.user} password={caller.password}]"
            rows.append(f"{callee.user};{caller.user};{secret};")
        table.write_text("\n".join(rows) + "\n", encoding="utf-8")
        options = ["-inf", str(table), "-r", f"{rate:g}", "-l", str(MOST_AT_ONCE), "-recv_timeout", "8000"]
        for pids in server.pids().values():
            procfs.pin(pids, set(range(os.cpu_count() or 1)) if everywhere else {SERVER_CPU})
        cpu = None if everywhere else LOAD_CPU
        with Sipp(
            scenario, port=free_port(), target=server.address, calls=count, cpu=cpu, trace=False,
            extra=[*options, *extra],
        ) as caller_sipp:  # fmt: skip
            yield caller_sipp


def _measure(
    server: Server,
    kind: str,
    rate: float,
    count: int,
    caller: Sipp,
    *,
    tail_s: float,
    probe_rate: float = 0.0,
    cores: int = 1,
) -> Result:
    before, load_before, started = _cpu(server), _load_cpu(), time.monotonic()
    load_s = count / rate
    fine = _fine_times(server, probe_rate, load_s) if probe_rate else {}
    outcome = caller.wait(load_s + tail_s + 12)
    elapsed = time.monotonic() - started
    after = _cpu(server)
    done = max(1, outcome.successful + int(fine.get("INVITE 200", {}).get("count", 0)))
    spent = {name: after[name] - before.get(name, 0.0) for name in after}
    busy = sum(spent.values()) / load_s
    return Result(
        kind=kind,
        rate=rate + probe_rate,
        planned=count,
        outcome=outcome,
        cpu_ms={name: seconds * 1000 / done for name, seconds in spent.items()},
        server_share=busy,
        load_share=(_load_cpu() - load_before) / load_s,
        reason=_verdict(outcome, count, elapsed - load_s - tail_s, busy / cores),
        fine=fine,
    )


def _verdict(outcome: Outcome, planned: int, late_s: float, busy: float) -> str:
    if outcome.failed:
        return f"{outcome.failed} failed"
    if outcome.successful != planned:
        return f"{outcome.successful} of {planned} completed"
    if outcome.retransmitted > planned * MOST_RETRANSMISSIONS:
        return f"{outcome.retransmitted} retransmissions"
    if busy > 1.0:
        return f"backlog: the server worked {busy:.0%} of the load's time"
    return f"load {late_s:.1f} s late" if late_s > _LATE_S else ""


def _cpu(server: Server) -> dict[str, float]:
    return {name: procfs.cpu_seconds(pids) for name, pids in server.pids().items()}


def _load_cpu() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def _fine_times(server: Server, rate: float, seconds: float) -> Mapping[str, Mapping[str, float]]:
    caller, callee = users()[:_PROBE_USERS]
    command = ["taskset", "-c", str(LOAD_CPU), sys.executable, "-m", "load.probe"]
    command += ["--server", f"{server.address[0]}:{server.address[1]}", "--domain", server.domain]
    command += [
        "--caller",
        f"{caller.user}:{caller.password}",
        "--callee",
        f"{callee.user}:{callee.password}",
    ]
    command += ["--rate", str(rate), "--seconds", str(max(1.0, seconds - 1.0))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 30)
    if done.returncode:
        print(f"      probe: {done.stderr[-300:]}", file=sys.stderr)
        return {}
    document: dict[str, dict[str, float]] = json.loads(done.stdout)
    return document


def median_of(results: list[Result], service: str = "") -> float:
    """Median CPU per call of some runs, of one service or of all."""
    pick = (lambda r: r.cpu_ms.get(service, 0.0)) if service else (lambda r: r.cpu_ms_all)
    return statistics.median(map(pick, results)) if results else 0.0
