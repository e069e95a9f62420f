"""Calls whose owner vanished are closed once, also by two reapers, and corrected where the owner speaks after all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from pbx.events.v1 import events_pb2 as pb
from pbx_events.envelope import Envelope, decode
from pbx_events.reaper import GRACE_S, LEASE, RUN, Absence, Reaper
from pbx_events.storage.archive import CdrFilter, EventFilter
from pbx_events.storage.ledger import MEDIA_WAIT_MS
from pbx_events.storage.store import Store
from pbx_events.storage.subscription import Outcome, Replay, Webhook
from pbx_runtime.clock import ManualClock, SystemClock
from support.call_events import answered_call, cancelled_call
from support.redis_server import redis_server

pytestmark = pytest.mark.integration


def decoded(events: list[pb.Event]) -> list[Envelope]:
    return [found for event in events if (found := decode(event.SerializeToString())) is not None]


async def opened(path: Path) -> Store:
    store = Store(f"sqlite+aiosqlite:///{path}/events.sqlite")
    await store.migrate()
    return store


class Answering:
    """The one method of PipelinedRedis that the reaper uses, on another client."""

    def __init__(self, client: Any) -> None:
        self.submit = client.execute_command


def reaper_of(client: Any, store: Store, *, is_current: bool = True) -> Reaper:
    async def take(batch: list[Envelope]) -> None:
        await store.take(batch, [])

    return Reaper(Answering(client), store, take, lambda: is_current)  # type: ignore[arg-type]


async def fold_overdue(store: Store) -> None:
    """As time goes by: the relay of a lost call told nothing of it."""
    later = ManualClock(epoch=SystemClock().epoch_ms())
    later.advance(MEDIA_WAIT_MS / 1000)
    store.clock = later
    assert await store.fold_overdue() == 1
    store.clock = SystemClock()


async def test_a_lost_call_is_closed_after_the_grace_and_corrected_by_its_owner(tmp_path: Path):
    store = await opened(tmp_path)
    with redis_server() as server:
        async with redis.asyncio.Redis.from_url(server.url) as client:
            heard = decoded(answered_call())
            await store.take([*heard[:4], *decoded(cancelled_call())], [])
            assert await store.open_instances() == ["s1"], "the cancelled call is over"
            reapers = [reaper_of(client, store), reaper_of(client, store)]
            await client.set(LEASE + "s1", "x")
            for now in (0.0, GRACE_S, 2 * GRACE_S):
                await reapers[0].look(now)
            assert await store.list_cdrs(CdrFilter(caller=("1004",), outcome=("answered",))) == [], "its owner lives"
            await client.delete(LEASE + "s1")
            for reaper in reapers:
                await reaper.look(1000.0)
                await reaper.look(1000.0 + GRACE_S - 1)
            assert await store.list_cdrs(CdrFilter(outcome=("answered",))) == [], "not before the grace is over"
            for reaper in reapers:
                await reaper.look(1000.0 + GRACE_S)
            await fold_overdue(store)
            lost = await store.cdr("01CALL")
            assert (lost["origin"], lost["cause"], lost["revision"]) == ("node_lost", "node_lost", 1)
            assert await store.open_instances() == []
            ends = await store.list_events(EventFilter(kind=("call.ended",), call_id=("01CALL",)))
            assert len(ends) == 1
            await store.take(heard[4:], [])
            right = await store.cdr("01CALL")
            assert (right["origin"], right["talk_ms"], right["revision"]) == ("remote", 10_000, 2)
            await store.take(heard, [])
            assert (await store.cdr("01CALL"))["revision"] == 2, "a repetition is no correction"
    await store.close()


async def test_nothing_is_closed_while_the_outbox_is_behind(tmp_path: Path):
    store = await opened(tmp_path)
    with redis_server() as server:
        async with redis.asyncio.Redis.from_url(server.url) as client:
            await store.take(decoded(answered_call()[:2]), [])
            behind = reaper_of(client, store, is_current=False)
            await behind.look(0.0)
            await behind.look(10 * GRACE_S)
            assert await store.open_instances() == ["s1"]
    await store.close()


def test_an_instance_that_came_back_starts_anew():
    absence = Absence(10)
    assert absence.gone(["a", "b"], {"b"}, 0) == []
    assert absence.gone(["a", "b"], {"a", "b"}, 5) == []
    assert absence.gone(["a", "b"], {"b"}, 10) == []
    assert absence.gone(["a", "b"], {"b"}, 20) == ["a"]


async def test_the_first_event_may_come_last(tmp_path: Path):
    store = await opened(tmp_path)
    heard = decoded(answered_call())
    for event in reversed(heard):
        await store.take([event], [])
    assert (await store.cdr("01CALL"))["talk_ms"] == 10_000
    assert await store.open_instances() == []
    await store.close()


async def test_one_call_that_waits_holds_up_no_other_and_replay_sends_again(tmp_path: Path):
    store = await opened(tmp_path)
    hook = Webhook("w1", "http://x", "whsec_", ("call.*",), True, 1)
    await store.add_webhook(hook)
    calls = [decoded(answered_call(f"01CALL{n:03d}")) for n in range(100)]
    await store.take([event for call in calls for event in call], [hook])
    first = await store.due("w1", 1, 32)
    await store.settle([Outcome("w1", first[0], "pending", 9000, 5, 7, 500, "no")])
    rest = await store.due("w1", 1, 1000)
    assert {delivery.event.call_id for delivery in rest} == {call[0].call_id for call in calls[1:]}
    assert await store.replay(hook, Replay(event_ids=(calls[0][4].id,))) == 1
    assert await store.replay(hook, Replay(since_ms=0, until_ms=calls[0][0].at_ms + 1)) == 100
    assert await store.replay(hook, Replay(since_ms=calls[0][4].at_ms + 1)) == 0
    await store.close()


async def test_an_instance_that_restarted_under_its_id_lost_its_calls(tmp_path: Path):
    store = await opened(tmp_path)
    heard = [event for event in answered_call()[:4] if not setattr(event, "source", "signaling/s1.m1")]
    with redis_server() as server:
        async with redis.asyncio.Redis.from_url(server.url) as client:
            await store.take(decoded(heard), [])
            assert await store.open_instances() == ["s1.m1"]
            await client.set(LEASE + "s1", "x")
            await client.set(RUN + "s1", "m1")
            reaper = reaper_of(client, store)
            for now in (0.0, GRACE_S):
                await reaper.look(now)
            assert reaper.closed == 0, "the incarnation that holds the call lives"
            await client.set(RUN + "s1", "m2")
            for now in (100.0, 100.0 + GRACE_S):
                await reaper.look(now)
            await fold_overdue(store)
            lost = await store.cdr("01CALL")
            assert (lost["origin"], lost["instance"], lost["talk_ms"]) == ("node_lost", "signaling/s1", None)
    await store.close()
