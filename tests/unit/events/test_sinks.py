"""Sinks: every CDR arrives, in order, whatever fails; files are whole lines, rotated and bounded."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pbx_events.envelope import Envelope, decode
from pbx_events.sink.base import FakeSink, SinkError
from pbx_events.sink.exporter import BATCH, IDLE_S, LEASE_MS, Exporter
from pbx_events.sink.http import HttpBatch
from pbx_events.sink.jsonl import JsonLines
from pbx_events.storage.store import Store
from pbx_runtime.clock import ManualClock
from support.call_events import answered_call

DAY_S = 86_400


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(f"sqlite+aiosqlite:///{tmp_path}/e.sqlite")
    await made.migrate()
    made.sinks = ("fake",)
    yield made
    await made.close()


def calls(first: int, count: int) -> list[Envelope]:
    made = [event for number in range(first, first + count) for event in answered_call(f"01CALL{number:04d}")]
    return [event for one in made if (event := decode(one.SerializeToString())) is not None]


def ids(lines: list[bytes]) -> list[str]:
    return [json.loads(line)["id"] for line in lines]


async def test_every_cdr_is_exported_once_and_in_order(store: Store):
    sink = FakeSink()
    exporter = Exporter(store, sink, "a", ManualClock())
    await store.take(calls(0, BATCH + 3), [])
    assert await exporter.turn() == 0.0
    assert await exporter.turn() == IDLE_S
    assert await exporter.turn() == IDLE_S
    assert ids(sink.lines) == [f"01CALL{number:04d}" for number in range(BATCH + 3)]
    assert json.loads(sink.lines[0])["revision"] == 1
    await exporter.count()
    assert (exporter.exported, exporter.failures, exporter.backlog) == (BATCH + 3, 0, 0)


async def test_a_sink_that_fails_gets_the_same_batch_again_after_growing_pauses(store: Store):
    sink = FakeSink()
    exporter = Exporter(store, sink, "a", ManualClock())
    sink.failures = 4
    await store.take(calls(0, 2), [])
    pauses = [await exporter.turn() for _ in range(4)]
    assert pauses == sorted(pauses)
    assert pauses[3] > 5
    await store.take(calls(2, 1), [])
    await exporter.turn()
    await exporter.turn()
    assert [(name, ids(lines)) for name, lines in sink.batches] == [
        ("fake-1-2", ["01CALL0000", "01CALL0001"]),
        ("fake-3-3", ["01CALL0002"]),
    ]
    assert exporter.failures == 4


async def test_a_correction_is_exported_too(store: Store):
    sink = FakeSink()
    exporter = Exporter(store, sink, "a", ManualClock())
    *most, late, end, media = calls(0, 1)
    await store.take([*most, end, media], [])
    await exporter.turn()
    await store.take([late], [])
    await exporter.turn()
    assert [json.loads(line)["revision"] for line in sink.lines] == [1, 2]


async def test_one_replica_exports_until_its_lease_runs_out(store: Store):
    clock, first, second = ManualClock(), FakeSink(), FakeSink()
    a, b = Exporter(store, first, "a", clock), Exporter(store, second, "b", clock)
    await store.take(calls(0, 1), [])
    await a.turn()
    await store.take(calls(1, 1), [])
    await b.turn()
    assert (len(first.lines), len(second.lines)) == (1, 0)
    clock.advance(LEASE_MS / 1000 + 1)
    await b.turn()
    await a.turn()
    assert (ids(first.lines), ids(second.lines)) == (["01CALL0000"], ["01CALL0001"])


async def test_a_store_without_sinks_queues_nothing(store: Store):
    store.sinks = ()
    await store.take(calls(0, 1), [])
    assert await store.export_backlog("fake") == 0


def lines_of(path: Path) -> list[bytes]:
    data = path.read_bytes()
    assert data.endswith(b"\n")
    return data.splitlines()


def rotated(directory: Path) -> list[Path]:
    return sorted(directory.glob("cdr-*.jsonl"))


async def test_files_hold_whole_lines_and_only_the_owner_writes_them(tmp_path: Path):
    sink = JsonLines(tmp_path / "cdr", 3)
    await sink.put("1", [b'{"id":"a"}', b'{"id":"b"}'])
    await sink.put("2", [b'{"id":"c"}'])
    path = tmp_path / "cdr" / "cdr.jsonl"
    assert ids(lines_of(path)) == ["a", "b", "c"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("torn", [b'{"id":"to', b"x" * 200_000])
async def test_half_a_line_that_a_crash_left_is_cut_off(tmp_path: Path, torn: bytes):
    sink = JsonLines(tmp_path, 3)
    await sink.put("1", [b'{"id":"a"}'])
    with (tmp_path / "cdr.jsonl").open("ab") as file:
        file.write(torn)
    await sink.put("2", [b'{"id":"b"}'])
    assert ids(lines_of(tmp_path / "cdr.jsonl")) == ["a", "b"]


async def test_files_are_rotated_by_size_and_by_day_and_the_oldest_go(tmp_path: Path):
    now = [20_000 * DAY_S + 10.0]
    sink = JsonLines(tmp_path, 3, max_bytes=30, epoch_s=lambda: now[0])
    for number in range(6):
        await sink.put(str(number), [b'{"id":"%d","of":"size"}' % number])
        os.utime(tmp_path / "cdr.jsonl", (now[0], now[0]))
        now[0] += 1
    assert [ids(lines_of(path)) for path in rotated(tmp_path)] == [["2"], ["3"], ["4"]]
    now[0] += DAY_S
    await sink.put("day", [b"{}"])
    assert lines_of(tmp_path / "cdr.jsonl") == [b"{}"]


async def test_a_disk_that_refuses_is_told_and_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sink = JsonLines(tmp_path, 3)
    await sink.put("1", [b'{"id":"a"}'])
    written = os.write

    def full(descriptor: int, data: Any) -> int:
        if len(data) < 10:
            raise OSError(28, "No space left on device")
        return written(descriptor, bytes(data[:10]))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SinkError, match="No space left"):
        await sink.put("2", [b'{"id":"bb"}'])
    monkeypatch.undo()
    assert ids(lines_of(tmp_path / "cdr.jsonl")) == ["a"]


class Receiver:
    """An HTTP server that answers with the statuses that it is given, then with 204."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = iter(statuses)
        self.seen: list[tuple[dict[str, str], bytes]] = []

    async def __aenter__(self) -> str:
        app = web.Application()
        app.router.add_post("/cdrs", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        (address,) = self._runner.addresses
        return f"http://127.0.0.1:{address[1]}/cdrs"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        self.seen.append((dict(request.headers), await request.read()))
        return web.Response(status=next(self._statuses, 204))


async def test_batches_go_by_http_with_a_token_and_an_idempotency_key(store: Store):
    receiver = Receiver(503, 302)
    async with receiver as url:
        sink = HttpBatch(url, "s3cret")
        store.sinks = ("http",)
        exporter = Exporter(store, sink, "a", ManualClock())
        await store.take(calls(0, 2), [])
        assert [await exporter.turn() > IDLE_S / 2 for _ in range(3)] == [True] * 3
        await sink.close()
    assert (exporter.failures, exporter.exported) == (2, 2)
    assert len({head["idempotency-key"] for head, _ in receiver.seen}) == 1
    head, body = receiver.seen[-1]
    assert (head["Authorization"], head["Content-Type"]) == ("Bearer s3cret", "application/x-ndjson")
    assert ids(body.splitlines()) == ["01CALL0000", "01CALL0001"]
    assert "s3cret" not in repr(sink)


async def test_a_url_without_anybody_behind_it_is_a_sink_error():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    sink = HttpBatch(f"http://127.0.0.1:{port}/")
    with pytest.raises(SinkError, match="ClientConnector"):
        await sink.put("1", [b"{}"])
    await sink.close()
