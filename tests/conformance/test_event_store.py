"""The store of events on SQLite and on PostgreSQL: the same answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from ulid import ULID

from pbx.events.v1 import events_pb2 as pb
from pbx_events.cdr.builder import node_lost
from pbx_events.envelope import Envelope, decode, encode
from pbx_events.storage.archive import CdrFilter, EventFilter
from pbx_events.storage.ledger import MEDIA_WAIT_MS
from pbx_events.storage.store import Store
from pbx_events.storage.subscription import DEAD, DELIVERED, Outcome, Replay, Webhook
from pbx_events.storage.tables import metadata
from pbx_events.webhook.cloudevent import cloud_event
from pbx_runtime.clock import ManualClock
from pbx_runtime.errors import InvalidArgument, NotFound
from support.call_events import STARTED_MS, answered_call, cancelled_call, media_report
from support.postgres_server import postgres_server, program

HOOK = Webhook("w1", "http://x", "whsec_a", ("call.*",), True, 1)
WHOLE = Webhook("w2", "http://y", "whsec_b", ("cdr.*",), True, 2)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    if program("initdb") is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres_server() as server:
        yield server.url.replace("postgresql:", "postgresql+asyncpg:", 1)


@pytest.fixture(params=["sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    is_sqlite = request.param == "sqlite"
    url = f"sqlite+aiosqlite:///{tmp_path}/e.sqlite" if is_sqlite else request.getfixturevalue("postgres")
    made = Store(url)
    await made.migrate()
    await made.migrate()
    yield made
    await made.empty()
    await made.close()


def decoded(events: list[pb.Event]) -> list[Envelope]:
    return [found for event in events if (found := decode(event.SerializeToString())) is not None]


MORE_FILTERS: tuple[dict[str, Any], ...] = (
    {"caller": ("10*",)},
    {"user": ("77", "100*")},
    {"user": ("1004", "1008")},
    {"outcome": ("busy", "answered")},
    {"talk_ms_min": 1},
    {"duration_ms_min": 1, "caller": ("1004",)},
)


async def test_a_call_is_recorded_once_and_found_by_every_filter(store: Store):
    heard = decoded(answered_call() + cancelled_call())
    await store.take(heard, [])
    await store.take(heard, [])
    assert [cdr["id"] for cdr in await store.list_cdrs()] == ["01GONE", "01CALL"]
    for filters in (
        {"caller": ("1004",)},
        {"user": ("1008",)},
        {"outcome": ("answered",)},
        {"since_ms": 0},
        *MORE_FILTERS,
    ):
        assert "01CALL" in [cdr["id"] for cdr in await store.list_cdrs(CdrFilter(**filters))], filters  # type: ignore[arg-type]
    assert await store.list_cdrs(CdrFilter(until_ms=1)) == []
    assert [cdr["id"] for cdr in await store.list_cdrs(CdrFilter(before="01GONE"))] == ["01CALL"]
    for nothing in (
        {"caller": ("101*",)},
        {"user": ("9*", "8")},
        {"outcome": ("busy", "failed")},
        {"talk_ms_min": 10**12},
    ):
        assert await store.list_cdrs(CdrFilter(**nothing)) == [], nothing  # type: ignore[arg-type]
    assert (await store.cdr("01CALL"))["revision"] == 1
    with pytest.raises(NotFound):
        await store.cdr("none")


async def test_a_call_to_whatever_somebody_dialled_is_recorded_as_it_was(store: Store):
    for call_id, dialled in (("01LONG", "9" * 300), ("01NUL", "a\0b")):
        heard = decoded(answered_call(call_id, callee=dialled))
        await store.take(heard, [])
        assert (await store.cdr(call_id))["callee"] == dialled
    assert [cdr["id"] for cdr in await store.list_cdrs(CdrFilter(callee=("9" * 128,)))] == ["01LONG"]


async def test_what_sql_refuses_for_its_content_is_told_apart_from_sql_that_is_away(store: Store):
    if store.is_sqlite:
        await store.take(decoded(answered_call("9" * 65)), [])  # it minds no width
        return
    with pytest.raises(InvalidArgument):
        await store.take(decoded(answered_call("9" * 65)), [])
    assert await store.list_events() == []


async def test_calls_of_a_time_are_found_also_where_a_clock_stepped_between_id_and_start(store: Store):
    ids = [
        str(ULID.from_bytes((STARTED_MS + off_ms).to_bytes(6, "big") + bytes(10))) for off_ms in (-59_000, 0, 59_000)
    ]
    await store.take(decoded([event for call_id in ids for event in answered_call(call_id)]), [])
    asked: dict[str, Any]
    for asked in ({}, {"user": ("1008",)}, {"caller": ("1004",), "outcome": ("answered",)}):
        within = await store.list_cdrs(CdrFilter(since_ms=STARTED_MS, until_ms=STARTED_MS + 1, **asked))
        assert [cdr["id"] for cdr in within] == ids[::-1], asked
        assert await store.list_cdrs(CdrFilter(until_ms=STARTED_MS, **asked)) == []
        assert await store.list_cdrs(CdrFilter(since_ms=STARTED_MS + 1, **asked)) == []
        assert len(await store.list_cdrs(CdrFilter(since_ms=-(10**18), until_ms=10**18, **asked))) == 3


async def test_events_are_found_by_kind_call_and_time(store: Store):
    heard = decoded(answered_call() + cancelled_call())
    await store.take(heard, [])
    ended = await store.list_events(EventFilter(kind=("call.ended",)))
    assert {event.call_id for event in ended} == {"01CALL", "01GONE"}
    for every in (
        EventFilter(kind=("call.*", "media.*")),
        EventFilter(call_id=("01CALL", "01GONE")),
        EventFilter(until_ms=10**15),
    ):
        assert len(await store.list_events(every)) == len(heard)
    assert await store.list_events(EventFilter(kind=("registration.*", "call.held"))) == []
    assert await store.list_events(EventFilter(until_ms=min(event.at_ms for event in heard))) == []
    assert (await store.event(ended[0].id)) == ended[0]
    with pytest.raises(NotFound):
        await store.event("none")


async def test_a_prefix_ends_where_its_last_character_does(store: Store):
    for number, caller in enumerate(("10", "1\ud7ff", "11", "1\U0010ffff", "2", "1*")):
        await store.take(decoded(answered_call(f"01P{number}", caller=caller)), [])
    for prefix, wanted in (("1*", 5), ("10*", 1), ("1\ud7ff*", 1), ("1\U0010ffff*", 1), ("2*", 1), ("*", 6)):
        if prefix != "*":  # the API refuses it
            assert len(await store.list_cdrs(CdrFilter(caller=(prefix,)))) == wanted, prefix


async def test_a_lost_call_is_corrected(store: Store):
    clock = store.clock = ManualClock()
    heard = decoded(answered_call())
    await store.take(heard[:4], [])
    (call,) = await store.open_calls("s1", 10)
    assert (call.last, call.answered) == (heard[3], True)
    await store.take([node_lost(call.last, "01LOST", call.last.at_ms, answered=call.answered)], [])
    clock.advance(MEDIA_WAIT_MS / 1000)
    assert await store.fold_overdue() == 1, "its relay never told"
    lost = await store.cdr("01CALL")
    assert (lost["origin"], lost["outcome"], lost["duration_ms"]) == ("node_lost", "answered", None)
    assert await store.open_instances() == []
    for _ in range(2):  # what comes again is known by its id
        await store.take(heard[4:], [])
        assert ((await store.cdr("01CALL"))["origin"], (await store.cdr("01CALL"))["revision"]) == ("remote", 2)
    told = await store.list_events(EventFilter(call_id=("01CALL",), limit=50))
    numbers = sorted(event.sequence for event in told if event.sequence)
    assert numbers == list(range(1, len(heard) + 1)), "no number twice, none left out"


async def test_a_cdr_waits_for_its_relay_and_is_written_once(store: Store):
    clock = store.clock = ManualClock()
    store.sinks = ("file",)
    heard = decoded(answered_call())
    assert (await store.take(heard[:5], [])).cdrs == []
    assert await store.list_cdrs() == []
    assert await store.open_instances() == [], "the call is over all the same"
    assert await store.fold_overdue() == 0, "it is not time yet"
    assert len((await store.take(heard[5:], [])).cdrs) == 1
    clock.advance(MEDIA_WAIT_MS / 1000)
    assert await store.fold_overdue() == 0, "it waits no more"
    for _ in range(2):  # what comes again is known by its id
        await store.take(heard, [])
    cdr = await store.cdr("01CALL")
    assert (cdr["revision"], cdr["legs"][0]["media"][0]["packets"]) == (1, 500)
    assert await store.export_backlog("file") == 1
    assert (store.media_missing, store.media_late) == (0, 0)


async def test_figures_may_come_before_the_end(store: Store):
    heard = decoded(answered_call())
    await store.take([*heard[:4], heard[5]], [])
    assert await store.list_cdrs() == []
    await store.take([heard[4]], [])
    assert (await store.cdr("01CALL"))["legs"][0]["media"][0]["packets"] == 500


async def test_a_cdr_whose_relay_died_is_written_without_figures_and_stays_so(store: Store):
    clock = store.clock = ManualClock()
    store.sinks = ("file",)
    heard = decoded(answered_call())
    await store.take(heard[:5], [])
    clock.advance(MEDIA_WAIT_MS / 1000 - 0.001)
    assert await store.fold_overdue() == 0
    clock.advance(0.001)
    assert await store.fold_overdue() == 1
    assert (await store.cdr("01CALL"))["legs"][0]["media"] == []
    await store.take(heard[5:], [])
    late = await store.cdr("01CALL")
    assert (late["revision"], late["legs"][0]["media"]) == (1, [])
    assert await store.event(heard[5].id) == heard[5], "they are told all the same"
    assert (store.media_missing, store.media_late, await store.export_backlog("file")) == (1, 1, 1)


async def test_what_waits_is_kept_by_the_store_and_not_by_the_process(store: Store):
    clock = store.clock = ManualClock()
    heard = decoded(answered_call() + cancelled_call())
    await store.take([*heard[:5], *heard[6:10]], [])
    again = Store(store.url)
    again.clock = clock
    await again.take([heard[5]], [])
    assert [cdr["id"] for cdr in await again.list_cdrs()] == ["01CALL"]
    clock.advance(MEDIA_WAIT_MS / 1000)
    assert await again.fold_overdue() == 1
    assert {cdr["id"]: cdr["revision"] for cdr in await again.list_cdrs()} == {"01CALL": 1, "01GONE": 1}
    await again.close()


async def test_the_figures_of_another_relay_end_no_waiting(store: Store):
    heard = decoded(answered_call())
    await store.take([*heard[:5], *decoded([media_report("01CALL", "r0")])], [])
    assert await store.list_cdrs() == []
    await store.take(heard[5:], [])
    assert (await store.cdr("01CALL"))["legs"][0]["media"][0]["packets"] == 500


async def test_a_call_lost_while_it_rang_was_not_answered(store: Store):
    await store.take(decoded(answered_call())[:3], [])
    (call,) = await store.open_calls("s1", 10)
    assert not call.answered


async def test_deliveries_keep_the_order_of_a_call_and_are_replayed(store: Store):
    await store.add_webhook(HOOK)
    heard = decoded(answered_call())
    heard = heard[:5]
    await store.take(heard, [HOOK])
    assert [due.event for due in await store.due("w1", 1000, 10)] == heard
    for expected in heard:
        due = (await store.due("w1", 1000, 10))[0]
        assert due.event == expected
        await store.settle([Outcome("w1", due, DELIVERED, 0, 5, 7, 204, "thanks")])
    assert await store.due("w1", 1000, 10) == []
    assert await store.backlog() == {("w1", DELIVERED): 5}
    assert (await store.list_attempts("w1", None, 10))[0]["excerpt"] == "thanks"
    assert await store.replay(HOOK, Replay(event_ids=(heard[0].id, heard[4].id))) == 2
    due = (await store.due("w1", 1000, 10))[0]
    assert due.event == heard[0]
    await store.settle([Outcome("w1", due, DEAD, 0, 5, 7, 500, "no")])
    assert [again.event for again in await store.due("w1", 1000, 10)] == [heard[4]]


async def test_a_delivery_that_waits_is_hastened(store: Store):
    await store.add_webhook(HOOK)
    await store.take(decoded(answered_call()), [HOOK])
    due = (await store.due("w1", 1000, 10))[0]
    await store.settle([Outcome("w1", due, "pending", 9000, 5, 7, 500, "no")])
    assert await store.due("w1", 1000, 10) == []
    await store.hasten("w1")
    assert (await store.due("w1", 1000, 10))[0].attempts == 1


async def test_the_last_error_of_an_endpoint_is_that_of_its_newest_attempt(store: Store):
    other = replace(HOOK, id="w2")
    for hook in (HOOK, other, replace(HOOK, id="w3")):
        await store.add_webhook(hook)
    await store.take(decoded(answered_call()), [HOOK, other])
    for hook_id, statuses in (("w1", (500, 204)), ("w2", (204, 503))):
        first, second = (await store.due(hook_id, 1000, 10))[:2]
        for due, status in zip((first, second), statuses, strict=True):
            await store.settle([Outcome(hook_id, due, DELIVERED, 0, 5, 7, status, f"answer {status}")])
    assert await store.last_errors() == {"w2": "503 answer 503"}


async def test_a_secret_is_rotated(store: Store):
    await store.add_webhook(HOOK)
    await store.rotate("w1", "whsec_b", 100)
    hook = await store.webhook("w1")
    assert hook.secrets(99) == ("whsec_b", "whsec_a")
    assert hook.secrets(100) == ("whsec_b",)
    await store.remove_webhook("w1")
    with pytest.raises(NotFound):
        await store.rotate("w1", "whsec_c", 100)


async def test_one_replica_at_a_time_serves_an_endpoint(store: Store):
    await store.add_webhook(HOOK)
    assert await store.lease("w1", "a", 1000, 5000)
    assert not await store.lease("w1", "b", 2000, 6000)
    assert await store.lease("w1", "a", 2000, 6000), "renewed"
    assert await store.lease("w1", "b", 6001, 9000), "it ran out"
    await store.release("b")
    assert await store.lease("w1", "a", 6002, 9000), "given up"


async def test_a_subscription_of_one_user(store: Store):
    hooks = [
        Webhook("w2", "http://x", "whsec_a", (), True, 1, user="1004"),
        Webhook("w3", "http://x", "whsec_a", (), True, 1, user="1004", direction="to"),
        Webhook("w4", "http://x", "whsec_a", (), True, 1, user="1008", direction="to"),
    ]
    for hook in hooks:
        await store.add_webhook(hook)
    heard = decoded(answered_call())
    for event in heard:
        await store.take([event], hooks)
    assert await store.backlog() == {("w2", "pending"): 7, ("w4", "pending"): 7}, "the record too"


async def test_a_subscription_of_one_user_gets_its_messages(store: Store):
    hooks = [
        Webhook("w2", "http://x", "whsec_a", ("message.*",), True, 1, user="1004"),
        Webhook("w3", "http://x", "whsec_a", (), True, 1, user="1004", direction="to"),
        Webhook("w4", "http://x", "whsec_a", (), True, 1, user="1008", direction="to"),
    ]
    for hook in hooks:
        await store.add_webhook(hook)
    head = {"message_id": "01HM", "sender": "1004", "recipient": "1008@pbx.local"}
    for event in (
        pb.Event(id="01HMA", at_ms=1, source="signaling/s1", message_sent=pb.MessageSent(**head)),
        pb.Event(id="01HMB", at_ms=2, source="signaling/s1", message_failed=pb.MessageFailed(**head, sip_status=480)),
    ):
        await store.take([encode(event)], hooks)
    assert await store.backlog() == {("w2", "pending"): 2, ("w4", "pending"): 2}


async def test_the_migrations_make_what_the_code_knows(store: Store):
    def differences(connection: sa.Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"version_table": "events_schema"})
        return [found for found in compare_metadata(context, metadata) if "events_schema" not in str(found)]

    assert await store.read(differences) == []


async def on_its_way(store: Store, hook: Webhook = WHOLE) -> list[Envelope]:
    return [delivery.event for delivery in await store.due(hook.id, 2**60, 100)]


async def test_a_record_goes_whole_to_the_webhooks_that_want_it(store: Store):
    for hook in (HOOK, WHOLE):
        await store.add_webhook(hook)
    heard = decoded(answered_call())
    await store.take(heard, [HOOK, WHOLE])
    (created,) = await on_its_way(store)
    shown = cloud_event(created)
    assert (shown["type"], shown["subject"]) == ("io.pbx.cdr.created.v1", "01CALL")
    assert shown["data"]["cdr"] == await store.cdr("01CALL"), "as the API answers it"
    assert [event.type for event in await on_its_way(store, HOOK)] == [event.type for event in heard[:5]]
    await store.take(heard, [HOOK, WHOLE])
    assert await on_its_way(store) == [created], "what comes again is told once"

    recorded = pb.Event(id=str(ULID()), at_ms=STARTED_MS + 20_000, call_id="01CALL", source="media-relay/r1")
    recorded.recording_stored.path = "/rec/x.wav"
    await store.take(decoded([recorded]), [HOOK, WHOLE])
    _, updated = await on_its_way(store)
    assert updated.type == "cdr.updated"
    cdr = cloud_event(updated)["data"]["cdr"]
    assert (cdr["revision"], len(cdr["recordings"])) == (2, 1)
    assert cdr == await store.cdr("01CALL")


async def test_a_record_without_media_figures_is_told_when_it_is_written(store: Store):
    clock = store.clock = ManualClock()
    await store.add_webhook(WHOLE)
    await store.take(decoded(answered_call())[:5], [WHOLE])
    assert await on_its_way(store) == []
    clock.advance(MEDIA_WAIT_MS / 1000)
    assert await store.fold_overdue() == 1
    assert [event.type for event in await on_its_way(store)] == ["cdr.created"]


async def test_records_are_told_only_where_somebody_wants_to_hear(store: Store):
    await store.add_webhook(HOOK)
    await store.take(decoded(answered_call()), [HOOK])
    assert await store.list_events(EventFilter(kind=("cdr.*",))) == []
    other = replace(WHOLE, id="w3", user="77")
    await store.add_webhook(other)
    await store.take(decoded(answered_call("01NEXT")), [HOOK, other])
    assert await on_its_way(store, other) == [], "of another user's calls alone"
