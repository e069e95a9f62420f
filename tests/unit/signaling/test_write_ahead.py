"""Write-ahead: nothing of a step leaves before its events are stored, and calls survive a Redis that is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from pbx_signaling.calls import commands as c
from pbx_signaling.effects import write_ahead as journal_module
from pbx_signaling.effects.fake_outbox import MemoryOutbox
from pbx_signaling.effects.write_ahead import Journal
from pbx_signaling.users import questions as q
from pbx_signaling.users.step import Ask, Step
from pbx_sip.address import Flow, HostPort, Transport

FLOW = Flow(Transport.UDP, HostPort("192.0.2.1", 5060))


def make(outbox: Any) -> tuple[Journal, list[bytes]]:
    """A journal, and what it lets go: transmissions, and the kinds of questions."""
    sent: list[bytes] = []
    journal = Journal(
        outbox,
        lambda data, flow: sent.append(data),
        lambda ask: sent.append(type(ask.question).__name__.encode()),
        asyncio.get_running_loop(),
    )
    return journal, sent


def step(call_id: str, *transmits: bytes, record: c.Record | None = None, asks: tuple[q.Question, ...] = ()) -> Step:
    return Step(
        call_id,
        records=() if record is None else (c.Emit(record),),
        events=() if record is None else (record.name.encode(),),
        snapshot=b"state",
        asks=tuple(Ask(cast("Any", None), call_id, question) for question in asks),
        transmits=tuple((data, FLOW) for data in transmits),
    )


async def test_transmissions_wait_for_their_events():
    outbox = MemoryOutbox(held=True)
    journal, sent = make(outbox)
    journal.perform(step("01CALL", b"180", record=c.Record.RINGING))
    assert not sent
    outbox.release()
    assert (sent, outbox.events) == ([b"180"], [b"RINGING"])


async def test_later_steps_of_the_call_wait_behind_and_other_calls_do_not():
    outbox = MemoryOutbox(held=True)
    journal, sent = make(outbox)
    entry, other = "01CALL", "02CALL"
    journal.perform(step(entry, b"first", record=c.Record.RINGING))
    journal.perform(step(entry, b"second"))
    journal.perform(step(other, b"other"))
    assert sent == [b"other"]
    outbox.release()
    assert sent == [b"other", b"first", b"second"]


async def test_without_redis_live_calls_go_on_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal_module, "PATIENCE_S", 0.01)
    outbox = MemoryOutbox(broken=True)
    journal, sent = make(outbox)
    told: list[bool] = []
    journal.on_ready = told.append
    entry = "01CALL"
    journal.perform(step(entry, b"200", record=c.Record.ANSWERED))
    journal.perform(step(entry, b"BYE", record=c.Record.ENDED))
    assert sent == [b"200", b"BYE"], "not held back by a store that refuses"
    assert (journal.ready, journal.backlog, told) == (False, 2, [False])
    outbox.broken = False
    assert await journal.flush(2)
    async with asyncio.timeout(2):
        while not journal.ready:
            await asyncio.sleep(0.01)
    assert outbox.events == [b"ANSWERED", b"ENDED"]
    assert told == [False, True]


async def test_a_silent_redis_holds_calls_back_only_so_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal_module, "PATIENCE_S", 0.01)
    outbox = MemoryOutbox(held=True)
    journal, sent = make(outbox)
    journal.perform(step("01CALL", b"200", record=c.Record.ANSWERED))
    async with asyncio.timeout(2):
        while not sent:
            await asyncio.sleep(0.005)
    assert not journal.ready
    outbox.held = False
    outbox.release()
    async with asyncio.timeout(2):
        while not journal.ready:
            await asyncio.sleep(0.01)
    assert set(outbox.events) == {b"ANSWERED"}, "perhaps twice: under one event id"


async def test_orders_to_relays_wait_for_their_records_and_leave_before_what_phones_hear():
    outbox = MemoryOutbox(held=True)
    journal, sent = make(outbox)
    told = q.Update("01CALL", cast("Any", None), [])
    journal.perform(step("01CALL", b"200", record=c.Record.ANSWERED, asks=(q.Find("1008@pbx.local"), told)))
    journal.perform(step("01CALL", asks=(q.Release("01CALL", cast("Any", None)),)))
    assert not sent, "questions that wait for nothing are the driver's"
    outbox.release()
    assert sent == [b"Update", b"200", b"Release"]


async def test_nothing_is_left_of_writes_that_are_answered_at_once():
    journal, _ = make(MemoryOutbox())
    for _ in range(3):
        journal.perform(step("01CALL", b"x", record=c.Record.RINGING))
    assert (len(journal._order), len(journal._held), journal._timer) == (0, 0, None)


class Late:
    """An outbox whose writes are answered by the test, one by one."""

    def __init__(self) -> None:
        self.writes: list[tuple[list[bytes], Callable[[bool], None]]] = []
        self.stored: list[bytes] = []

    def write(self, call_id: str, events: list[bytes], state: bytes, done: Callable[[bool], None]) -> None:
        self.writes.append((events, done))

    def answer(self, stored: bool) -> None:
        events, done = self.writes.pop(0)
        self.stored += events if stored else []
        done(stored)


async def until_written(outbox: Late) -> None:
    async with asyncio.timeout(2):
        while not outbox.writes:
            await asyncio.sleep(0.002)


async def test_what_was_given_up_stays_before_what_came_later(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal_module, "PATIENCE_S", 0.01)
    outbox = Late()
    journal, sent = make(outbox)
    entry = "01CALL"
    journal.perform(step(entry, b"INVITE", record=c.Record.DIALING))
    async with asyncio.timeout(2):
        while not sent:
            await asyncio.sleep(0.002)
    journal.perform(step(entry, b"BYE", record=c.Record.ENDED))
    outbox.answer(stored=False)
    while not journal.ready:
        await until_written(outbox)
        outbox.answer(stored=True)
    assert outbox.stored == [b"DIALING", b"ENDED"]


async def test_an_event_that_comes_behind_the_probe_is_not_lost(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal_module, "PATIENCE_S", 0.01)
    outbox = Late()
    journal, _ = make(outbox)
    entry = "01CALL"
    journal.perform(step(entry, b"180", record=c.Record.RINGING))
    outbox.answer(stored=False)
    await until_written(outbox)
    outbox.answer(stored=True)  # the backlog is empty: ready again
    journal._lost("for a reason that leaves nothing in the backlog")
    await until_written(outbox)
    journal.perform(step(entry, b"200", record=c.Record.ANSWERED))
    outbox.answer(stored=True)  # that was the probe
    await until_written(outbox)
    outbox.answer(stored=True)
    assert (outbox.stored, journal.ready) == ([b"RINGING", b"ANSWERED"], True)


async def test_an_event_of_no_call_is_written_at_once_and_kept_without_redis(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal_module, "PATIENCE_S", 0.01)
    outbox = MemoryOutbox()
    journal, sent = make(outbox)
    journal.perform(Step(events=(b"message.sent",)))
    assert outbox.events == [b"message.sent"]
    outbox.broken = True
    journal.perform(Step(events=(b"message.delivered", b"message.failed")))
    assert (journal.ready, journal.backlog, sent) == (False, 2, [])
    outbox.broken = False
    assert await journal.flush(2.0)
    assert outbox.events == [b"message.sent", b"message.delivered", b"message.failed"]
