"""What is old is forgotten, and nothing that is still needed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from ulid import ULID

from pbx.events.v1 import events_pb2 as pb
from pbx_events.envelope import Envelope, decode
from pbx_events.retention import DAY_MS, LEASE_MS, Days, Retention
from pbx_events.storage.archive import CdrFilter
from pbx_events.storage.retention import FORGET_BATCH
from pbx_events.storage.store import Store
from pbx_events.storage.subscription import DEAD, DELIVERED, PENDING, Outcome, Webhook
from pbx_events.storage.tables import attempts, cdrs, deliveries, events, exports
from pbx_runtime.clock import ManualClock
from support.call_events import answered_call

HOOK = Webhook("w1", "http://127.0.0.1:9/x", "whsec_YQ==", ("call.*", "media.*"), True, 1)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(f"sqlite+aiosqlite:///{tmp_path}/e.sqlite")
    await made.migrate()
    await made.add_webhook(HOOK)
    yield made
    await made.close()


def call(call_id: str, at_ms: int) -> list[Envelope]:
    """An answered call at that time."""
    made: list[pb.Event] = answered_call(call_id)
    for event in made:
        event.at_ms = at_ms + event.elapsed_ms
        event.id = str(ULID.from_timestamp(event.at_ms / 1000))
    return [event for one in made if (event := decode(one.SerializeToString())) is not None]


async def count(store: Store, table: sa.Table) -> int:
    ((found,),) = await store.rows(sa.select(sa.func.count()).select_from(table))
    return int(found)


async def forget(retention: Retention) -> int:
    return sum([size async for size in retention.batches()])


async def settle(store: Store, now_ms: int, state: str) -> None:
    due = await store.due("w1", now_ms, 1000)
    await store.settle([Outcome("w1", each, state, 0, each.event.at_ms, 1, 204, "") for each in due])


async def test_each_kind_goes_after_its_days(store: Store):
    clock = ManualClock()
    old_ms, new_ms = clock.epoch_ms() - 40 * DAY_MS, clock.epoch_ms() - 5 * DAY_MS
    await store.take([*call("OLD", old_ms), *call("NEW", new_ms)], [HOOK])
    await settle(store, clock.epoch_ms(), DELIVERED)
    retention = Retention(store, Days(cdrs=100, events=30), "a", clock)
    assert await forget(retention) == 18
    assert retention.forgotten == {"cdrs": 0, "events": 6, "deliveries": 6, "attempts": 6}
    assert [await count(store, table) for table in (events, deliveries, attempts, cdrs)] == [6, 6, 6, 2]
    clock.advance(70 * DAY_MS / 1000)
    assert await forget(retention) == 19, "now the old CDR, and all of the newer call but its CDR"
    assert [each["id"] for each in await store.list_cdrs(CdrFilter(limit=10))] == ["NEW"]


async def test_nothing_is_forgotten_by_default_but_what_has_days(store: Store):
    clock = ManualClock()
    await store.take(call("OLD", clock.epoch_ms() - 4000 * DAY_MS), [])
    assert await forget(Retention(store, Days(cdrs=0, events=0), "a", clock)) == 0


async def test_what_is_still_needed_stays(store: Store):
    clock = ManualClock()
    store.sinks = ("file",)
    await store.take(call("OLD", clock.epoch_ms() - 40 * DAY_MS), [HOOK])
    retention = Retention(store, Days(cdrs=30, events=30), "a", clock)
    assert await forget(retention) == 0, "a sink and an endpoint wait"
    assert [await count(store, table) for table in (events, cdrs, exports)] == [6, 1, 1]
    await store.exported("file", await store.next_exports("file", 10))
    await settle(store, clock.epoch_ms(), DEAD)
    assert await forget(retention) == 19
    assert (await store.backlog()).get(("w1", PENDING), 0) == 0


async def test_more_than_a_batch_goes_in_several(store: Store):
    clock = ManualClock()
    for first in range(0, 250, 50):
        old_ms = clock.epoch_ms() - 40 * DAY_MS
        await store.take([event for number in range(first, first + 50) for event in call(f"C{number}", old_ms)], [])
    sizes = [size async for size in Retention(store, Days(cdrs=0, events=30), "a", clock).batches()]
    assert sizes == [FORGET_BATCH] * 6


async def test_one_replica_forgets_for_all(store: Store):
    clock = ManualClock()
    a, b = (Retention(store, Days(cdrs=30, events=30), name, clock) for name in "ab")
    await forget(a)
    await store.take(call("OLD", clock.epoch_ms() - 40 * DAY_MS), [])
    assert await forget(b) == 0
    clock.advance(LEASE_MS / 1000 + 1)
    assert await forget(b) == 7
