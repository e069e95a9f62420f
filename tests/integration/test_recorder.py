"""The relay's end of recording with a real worker process, on the relay's event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from pbx_media_relay.recording.messages import Stored
from pbx_media_relay.recording.recorder import Recorder
from pbx_media_relay.session import Call, Terms

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
