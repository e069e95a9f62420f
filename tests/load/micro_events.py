"""`make bench-events`: events per second into CDRs and one webhook endpoint, and filtered pages of a million CDRs.

Calls of five events each are written into the outbox of a real Redis at a steady rate; the service's own loops take
them, fold them, and deliver every event to an HTTP receiver in a process of its own. What is printed: the rate that
held, the CPU of it, the largest memory, what was left over. With `--pages N` the store is filled with N CDRs first, and
each filter of the API is timed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvloop
from ulid import ULID

from pbx_events.cdr.builder import build
from pbx_events.dispatch import STREAM, Dispatch
from pbx_events.envelope import decode
from pbx_events.retention import DAY_MS, Days, Retention
from pbx_events.storage.archive import CdrFilter
from pbx_events.storage.ledger import cdr_row
from pbx_events.storage.retention import FORGET_BATCH
from pbx_events.storage.store import Store
from pbx_events.storage.subscription import DELIVERED, PENDING, Webhook
from pbx_events.storage.tables import cdrs
from pbx_events.webhook.delivery import Deliveries
from pbx_events.webhook.signing import new_secret
from pbx_runtime.clock import ManualClock
from pbx_runtime.redis_pipe import PipelinedRedis
from support.call_events import answered_call
from support.redis_server import redis_server

EVENTS_PER_CALL = 5
TICK_S = 0.1
CATCH_UP_S = 60
USERS = 500
PAGE_RUNS = 20
FIRST_MS = 1_700_000_000_000


class Receiver(asyncio.Protocol):
    """Answers 204 to each POST, as fast as Python can: it is not what is measured."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


def receive(ports: Any) -> None:
    """The receiver's process."""

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Receiver, "127.0.0.1", 0)
        ports.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def write(url: str, rate: int, seconds: int) -> None:
    """The writer's process: whole calls at `rate` events a second, as signaling writes them."""

    async def main() -> None:
        redis = PipelinedRedis(url)
        link = asyncio.create_task(redis.run())
        calls_a_tick = rate * TICK_S / EVENTS_PER_CALL
        started, made = time.monotonic(), 0
        for tick in range(round(seconds / TICK_S)):
            await asyncio.sleep(started + tick * TICK_S - time.monotonic())
            while made < calls_a_tick * (tick + 1):
                made += 1
                for event in answered_call(str(ULID())):
                    event.id = str(ULID())
                    redis.submit("XADD", STREAM, "*", "e", event.SerializeToString(), callback=lambda *_: None)
        await redis.submit("PING")
        link.cancel()

    asyncio.run(main())


@contextlib.asynccontextmanager
async def service(url: str, store: Store, hook: Webhook | None) -> AsyncIterator[Dispatch]:
    """The loops of the service."""
    redis = PipelinedRedis(url)
    dispatch = Dispatch(redis, "bench", store)
    deliveries = Deliveries(store, lambda work, name: asyncio.create_task(work, name=name), allow_private=True)
    dispatch.on_batch = lambda batch: deliveries.wake()
    if hook is not None:
        await store.add_webhook(hook)
        dispatch.hooks = [hook]
        deliveries.serve([hook])
    tasks = [asyncio.create_task(redis.run()), asyncio.create_task(dispatch.run())]
    try:
        yield dispatch
    finally:
        deliveries.serve([])
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await deliveries.close()


async def flow(rate: int, seconds: int, webhook: bool, directory: Path) -> dict[str, Any]:
    """One run; the figures."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    receiver = context.Process(target=receive, args=(theirs,), daemon=True)
    receiver.start()
    hook = Webhook("bench", f"http://127.0.0.1:{mine.recv()}/hook", new_secret(), (), True, 1) if webhook else None
    store = Store(f"sqlite+aiosqlite:///{directory}/events.sqlite")
    await store.migrate()
    expected = round(rate * seconds / EVENTS_PER_CALL) * EVENTS_PER_CALL
    try:
        with redis_server() as server:
            writer = context.Process(target=write, args=(server.url, rate, seconds), daemon=True)
            async with service(server.url, store, hook) as dispatch:
                writer.start()
                while not dispatch.taken:
                    await asyncio.sleep(0.01)
                started, before = time.monotonic(), os.times()
                ends_at = started + seconds + CATCH_UP_S
                while time.monotonic() < ends_at and not await _done(store, dispatch, expected, hook):
                    await asyncio.sleep(0.25)
                took_s, after = time.monotonic() - started, os.times()
            writer.join(10)
        backlog = await store.backlog()
        cpu_s = after.user + after.system - before.user - before.system
        return {
            "events": dispatch.taken,
            "expected": expected,
            "seconds": round(took_s, 2),
            "events_per_s": round(dispatch.taken / took_s),
            "cpu_ms_per_call": round(cpu_s * 1000 * EVENTS_PER_CALL / max(dispatch.taken, 1), 3),
            "delivered": backlog.get(("bench", DELIVERED), 0),
            "left": backlog.get(("bench", PENDING), 0),
            "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
    finally:
        receiver.terminate()
        await store.close()


async def _done(store: Store, dispatch: Dispatch, expected: int, hook: Webhook | None) -> bool:
    if dispatch.taken < expected:
        return False
    return hook is None or (await store.backlog()).get((hook.id, DELIVERED), 0) >= expected


async def _fill(store: Store, count: int) -> None:
    """CDRs of a call a second."""
    heard = [event for made in answered_call() if (event := decode(made.SerializeToString())) is not None]
    model = build(heard)
    assert model is not None
    for begin in range(0, count, 10_000):
        rows = []
        for number in range(begin, min(begin + 10_000, count)):
            call_id = str(ULID.from_bytes((FIRST_MS + number * 1000).to_bytes(6, "big") + bytes(10)))
            record = {"id": call_id, "caller": f"u{number % USERS}", "callee": f"u{number * 7 % USERS}"}
            record["outcome"] = ("answered", "busy", "cancelled")[number % 3]
            rows.append(cdr_row(model | record, FIRST_MS + number * 1000) | {"revision": 1})
        await store.write(lambda connection, rows=rows: connection.execute(cdrs.insert(), rows))


async def forget(url: str, count: int) -> dict[str, float]:
    """Fills a store with CDRs and lets retention forget half of them: how long a batch holds the others up."""
    store = Store(url)
    await store.migrate()
    await _fill(store, count)
    clock = ManualClock(epoch=FIRST_MS + count * 500 + DAY_MS)
    times: list[float] = []
    began = started = time.perf_counter()
    async for _ in Retention(store, Days(cdrs=1, events=1), "bench", clock).batches():
        times.append((time.perf_counter() - started) * 1000)
        started = time.perf_counter()
    await store.close()
    rows_per_s = FORGET_BATCH * len(times) / (time.perf_counter() - began)
    return {
        "batches": len(times),
        "batch_ms_median": round(statistics.median(times), 2),
        "batch_ms_max": round(max(times), 2),
        "rows_per_s": round(rows_per_s),
    }


async def pages(url: str, count: int) -> dict[str, float]:
    """Fills a store with CDRs and times each filter of the API, in milliseconds (median)."""
    store = Store(url)
    await store.migrate()
    await _fill(store, count)
    middle = FIRST_MS + count * 500
    filters: dict[str, dict[str, Any]] = {
        "newest": {},
        "caller": {"caller": ("u7",)},
        "callee": {"callee": ("u8",)},
        "user": {"user": ("u9",)},
        "outcome": {"outcome": ("busy",)},
        "caller and outcome": {"caller": ("u7",), "outcome": ("busy",)},
        "an hour of the middle": {"since_ms": middle, "until_ms": middle + 3_600_000},
        "user, an hour of the middle": {"user": ("u9",), "since_ms": middle, "until_ms": middle + 3_600_000},
        "caller without calls": {"caller": ("nobody",)},
    }
    found = {}
    for name, asked in filters.items():
        times = []
        for _ in range(PAGE_RUNS):
            started = time.perf_counter()
            await store.list_cdrs(CdrFilter(limit=50, **asked))
            times.append((time.perf_counter() - started) * 1000)
        found[name] = round(statistics.median(times), 2)
    await store.close()
    return found


def main() -> int:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(prog="make bench-events", description=__doc__)
    parser.add_argument("--rate", type=int, default=2000, help="events a second")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--no-webhook", action="store_true")
    parser.add_argument("--pages", type=int, default=0, help="CDRs to fill a store with, and time the filters")
    parser.add_argument("--forget", type=int, default=0, help="CDRs to fill a store with, and forget the older half")
    parser.add_argument("--database", default="", help="URL for both; default: SQLite in a scratch directory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-events-") as scratch:
        url = options.database or f"sqlite+aiosqlite:///{scratch}/events.sqlite"
        if options.pages or options.forget:
            measured = pages(url, options.pages) if options.pages else forget(url, options.forget)
            print(json.dumps(uvloop.run(measured), indent=1))
            return 0
        figures = uvloop.run(flow(options.rate, options.seconds, not options.no_webhook, Path(scratch)))
    print(json.dumps(figures, indent=1))
    whole = figures["events"] == figures["expected"] and not figures["left"]
    return 0 if whole and figures["events_per_s"] >= 0.95 * options.rate else 1


if __name__ == "__main__":
    sys.exit(main())
