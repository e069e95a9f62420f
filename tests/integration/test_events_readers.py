"""Two replicas of events: one reads the outbox at a time, so that the events of a call are stored in their order."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio

from pbx.events.v1 import events_pb2 as pb
from pbx_events.dispatch import CLAIM_AFTER_MS, GROUP, LEASE, LEASE_MS, STREAM, UNSTORABLE, Dispatch
from pbx_events.envelope import Envelope
from pbx_events.storage.ledger import Taken
from pbx_events.storage.store import Store
from pbx_events.storage.subscription import Webhook
from pbx_runtime.clock import Clock, ManualClock
from pbx_runtime.redis_pipe import PipelinedRedis
from support.call_events import answered_call
from support.postgres_server import postgres_server, program
from support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.integration
HOOK = Webhook("w1", "http://x", "whsec_a", ("call.*",), True, 1)


class Slow(Store):
    """Its replica stores what it read later than another would store what came after."""

    async def take(self, batch: Sequence[Envelope], hooks: Sequence[Webhook]) -> Taken:
        await asyncio.sleep(0.3)
        return await super().take(batch, hooks)


@pytest.fixture(scope="module")
def sql() -> Iterator[str]:
    if program("initdb") is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres_server() as server:
        yield server.url.replace("postgresql:", "postgresql+asyncpg:", 1)


@pytest.fixture
async def store(sql: str) -> AsyncIterator[Store]:
    made = Store(sql)
    await made.migrate()
    await made.add_webhook(HOOK)
    yield made
    await made.empty()
    await made.close()


@pytest.fixture
async def slow(sql: str) -> AsyncIterator[Store]:
    made = Slow(sql)
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbx_events.dispatch.STANDBY_S", 0.05)


@asynccontextmanager
async def replica(server: RedisServer, store: Store, name: str, clock: Clock | None = None) -> AsyncIterator[Dispatch]:
    outbox = PipelinedRedis(server.url)
    dispatch = Dispatch(outbox, name, store, clock)
    tasks = {asyncio.create_task(outbox.run()), asyncio.create_task(dispatch.run())}
    try:
        yield dispatch
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def events_of(call_id: str) -> Iterator[pb.Event]:
    for number, event in enumerate(answered_call(), 1):
        event.call_id, event.id = call_id, f"{call_id[:20]}{number:04d}"
        yield event


async def write(client: Any, call_id: str, sequences: range) -> None:
    """Events of a call, one by one, as its signaling writes them."""
    for number, event in enumerate(events_of(call_id), 1):
        if number in sequences:
            await client.xadd(STREAM, {"e": event.SerializeToString()})


async def stored(store: Store, count: int) -> dict[str, list[int]]:
    """The sequences of each call, in the order in which they go to the endpoint."""
    async with asyncio.timeout(20):
        while len(due := await store.due(HOOK.id, 2**62, 10_000)) < count:
            await asyncio.sleep(0.05)
    calls = defaultdict[str, list[int]](list)
    for delivery in due:
        calls[delivery.event.call_id].append(delivery.event.sequence)
    return calls


async def test_the_events_of_a_call_are_stored_in_order_by_two_replicas(store: Store, slow: Store):
    with redis_server() as server:
        async with (
            redis.asyncio.Redis.from_url(server.url) as client,
            replica(server, slow, "e1") as one,
            replica(server, store, "e2") as other,
        ):
            for start in range(1, 6):
                for number in range(60):
                    await write(client, f"01CALL{number:03d}", range(start, start + 1))
            calls = await stored(store, 300)
            assert {one.is_reader, other.is_reader} == {True, False}
            assert {one.taken, other.taken} == {300, 0}
    assert list(calls.values()) == [[1, 2, 3, 4, 5]] * 60


async def test_a_standby_goes_on_in_order_where_the_reader_died(store: Store):
    clock = ManualClock()
    with redis_server() as server:
        async with redis.asyncio.Redis.from_url(server.url) as client:
            await client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
            assert await store.hold(LEASE, "e1", clock.epoch_ms(), clock.epoch_ms() + LEASE_MS)
            await write(client, "01CALL", range(1, 3))
            await client.xreadgroup(GROUP, "e1", {STREAM: ">"}, count=100)  # and was killed
            await write(client, "01CALL", range(3, 6))
            async with replica(server, store, "e2", clock) as standby:
                await asyncio.sleep(0.3)
                assert not standby.is_reader
                assert not await store.list_events(), "not while the lease stands"
                clock.advance(LEASE_MS / 1000 + 1)
                assert await stored(store, 5) == {"01CALL": [1, 2, 3, 4, 5]}
                assert standby.is_reader


async def test_a_reader_that_let_go_is_followed_at_once(store: Store):
    with redis_server() as server:
        async with redis.asyncio.Redis.from_url(server.url) as client, replica(server, store, "e2") as standby:
            async with replica(server, store, "e1"):
                await write(client, "01CALL", range(1, 3))
                await stored(store, 2)
            for name in ("e1", "e2"):  # whichever it was
                await store.let_go(name)
            await write(client, "01CALL", range(3, 6))
            assert await stored(store, 5) == {"01CALL": [1, 2, 3, 4, 5]}
            assert standby.is_reader


async def test_a_reader_that_slept_through_its_lease_takes_over_again(store: Store):
    clock = ManualClock()
    with redis_server() as server:
        async with redis.asyncio.Redis.from_url(server.url) as client, replica(server, store, "e1", clock) as reader:
            await write(client, "01CALL", range(1, 2))
            await stored(store, 1)
            other = clock.epoch_ms() + LEASE_MS + 1
            assert await store.hold(LEASE, "e2", other, other + LEASE_MS)
            clock.advance(LEASE_MS / 1000 + 1)
            async with asyncio.timeout(5):
                while reader.is_reader:
                    await asyncio.sleep(0.02)
            await write(client, "01CALL", range(2, 4))
            await client.xreadgroup(GROUP, "e2", {STREAM: ">"}, count=1)  # and dies as well
            clock.advance(LEASE_MS / 1000 + 1)
            assert await stored(store, 3) == {"01CALL": [1, 2, 3]}


async def test_an_event_that_sql_refuses_is_set_aside_and_stops_no_other(store: Store):
    with redis_server() as server:
        async with redis.asyncio.Redis.from_url(server.url) as client, replica(server, store, "e1") as reader:
            await write(client, "01CALL", range(1, 3))
            await write(client, "9" * 65, range(1, 2))  # longer than its column
            await write(client, "01CALL", range(3, 6))
            assert await stored(store, 5) == {"01CALL": [1, 2, 3, 4, 5]}
            async with asyncio.timeout(5):
                while await client.xlen(STREAM):
                    await asyncio.sleep(0.02)
            ((_, kept),) = await client.xrange(UNSTORABLE)
            assert kept[b"e"] == next(iter(events_of("9" * 65))).SerializeToString()
            assert (reader.unstorable, reader.taken) == (1, 5)


async def test_under_steady_load_the_reader_is_current(store: Store):
    """The reaper waits for that; it must not have to wait for a quiet night."""
    with redis_server() as server:
        async with redis.asyncio.Redis.from_url(server.url) as client, replica(server, store, "e1") as reader:
            await write(client, "01CALL", range(1, 2))
            await stored(store, 1)
            for number in range(20):
                await write(client, f"01CALL{number}", range(1, 3))
                await asyncio.sleep(0.03)
                assert reader.is_current


async def test_what_a_former_reader_left_is_taken_after_a_while(store: Store):
    clock = ManualClock()
    with redis_server() as server:
        async with redis.asyncio.Redis.from_url(server.url) as client, replica(server, store, "e1", clock) as reader:
            await write(client, "01CALL", range(1, 2))
            await stored(store, 1)
            await write(client, "01OTHER", range(1, 3))
            entries = await client.xrange(STREAM)
            left = [entry_id for entry_id, _ in entries]
            await client.xclaim(STREAM, GROUP, "e0", 0, left, idle=CLAIM_AFTER_MS + 1, force=True)
            clock.advance(LEASE_MS / 1000 / 2 + 1)  # the lease is renewed
            assert (await stored(store, 3))["01OTHER"] == [1, 2]
            assert reader.is_reader
