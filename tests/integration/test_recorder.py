"""The relay's end of recording with a real worker process, on the relay's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from pbx.relay.v1 import relay_pb2 as pb
from pbx_media_relay.api.grpc import Operations
from pbx_media_relay.civil import CivilTime
from pbx_media_relay.datapath.null import NullDatapath
from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.errors import UnknownCallError
from pbx_media_relay.forward import Medium, Side
from pbx_media_relay.identity import Identity
from pbx_media_relay.ports import Shard, SlotPool
from pbx_media_relay.recording.messages import Stored
from pbx_media_relay.recording.recorder import Recorder
from pbx_media_relay.relay import Order, Relay
from pbx_media_relay.session import Call, Terms
from pbx_media_relay.stream import Stream

pytestmark = pytest.mark.integration


def call(call_id: str, slot: int = 3750) -> Call:
    return Call(call_id, slot, "s1", Terms(60_000_000_000), 0)


def recorded(directory: Path, scenario: Callable[[Recorder], Coroutine[Any, Any, None]]) -> list[tuple[str, Stored]]:
    """What was stored once the scenario and the recorder have ended."""
    stored: list[tuple[str, Stored]] = []

    async def run() -> None:
        recorder = Recorder(directory, lambda call_id, file: stored.append((call_id, file)))
        try:
            await scenario(recorder)
        finally:
            await recorder.close()

    uvloop.run(run())
    return stored


def workers() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if "pbx_media_relay.recording.worker" in each.cmdline()]


def test_starts_at_once_share_a_worker_and_a_call_has_one_file(tmp_path: Path) -> None:
    async def scenario(recorder: Recorder) -> None:
        starts = [recorder.start(call(name), time.monotonic_ns()) for name in ("one", "one", "two", "one")]
        paths = await asyncio.gather(*starts)
        assert paths[0] == paths[1] == paths[3] != paths[2]
        assert len(workers()) == 1

    assert sorted(call_id for call_id, _ in recorded(tmp_path, scenario)) == ["one", "two"]


def test_a_call_released_while_its_recording_begins_is_not_recorded(tmp_path: Path) -> None:
    async def scenario(recorder: Recorder) -> None:
        pool = SlotPool(Shard(30000, 30031), random.Random(1))
        relay = Relay(pool, NullDatapath(), media_timeout_s=60, tell=lambda event: None, tap=recorder)
        operations = Operations(relay, Identity("r1", ("127.0.0.1",), "null"), CivilTime(), 6, recorder)
        streams = tuple(Stream(side, Medium.AUDIO, Endpoint("127.0.0.1", 4000 + side)) for side in Side)
        relay.allocate(Order("one", "s1", streams), 0)
        started = asyncio.ensure_future(operations.start_recording(pb.StartRecordingRequest(call_id="one")))
        await asyncio.sleep(0)
        relay.release("one", 0)
        with pytest.raises(UnknownCallError):
            await started
        assert repr(recorder) == "<Recorder 0 calls, 0 copies dropped>"

    assert [call_id for call_id, _ in recorded(tmp_path, scenario)] == ["one"]


def test_a_worker_whose_end_was_not_read_yet_is_replaced(tmp_path: Path) -> None:
    async def scenario(recorder: Recorder) -> None:
        first = await recorder.start(call("one"), time.monotonic_ns())
        assert recorder._process is not None
        recorder._process.kill()
        asyncio.get_running_loop().remove_reader(recorder._link.fileno())  # type: ignore[union-attr]
        await recorder._process.wait()
        again = await recorder.start(call("one"), time.monotonic_ns())
        assert again != first

    ((call_id, file),) = recorded(tmp_path, scenario)
    assert (call_id, file.error) == ("one", "")


def test_a_relay_with_many_open_files_records(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))

    async def scenario(recorder: Recorder) -> None:
        with contextlib.ExitStack() as files:
            for _ in range(1100):
                files.enter_context(open(os.devnull, "rb"))  # noqa: ASYNC230 -- only its number is wanted
            await recorder.start(call("one"), time.monotonic_ns())
            await asyncio.sleep(0.3)
            assert workers()

    try:
        ((_, file),) = recorded(tmp_path, scenario)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert file.duration_ms > 250
