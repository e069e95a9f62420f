"""The relay's end of recording with a real worker process, on the relay's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from pbx_media_relay.recording.messages import Stored
from pbx_media_relay.recording.recorder import Recorder
from pbx_media_relay.recording.room import Bounds
from pbx_media_relay.session import Call, Terms
from support.eventually import eventually
from support.waiting import until

pytestmark = pytest.mark.integration


def call(call_id: str, slot: int = 3750) -> Call:
    return Call(call_id, slot, "s1", Terms(60_000_000_000), 0)


def recorded(
    directory: Path, scenario: Callable[[Recorder], Coroutine[Any, Any, None]], bounds: Bounds | None = None
) -> list[tuple[str, Stored]]:
    """What was stored once the scenario and the recorder have ended."""
    stored: list[tuple[str, Stored]] = []

    async def run() -> None:
        recorder = Recorder(directory, lambda call_id, file: stored.append((call_id, file)), bounds)
        try:
            await scenario(recorder)
        finally:
            await recorder.close()

    uvloop.run(run())
    return stored


def workers() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if "pbx_media_relay.recording.worker" in _cmdline(each)]


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []  # it has just ended


def test_starts_share_a_worker_and_a_call_has_one_file(tmp_path: Path) -> None:
    async def scenario(recorder: Recorder) -> None:
        paths = [recorder.start(call(name), time.monotonic_ns()) for name in ("one", "one", "two", "one")]
        assert paths[0] == paths[1] == paths[3] != paths[2]
        # a process has no command line yet in the moment in which its parent goes on
        assert len(await asyncio.to_thread(until, workers, timeout_s=5, what="worker")) == 1

    assert sorted(call_id for call_id, _ in recorded(tmp_path, scenario)) == ["one", "two"]


def test_the_worker_keeps_to_the_bounds_of_the_recorder(tmp_path: Path) -> None:
    async def scenario(recorder: Recorder) -> None:
        recorder.start(call("c1"), time.monotonic_ns())
        await eventually(lambda: not recorder._by_call, timeout_s=10)

    ((call_id, file),) = recorded(tmp_path / "full", scenario, Bounds(bytes_max=10, free_min=0.0))
    assert (call_id, file.bytes) == ("c1", 0)
    assert "of 10 bytes" in file.error
    ((_, file),) = recorded(tmp_path / "disk", scenario, Bounds(free_min=1.0))
    assert "of the disk is free" in file.error


def test_a_worker_whose_end_was_not_read_yet_is_replaced(tmp_path: Path) -> None:
    async def scenario(recorder: Recorder) -> None:
        first = recorder.start(call("one"), time.monotonic_ns())
        assert recorder._process is not None
        recorder._process.kill()
        asyncio.get_running_loop().remove_reader(recorder._link.fileno())  # type: ignore[union-attr]
        recorder._process.wait()
        again = recorder.start(call("one"), time.monotonic_ns())
        assert again != first

    ((call_id, file),) = recorded(tmp_path, scenario)
    assert (call_id, file.error) == ("one", "")


def test_a_worker_that_died_leaves_the_relay_at_rest(tmp_path: Path) -> None:
    """The end of the link is noticed once: it is always readable, and would wake the loop for ever."""
    faults: list[dict[str, Any]] = []

    async def scenario(recorder: Recorder) -> None:
        loop, me = asyncio.get_running_loop(), psutil.Process()
        loop.set_exception_handler(lambda _, context: faults.append(context))
        first = recorder.start(call("one"), time.monotonic_ns())
        assert recorder._process is not None
        recorder._process.kill()
        await eventually(lambda: recorder._link is None, timeout_s=20)
        assert repr(recorder) == "<Recorder 0 calls, 0 copies dropped>"
        before, woken = sum(me.cpu_times()[:2]), me.num_ctx_switches().voluntary
        await asyncio.sleep(1)
        assert sum(me.cpu_times()[:2]) - before < 0.25, "the loop spins"
        assert me.num_ctx_switches().voluntary - woken < 200
        recorder.tick()
        assert not [each for each in me.children() if each.status() == psutil.STATUS_ZOMBIE]
        recorder.packet(3750 * 4, b"x" * 172, time.monotonic_ns())  # of a call whose recording was lost
        recorder.stop("one", time.monotonic_ns())
        assert recorder.start(call("one"), time.monotonic_ns()) != first

    ((call_id, file),) = recorded(tmp_path, scenario)
    assert (call_id, file.error) == ("one", "")
    assert not faults


def test_a_relay_with_many_open_files_records(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))

    async def scenario(recorder: Recorder) -> None:
        with contextlib.ExitStack() as files:
            for _ in range(1100):
                files.enter_context(open(os.devnull, "rb"))  # noqa: ASYNC230 -- only its number is wanted
            recorder.start(call("one"), time.monotonic_ns())
            await asyncio.sleep(0.3)
            assert workers()

    try:
        ((_, file),) = recorded(tmp_path, scenario)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert file.duration_ms > 250


FORKS = """
import asyncio, ctypes, sys
from pathlib import Path
import uvloop
from pbx_media_relay.recording.recorder import Recorder

forks = []
CALLBACK = ctypes.CFUNCTYPE(None)
prepare = CALLBACK(lambda: forks.append(1))
assert ctypes.CDLL(None).__register_atfork(prepare, None, None, None) == 0

async def main():
    recorder = Recorder(Path(sys.argv[1]), print)
    recorder._ensure_worker()
    assert recorder._process.poll() is None
    await recorder.close()
    recorded = len(forks)
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    print(recorded, len(forks))

uvloop.run(main())
"""


def test_the_worker_starts_without_the_handlers_of_a_fork(tmp_path: Path) -> None:
    """gRPC has some that abort the child now and then, where its threads were at work; uvloop's way runs them."""
    done = subprocess.run([sys.executable, "-c", FORKS, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout == "0 1\n"
