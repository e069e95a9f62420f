"""The long form of `make soak`: a hundred thousand short calls, and every process holds at the end what it held early.

Calls come at a fixed rate, in rounds of the same number. After each round everything lingering runs out (transactions
for 32 s, slots for 10 s), and the processes are looked at: memory, descriptors, threads, keys in Redis. The first round
fills what is bounded (caches, pages of the database, state of each slot); what the last one shows beyond is a leak.
CDRs on disk grow, as they should.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import urllib.parse
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from load import run, servers
from pbx_runtime.redis_pipe import PipelinedRedis
from support import procfs
from support.product import Product, fetch
from support.waiting import until

ROUNDS: Final = 5
GROWTH_MAX: Final = 0.03
"""Of memory, from the first round's end to the last one's."""
SPARE: Final = 3
"""Descriptors, threads and keys that may be there by chance at one of the two looks: a key with a time to live, a
database connection that is being made."""
LINGER_S: Final = 75.0
"""At the most until transactions and slots have run out."""
SETTLE_S: Final = 5.0
"""And then until events are stored and allocators have given back what they give back."""
READERS: Final = 6
"""Questions to the API at once: more than there are threads that read the database."""
PAGES: Final = 12
"""Of a thousand CDRs, for each of them: as much as the page cache of a connection holds."""
READ_S: Final = 120.0
"""For one of them, on a machine that does other things too."""
KEYS_LIVE_S: Final = 600.0
"""The counts of nonces stay in Redis so long. Its keys and memory are compared from then on."""
FILL_LATE: Final = ("redis", "events")
"""Those whose memory is compared from then on: keys that live so long, and page caches that one round does not fill."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a process holds."""

    pss: int
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What all hold after so many calls."""

    calls: int
    seconds: float
    """Since the first call."""
    processes: Mapping[str, Look]
    redis_keys: int


@dataclass(slots=True)
class Endurance:
    """What was seen."""

    calls: int
    rate: float
    completed: int = 0
    retransmissions: int = 0
    seconds: float = 0.0
    checkpoints: list[Checkpoint] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def endure(calls: int, rate: float) -> Endurance:
    """Plays the calls; what is wrong stands in `faults`."""
    report = Endurance(calls, rate)
    started = time.monotonic()
    with servers.ours() as server, run.Called(server):
        assert server.product is not None
        for number in range(1, ROUNDS + 1):
            result = run.calls(server, rate, calls / ROUNDS / rate)
            report.completed += result.outcome.successful
            report.retransmissions += result.outcome.retransmitted
            if result.outcome.failed or result.outcome.successful != result.planned:
                report.faults.append(f"round {number}: {result.reason}")
                print(*result.outcome.errors[:3], sep="\n", file=sys.stderr)
            if result.outcome.exit_code < 0:
                report.faults.append("the load came to no end: nothing is compared")
                break  # its calls stay up, and nobody is there to end them
            _run_out(server.product)
            report.checkpoints.append(_look(server, report.completed, time.monotonic() - started))
            print(_line(report.checkpoints[-1]), file=sys.stderr, flush=True)
    report.seconds = time.monotonic() - started
    _judge(report)
    return report


def _run_out(product: Product) -> None:
    """Waits until nothing of the round is left, and asks the API as often at once as it can answer."""
    product.assert_all_released(LINGER_S)
    until(
        lambda: not product.metrics("signaling").sum("pbx_signaling_transactions"),
        timeout_s=LINGER_S,
        what="no transaction",
    )
    rested = lambda: not product.metrics("media-relay").sum("pbx_relay_slots", state="quarantined")  # noqa: E731
    until(rested, timeout_s=LINGER_S, what="no slot that rests")
    wake_readers(product, PAGES)
    time.sleep(SETTLE_S)


def wake_readers(product: Product, pages: int = 1) -> None:
    """Lets each thread that reads the database make its connection and fill its page cache: else one does some day."""

    def read(_: int) -> None:
        cursor: dict[str, str] = {}
        for _ in range(pages):
            query = urllib.parse.urlencode({"limit": "1000", **cursor})
            page = json.loads(fetch(f"{product.http}/v1/cdrs?{query}", timeout_s=READ_S))
            if not page["next"]:
                return
            cursor = {"cursor": page["next"]}

    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(read, range(READERS)))


def _look(server: servers.Server, calls: int, seconds: float) -> Checkpoint:
    assert server.product is not None
    looks = {
        name: Look(
            procfs.memory(pids).pss,
            sum(map(procfs.descriptors, pids)),
            sum(len(os.listdir(f"/proc/{pid}/task")) for pid in pids),
        )
        for name, pids in server.pids().items()
    }
    return Checkpoint(calls, seconds, looks, asyncio.run(_redis_keys(server.product)))


async def _redis_keys(product: Product) -> int:
    address = next(process.addresses["redis"] for process in product.processes if process.name == "redis")
    redis = PipelinedRedis(address)
    task = asyncio.ensure_future(redis.run())
    try:
        return int(await redis.submit("DBSIZE", timeout_s=10))
    finally:
        task.cancel()


def _judge(report: Endurance) -> None:
    if len(report.checkpoints) < 2:
        return
    first, last = report.checkpoints[0], report.checkpoints[-1]
    later = next((each for each in report.checkpoints if each.seconds >= KEYS_LIVE_S), None)
    for name, after in last.processes.items():
        then = later if name in FILL_LATE else first
        if then is None:
            continue
        before = then.processes[name]
        growth = after.pss / before.pss - 1
        if growth > GROWTH_MAX:
            report.faults.append(f"{name}: memory grew by {growth:.1%} from {then.calls} to {last.calls} calls")
        for what in ("descriptors", "threads"):
            had, has = getattr(before, what), getattr(after, what)
            if has > had + SPARE:
                report.faults.append(f"{name}: {has} {what}, {had} after {then.calls} calls")
    if later is not None and last.redis_keys > later.redis_keys * (1 + GROWTH_MAX) + SPARE:
        report.faults.append(f"redis: {last.redis_keys} keys, {later.redis_keys} after {later.calls} calls")


def _line(checkpoint: Checkpoint) -> str:
    parts = " ".join(
        f"{name} {look.pss / 1024**2:.1f} MiB/{look.descriptors} fds/{look.threads} threads"
        for name, look in checkpoint.processes.items()
    )
    return f"  after {checkpoint.calls:7d} calls: {parts}, {checkpoint.redis_keys} keys in Redis"


def print_report(report: Endurance) -> None:
    """A line for each checkpoint, one for each fault."""
    print(
        f"{report.completed} of {report.calls} calls completed at {report.rate:g}/s "
        f"in {report.seconds / 60:.1f} minutes, {report.retransmissions} retransmissions"
    )
    for checkpoint in report.checkpoints:
        print(_line(checkpoint))
    if len(report.checkpoints) > 1:
        first, last = report.checkpoints[0].processes, report.checkpoints[-1].processes
        changes = " ".join(f"{name} {last[name].pss / look.pss - 1:+.1%}" for name, look in first.items())
        print(f"  memory from the first to the last: {changes}")
    for fault in report.faults:
        print(f"FAULT: {fault}")
