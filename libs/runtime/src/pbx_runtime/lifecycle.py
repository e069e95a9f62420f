"""The life of a service process: one loop, one TaskGroup, signals, readiness, an orderly end.

Theory of operation. `run` calls `service_main(lifecycle, settings)`, which constructs and starts everything
and returns. Then the process is ready, until SIGTERM, SIGINT or a task that failed sets `stopping`:
readiness goes red, the `on_stop` callbacks run in reverse order of registration under one deadline, what
still runs is cancelled, what it used is closed (`on_ended`), and the exit code says how it went: 0 stopped
as asked, 1 a task failed or the deadline passed. A second signal does not wait for the deadline.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import uvloop
from prometheus_client import Histogram

from pbx_runtime import logs
from pbx_runtime.health import Health, HealthCollector
from pbx_runtime.metrics import LATENCY_BUCKETS_S, Registry, new_registry
from pbx_runtime.settings import ServiceSettings, SettingsError, exit_with_settings_error

S = TypeVar("S", bound=ServiceSettings)
_Callback = tuple[str, Callable[[], Awaitable[None] | None]]
GC_THRESHOLDS = (2_000, 5, 20)
"""When each generation is looked at. Nothing of ours needs the collector (`tests/sim/test_nothing_left.py`), so this is
the net for the day on which somebody adds a cycle: at the latest 200 000 objects later it is found, which is 40 MiB of
signaling's calls. The oldest generation may not wait longer: a call's objects live for the 32 s of its transactions,
and by then stand there.

Measured with 2000 live calls (150 000 objects): 0.7 ms and 6 ms for the two young generations, 13 us per call of 1300
in all, and no look at the oldest one. With a cycle in every call: 67 us per call, and 140 ms for all live objects once
in 3000 calls. With 50 000 in the first place a young generation alone took 24 ms.
"""
LAG_EVERY_S = 0.25
"""How often the loop's lateness is measured; at 4 a second it costs nothing."""
CANCEL_GRACE_S = 2.0
"""How long cancelled tasks may take to clean up, and then what they used to close."""

_log = logs.get_logger("lifecycle")


class Lifecycle:
    """What `service_main` starts its parts with. One per process."""

    def __init__(self, service: str, shutdown_s: float) -> None:
        self.service = service
        self.health = Health()
        self.registry: Registry = new_registry(service)
        self.registry.register(HealthCollector(self.health))
        self.stopping = asyncio.Event()
        self.failure: BaseException | None = None
        self._shutdown_s = shutdown_s
        self._stop_callbacks: list[_Callback] = []
        self._end_callbacks: list[_Callback] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None
        self._starting: asyncio.Task[None] | None = None
        self._forced = asyncio.Event()
        self.health.set("started", False, "starting")

    def start(self, coro: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[None]:
        """Run a coroutine while the process lives. If it raises, the process stops with exit code 1."""
        if self._group is None:
            coro.close()
            raise RuntimeError(f"cannot start {name}: the lifecycle does not run")
        task = self._group.create_task(self._guard(coro, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def on_stop(self, callback: Callable[[], Awaitable[None] | None], name: str = "") -> None:
        """Call this when the process stops; the last registered is called first."""
        self._stop_callbacks.append((name or getattr(callback, "__qualname__", repr(callback)), callback))

    def on_ended(self, callback: Callable[[], Awaitable[None] | None], name: str) -> None:
        """Call this when all tasks have ended: to close what they use, such as a database. Last registered first."""
        self._end_callbacks.append((name, callback))

    def stop(self) -> None:
        """Ask for an orderly end; a second time: do not wait for it."""
        if self.stopping.is_set():
            self._forced.set()
        self.stopping.set()

    def fail(self, error: BaseException) -> None:
        """Stop because of an error: the exit code will be 1. The first error is kept."""
        if self.failure is None:
            self.failure = error
        self.stopping.set()

    async def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> int:
        """Start by `main`, wait for the end, stop. Returns the exit code."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await self._start_up(main)
                await self.stopping.wait()
            finally:
                clean = await self._shut_down()
        return 0 if clean and self.failure is None else 1

    async def _start_up(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        starting = self._starting = self.start(main(), "start")
        stop = asyncio.ensure_future(self.stopping.wait())
        await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if self.stopping.is_set():
            return
        self.start(watch_lag(self.registry), "loop lag")
        _settle_memory()
        self.health.set("started", True)
        _log.info("ready")

    async def _guard(self, coro: Coroutine[Any, Any, Any], name: str) -> None:
        try:
            await coro
        except asyncio.CancelledError:
            raise
        except Exception as error:
            _log.error("task failed", task=name, exc_info=error)
            self.fail(error)

    async def _shut_down(self) -> bool:
        self.health.set("started", False, "stopping")
        if self._starting is not None:
            self._starting.cancel()  # told to stop before it had started
        clean = await self._call_back()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=CANCEL_GRACE_S)
        clean = await self._close() and clean
        _log.info("stopped", clean=clean)
        return clean

    async def _close(self) -> bool:
        try:
            async with asyncio.timeout(CANCEL_GRACE_S):
                return await _run_callbacks(self._end_callbacks)
        except TimeoutError:
            waiting_for = self._end_callbacks[-1][0]
            _log.error("stop incomplete", reason=f"not within {CANCEL_GRACE_S:g} s", waiting_for=waiting_for)
            return False

    async def _call_back(self) -> bool:
        callbacks = asyncio.ensure_future(_run_callbacks(self._stop_callbacks))
        forced = asyncio.ensure_future(self._forced.wait())
        await asyncio.wait({callbacks, forced}, timeout=self._shutdown_s, return_when=asyncio.FIRST_COMPLETED)
        forced.cancel()
        if callbacks.done():
            return callbacks.result()
        callbacks.cancel()
        reason = "second signal" if self._forced.is_set() else f"not within {self._shutdown_s:g} s"
        _log.error("stop incomplete", reason=reason, waiting_for=self._stop_callbacks[-1][0])
        return False


async def _run_callbacks(callbacks: list[_Callback]) -> bool:
    """Last first; what still has to be waited for stays at the end of the list. False where one failed."""
    clean = True
    while callbacks:
        name, callback = callbacks[-1]
        try:
            answer = callback()
            if answer is not None:
                await answer
        except Exception as error:  # one part that cannot stop must not keep the others from it
            _log.error("stop failed", part=name, exc_info=error)
            clean = False
        callbacks.pop()
    return clean


async def watch_lag(registry: Registry) -> None:
    """Observe how much later than asked a timer fires: what every request waits for when the loop is busy."""
    lag = Histogram("pbx_loop_lag_seconds", "How late timers fire", registry=registry, buckets=LATENCY_BUCKETS_S)
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        lag.observe(max(0.0, loop.time() - due))


def _settle_memory() -> None:
    # What lives now lives until the end: no collection needs to look at it again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def yield_to_others() -> bool:
    """Run under SCHED_BATCH, with the threads and processes that begin after this: woken, it preempts nobody.

    Services of one machine wake each other with every message; under the default policy each wake-up interrupts
    the service that sent it, in the middle of a batch of its own. Measured with `make bench` on one core: 14
    preemptions of signaling per call without this, 1.5 with it, and 12 to 15 % less CPU per call at 300 calls/s.
    Nothing is lost in share of CPU (sched(7)). False where the system does not allow it; nothing depends on it.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except (AttributeError, OSError):  # no Linux, or a sandbox that forbids it
        return False
    return True


def run(service_main: Callable[[Lifecycle, S], Coroutine[Any, Any, None]], settings: S) -> int:
    """Run a service on uvloop until it is told to stop. Returns the exit code; the caller exits with it."""

    async def main() -> int:
        lifecycle = Lifecycle(settings.service, settings.shutdown_s)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lifecycle.stop)
        return await lifecycle.run(lambda: service_main(lifecycle, settings))

    logs.configure(settings)
    if settings.may_wait:
        yield_to_others()
    return uvloop.run(main())


def main(service_main: Callable[[Lifecycle, S], Coroutine[Any, Any, None]], settings_class: type[S]) -> None:
    """All of a `__main__`: load the settings (where they are wrong: say so, exit code 2), run, exit."""
    try:
        settings = settings_class.load()
    except SettingsError as error:
        exit_with_settings_error(error)
    raise SystemExit(run(service_main, settings))
