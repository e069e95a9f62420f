"""One suite for every store of bindings: memory, and a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pbx_registrar.answer import answer
from pbx_registrar.storage.base import BindingStore, Record, Write
from pbx_registrar.storage.memory import MemoryBindings
from pbx_registrar.storage.redis import GRACE_MS, RedisBindings
from pbx_runtime.errors import Unavailable
from pbx_runtime.redis_pipe import PipelinedRedis
from support.eventually import eventually
from support.redis_server import RedisServer, redis_server

NOW_MS = 4_000_000_000_000
"""Far ahead, so that Redis's own clock never ends a record during the suite."""


@dataclass
class Rig:
    store: BindingStore
    events: Any
    """Coroutine function: the events written so far."""
    redis: PipelinedRedis | None = None

    async def put(self, aor: str, payload: bytes = b"x", first_ms: int = NOW_MS, **more: Any) -> Record | None:
        """Write over whatever stands."""
        record = await answer(self.store.read, aor)
        assert record is not None
        write = Write(
            aor=aor, expected=record.version, payload=payload, first_expiry_ms=first_ms, last_expiry_ms=first_ms, **more
        )
        return await answer(self.store.write, write)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture(params=["memory", "redis"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    if request.param == "memory":
        memory = MemoryBindings()

        async def kept() -> list[bytes]:
            return memory.events

        yield Rig(memory, kept)
        return
    url = request.getfixturevalue("server").url
    redis = PipelinedRedis(url)
    running = asyncio.ensure_future(redis.run())
    await redis.submit("FLUSHALL")

    async def written() -> list[bytes]:
        return [fields[1] for _, fields in await redis.submit("XRANGE", "evt:outbox", "-", "+")]

    yield Rig(RedisBindings(redis), written, redis)
    running.cancel()
    await asyncio.wait({running})


async def test_what_was_never_written_is_an_empty_record(rig: Rig) -> None:
    assert await answer(rig.store.read, "a@x") == Record()
    assert await answer(rig.store.count) == 0


async def test_a_write_is_read_back(rig: Rig) -> None:
    payload = bytes(range(256))
    assert await rig.put("a@x", payload) is None
    record = await answer(rig.store.read, "a@x")
    assert record is not None
    assert (record.payload, len(record.version)) == (payload, 8)


async def test_a_write_from_an_old_version_changes_nothing_and_answers_what_stands(rig: Rig) -> None:
    await rig.put("a@x", b"one")
    old = await answer(rig.store.read, "a@x")
    await rig.put("a@x", b"two")
    assert old is not None
    write = Write(aor="a@x", expected=old.version, payload=b"three", events=(b"event",))
    refused = await answer(rig.store.write, write)
    assert refused is not None
    assert refused.payload == b"two"
    assert await answer(rig.store.read, "a@x") == refused
    assert await rig.events() == []


async def test_a_write_that_expects_nothing_meets_something(rig: Rig) -> None:
    await rig.put("a@x", b"one")
    refused = await answer(rig.store.write, Write(aor="a@x", expected=b"", payload=b"two"))
    assert refused is not None
    assert refused.payload == b"one"


async def test_a_write_that_expects_something_meets_nothing(rig: Rig) -> None:
    refused = await answer(rig.store.write, Write(aor="a@x", expected=b"12345678", payload=b"two"))
    assert refused == Record()
    assert await answer(rig.store.count) == 0


async def test_the_same_payload_again_is_another_version(rig: Rig) -> None:
    await rig.put("a@x", b"one")
    first = await answer(rig.store.read, "a@x")
    await rig.put("a@x", b"one")
    assert await answer(rig.store.read, "a@x") != first


async def test_an_empty_payload_removes_record_and_indices(rig: Rig) -> None:
    await rig.put("a@x")
    assert await answer(rig.store.count) == 1
    await rig.put("a@x", b"")
    assert await answer(rig.store.read, "a@x") == Record()
    assert await answer(rig.store.count) == 0
    assert await answer(rig.store.due, NOW_MS, 10) == []
    assert await answer(rig.store.page, "", 10) == []


async def test_events_are_appended_in_order(rig: Rig) -> None:
    await rig.put("a@x", events=(b"one", b"two"))
    await rig.put("a@x", b"", events=(b"three\x00",))
    assert await rig.events() == [b"one", b"two", b"three\x00"]


async def test_due_are_those_whose_first_expiry_has_come_longest_first(rig: Rig) -> None:
    await rig.put("late@x", first_ms=NOW_MS + 1)
    await rig.put("b@x", first_ms=NOW_MS)
    await rig.put("a@x", first_ms=NOW_MS - 5)
    assert await answer(rig.store.due, NOW_MS, 10) == ["a@x", "b@x"]
    assert await answer(rig.store.due, NOW_MS, 1) == ["a@x"]
    await rig.put("a@x", first_ms=NOW_MS + 9)
    assert await answer(rig.store.due, NOW_MS, 10) == ["b@x"]


async def test_pages_go_in_order_of_octets(rig: Rig) -> None:
    for aor in ("é@x", "b@x", "a@x", "B@x"):
        await rig.put(aor, aor.encode())
    rows = [("B@x", b"B@x"), ("a@x", b"a@x"), ("b@x", b"b@x"), ("é@x", "é@x".encode())]
    assert await answer(rig.store.page, "", 10) == rows
    assert await answer(rig.store.page, "", 2) == rows[:2]
    assert await answer(rig.store.page, "a@x", 2) == rows[2:]
    assert await answer(rig.store.page, "é@x", 2) == []


async def test_of_writers_at_once_one_wins(rig: Rig) -> None:
    await rig.put("a@x", b"start")
    record = await answer(rig.store.read, "a@x")
    assert record is not None
    writes = [Write(aor="a@x", expected=record.version, payload=f"{n}".encode(), events=(b"e",)) for n in range(20)]
    refused = await asyncio.gather(*(answer(rig.store.write, write) for write in writes))
    assert sum(each is None for each in refused) == 1
    assert len(await rig.events()) == 1


async def test_a_record_in_redis_outlives_its_bindings_by_the_grace(server: RedisServer) -> None:
    redis = PipelinedRedis(server.url)
    running = asyncio.ensure_future(redis.run())
    try:
        await redis.submit("FLUSHALL")
        rig = Rig(RedisBindings(redis), None)
        await rig.put("a@x", first_ms=NOW_MS)
        seconds, micros = await redis.submit("TIME")
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        left_ms = await redis.submit("PTTL", "reg:b:a@x")
        assert abs(now_ms + left_ms - NOW_MS - GRACE_MS) < 5_000
        assert sorted(await redis.submit("KEYS", "*")) == [b"reg:aors", b"reg:b:a@x", b"reg:due"]
    finally:
        running.cancel()
        await asyncio.wait({running})


async def test_a_store_out_of_reach_says_so_and_recovers() -> None:
    with redis_server() as server:
        redis = PipelinedRedis(server.url)
        running = asyncio.ensure_future(redis.run())
        try:
            rig = Rig(RedisBindings(redis), None)
            await rig.put("a@x")
            server.kill()
            await eventually(lambda: not redis.is_up)
            with pytest.raises(Unavailable):
                await answer(rig.store.read, "a@x")
            with pytest.raises(Unavailable):
                await answer(rig.store.due, NOW_MS, 10)
            with pytest.raises(Unavailable):
                await answer(rig.store.page, "", 10)
            server.start()
            await eventually(lambda: redis.is_up)
            assert await rig.put("a@x") is None
        finally:
            running.cancel()
            await asyncio.wait({running})
