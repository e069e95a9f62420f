"""The life of a process: readiness, order of the end, exit codes, deadlines, a second signal."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
from collections import deque
from collections.abc import Iterator

import pytest

from pbx_runtime import lifecycle
from pbx_runtime.lifecycle import GC_THRESHOLDS, Lifecycle
from support.eventually import eventually


@pytest.fixture(autouse=True)
def _restore_gc() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


async def nothing() -> None:
    """A start that has nothing to start."""


async def test_a_clean_life() -> None:
    seen: list[str] = []
    life = Lifecycle("demo", 5)

    async def stop_async() -> None:
        seen.append("async")

    async def main() -> None:
        assert not life.health.is_ready
        life.on_stop(lambda: seen.append("first registered"), "first")
        life.on_stop(stop_async, "second")

    running = asyncio.ensure_future(life.run(main))
    await eventually(lambda: life.health.is_ready)
    assert gc.get_threshold() == GC_THRESHOLDS
    life.stop()
    assert await running == 0
    assert seen == ["async", "first registered"]
    assert not life.health.is_ready
    assert life.health.is_live


class Knot:
    """Objects that refer to each other, as those of a call once did; the class counts those that are alive."""

    alive = 0

    def __init__(self) -> None:
        Knot.alive += 1
        self.parts = [{"knot": self} for _ in range(60)]

    def __del__(self) -> None:
        Knot.alive -= 1


def test_a_cycle_in_every_call_is_found_long_before_memory_ends() -> None:
    """Calls linger for a while after their end: by then their objects are in the oldest generation."""
    lingering: deque[Knot] = deque(maxlen=1_000)
    thresholds, most = gc.get_threshold(), 0
    gc.freeze()
    gc.collect()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        for _ in range(12_000):
            lingering.append(Knot())
            most = max(most, Knot.alive)
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
    assert most < 6_000
    lingering.clear()
    gc.collect()
    assert Knot.alive == 0


async def test_the_lag_of_the_loop_is_measured() -> None:
    life = Lifecycle("demo", 5)
    running = asyncio.ensure_future(life.run(nothing))

    def seen() -> float:
        return life.registry.get_sample_value("pbx_loop_lag_seconds_count") or 0

    await eventually(lambda: seen() >= 1)
    life.stop()
    assert await running == 0


async def test_readiness_is_red_before_the_first_callback_runs() -> None:
    life = Lifecycle("demo", 5)
    ready_in_callback: list[bool] = []

    async def main() -> None:
        life.on_stop(lambda: ready_in_callback.append(life.health.is_ready))

    running = asyncio.ensure_future(life.run(main))
    await eventually(lambda: life.health.is_ready)
    life.stop()
    await running
    assert ready_in_callback == [False]


async def test_a_task_that_fails_ends_the_process_in_order_with_code_1() -> None:
    life = Lifecycle("demo", 5)
    stopped: list[bool] = []

    async def fail() -> None:
        raise OSError("gone")

    async def main() -> None:
        life.on_stop(lambda: stopped.append(True))
        life.start(fail(), "fails")

    assert await life.run(main) == 1
    assert isinstance(life.failure, OSError)
    assert stopped == [True]


async def test_a_start_that_fails_is_code_1_and_undoes_what_was_started() -> None:
    life = Lifecycle("demo", 5)
    stopped: list[bool] = []

    async def main() -> None:
        life.on_stop(lambda: stopped.append(True))
        raise OSError("port taken")

    assert await life.run(main) == 1
    assert stopped == [True]


async def test_a_task_may_end_without_ending_the_process() -> None:
    life = Lifecycle("demo", 5)

    async def main() -> None:
        life.start(nothing(), "short")

    running = asyncio.ensure_future(life.run(main))
    await eventually(lambda: life.health.is_ready)
    assert not running.done()
    life.stop()
    assert await running == 0


async def test_told_to_stop_while_it_starts() -> None:
    life = Lifecycle("demo", 5)

    async def main() -> None:
        await asyncio.Event().wait()

    running = asyncio.ensure_future(life.run(main))
    await asyncio.sleep(0)
    life.stop()
    assert await running == 0


async def test_running_tasks_are_cancelled_after_the_callbacks() -> None:
    life = Lifecycle("demo", 5)
    seen: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    async def main() -> None:
        life.start(forever(), "forever")
        life.on_stop(lambda: seen.append("callback"))

    running = asyncio.ensure_future(life.run(main))
    await eventually(lambda: life.health.is_ready)
    life.stop()
    assert await running == 0
    assert seen == ["callback", "cancelled"]


async def test_what_tasks_use_is_closed_when_they_have_ended() -> None:
    life = Lifecycle("demo", 5)
    seen: list[str] = []

    async def uses() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("task ended")

    async def main() -> None:
        life.on_ended(lambda: seen.append("database closed"), "database")
        life.on_ended(lambda: seen.append("cursor closed"), "cursor")
        life.on_stop(lambda: seen.append("callback"))
        life.start(uses(), "uses")

    running = asyncio.ensure_future(life.run(main))
    await eventually(lambda: life.health.is_ready)
    life.stop()
    assert await running == 0
    assert seen == ["callback", "task ended", "cursor closed", "database closed"]


async def test_what_does_not_close_is_left_and_is_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "CANCEL_GRACE_S", 0.01)
    life = Lifecycle("demo", 5)

    async def main() -> None:
        life.on_ended(asyncio.Event().wait, "database")  # type: ignore[arg-type]  # never ends

    running = asyncio.ensure_future(life.run(main))
    await eventually(lambda: life.health.is_ready)
    life.stop()
    assert await running == 1


async def test_a_callback_that_fails_keeps_no_other_from_running_and_is_code_1() -> None:
    life = Lifecycle("demo", 5)
    seen: list[str] = []

    def broken() -> None:
        raise RuntimeError("cannot stop")

    async def main() -> None:
        life.on_stop(lambda: seen.append("other"))
        life.on_stop(broken)

    running = asyncio.ensure_future(life.run(main))
    await eventually(lambda: life.health.is_ready)
    life.stop()
    assert await running == 1
    assert seen == ["other"]


async def test_the_deadline_ends_a_stop_that_hangs() -> None:
    life = Lifecycle("demo", 0.05)

    async def hang() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        life.on_stop(hang)

    running = asyncio.ensure_future(life.run(main))
    await eventually(lambda: life.health.is_ready)
    life.stop()
    assert await asyncio.wait_for(running, 5) == 1


async def test_a_second_stop_does_not_wait_for_the_deadline() -> None:
    life = Lifecycle("demo", 600)

    async def hang() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        life.on_stop(hang)

    running = asyncio.ensure_future(life.run(main))
    await eventually(lambda: life.health.is_ready)
    life.stop()
    await asyncio.sleep(0.01)
    life.stop()
    assert await asyncio.wait_for(running, 5) == 1


async def test_start_outside_the_life_is_refused() -> None:
    with pytest.raises(RuntimeError, match="does not run"):
        Lifecycle("demo", 5).start(nothing(), "early")


def run_service(body: str, **environment: str) -> subprocess.Popen[str]:
    program = f"""
import asyncio
from pbx_runtime import lifecycle
from pbx_runtime.settings import ServiceSettings
async def service_main(life, settings):
{textwrap.indent(textwrap.dedent(body), "    ")}
lifecycle.main(service_main, ServiceSettings)
"""
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_with_code_0(number: signal.Signals) -> None:
    process = run_service("print('up', flush=True)")
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors


def test_bad_settings_end_the_process_with_code_2() -> None:
    process = run_service("pass", PBX_SHUTDOWN_S="never")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "PBX_SHUTDOWN_S: " in errors
    assert "Traceback" not in errors


POLICY = """
    import os
    from typing import ClassVar

    from pbx_runtime.lifecycle import Lifecycle, run
    from pbx_runtime.settings import ServiceSettings


    class Settings(ServiceSettings):
        service: ClassVar[str] = "demo"
        may_wait: ClassVar[bool] = {may_wait}


    async def main(lifecycle: Lifecycle, settings: Settings) -> None:
        print("BATCH" if os.sched_getscheduler(0) == os.SCHED_BATCH else "OTHER")
        lifecycle.stop()


    raise SystemExit(run(main, Settings()))
"""


@pytest.mark.parametrize(("may_wait", "policy"), [(True, "BATCH"), (False, "OTHER")])
def test_a_service_that_may_wait_preempts_nobody(may_wait: bool, policy: str) -> None:
    program = textwrap.dedent(POLICY.format(may_wait=may_wait))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert policy in done.stdout
