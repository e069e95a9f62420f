"""The deliveries of an endpoint over a real store, with an endpoint that is a list of answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pbx_events.envelope import Envelope, decode
from pbx_events.observe import deliveries_of
from pbx_events.storage.store import Store
from pbx_events.storage.subscription import DEAD, DELIVERED, PENDING, Webhook
from pbx_events.webhook.delivery import Deliveries, Endpoint
from pbx_events.webhook.policy import BREAK_AFTER
from pbx_events.webhook.sender import Answer, Sender
from pbx_runtime.clock import ManualClock
from support.call_events import answered_call

HOOK = Webhook("w1", "http://127.0.0.1:9/x", "whsec_YQ==", (), True, 1)


class Scripted(Sender):
    """Answers with the statuses that it was given, then with 204."""

    def __init__(self, *statuses: int) -> None:
        super().__init__(allow_private=True)
        self._statuses: Iterator[int] = iter(statuses)
        self.taken: list[Envelope] = []

    async def send(self, hook: Webhook, event: Envelope) -> Answer:
        status = next(self._statuses, 204)
        if status == 204:
            self.taken.append(event)
        return Answer(status, 0, "scripted")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(f"sqlite+aiosqlite:///{tmp_path}/e.sqlite")
    await made.migrate()
    await made.add_webhook(HOOK)
    yield made
    await made.close()


def calls(count: int) -> list[Envelope]:
    made = [event for number in range(count) for event in answered_call(f"01CALL{number:03d}")[:5]]
    return [event for one in made if (event := decode(one.SerializeToString())) is not None]


async def served(store: Store, sender: Scripted, count: int, *, gone: bool = False) -> Deliveries:
    """Serves the endpoint until it has taken so many, and is disabled where it is `gone`."""
    deliveries = Deliveries(store, lambda work, name: asyncio.create_task(work, name=name), sender=sender)
    deliveries.serve([HOOK])
    async with asyncio.timeout(20):
        while len(sender.taken) < count:
            await asyncio.sleep(0.01)
        while (await store.backlog()).get(("w1", DELIVERED), 0) < count:
            await asyncio.sleep(0.01)
        while gone and (await store.webhook("w1")).enabled:
            await asyncio.sleep(0.01)
    tasks = [task for task in asyncio.all_tasks() if task.get_name() == "webhook w1"]
    deliveries.serve([])
    await asyncio.wait(tasks)
    return deliveries


async def test_each_call_arrives_whole_and_in_order(store: Store):
    await store.take(calls(40), [HOOK])
    sender = Scripted()
    await served(store, sender, 200)
    by_call: dict[str, list[int]] = {}
    for event in sender.taken:
        by_call.setdefault(event.call_id, []).append(event.sequence)
    assert len(by_call) == 40
    assert all(sequence == [1, 2, 3, 4, 5] for sequence in by_call.values())
    assert len(await store.list_attempts("w1", None, 1000)) == 200


def test_times_of_attempts_make_a_histogram() -> None:
    endpoint = Endpoint(HOOK)
    for took_s in (0.01, 0.011, 9.9, 11.0):
        endpoint.took(took_s)
    assert endpoint.attempts_within == [1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    (family,) = [each for each in deliveries_of({"w1": endpoint}) if each.name == "pbx_events_delivery_seconds"]
    found = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    assert found["pbx_events_delivery_seconds_bucket", "0.01"] == 1
    assert found["pbx_events_delivery_seconds_bucket", "10.0"] == 3
    assert found["pbx_events_delivery_seconds_bucket", "+Inf"] == found["pbx_events_delivery_seconds_count", None] == 4
    assert found["pbx_events_delivery_seconds_sum", None] == pytest.approx(20.921)


async def test_a_failure_holds_up_its_own_call_alone(store: Store):
    await store.take(calls(3), [HOOK])
    sender = Scripted(500)
    await served(store, sender, 10)
    assert {event.call_id for event in sender.taken} == {"01CALL001", "01CALL002"}
    assert (await store.backlog())["w1", PENDING] == 5
    assert (await store.last_errors()) == {}, "the newest attempt succeeded"


async def test_an_endpoint_that_is_gone_is_disabled_and_its_event_dead(store: Store):
    await store.take(calls(2), [HOOK])
    sender = Scripted(410)
    await served(store, sender, 5, gone=True)
    (dead,) = await store.list_dead("w1", None, 10)
    assert (dead["state"], dead["last_error"], dead["attempts"]) == (DEAD, "scripted", 1)


async def test_two_replicas_send_nothing_twice(store: Store):
    await store.take(calls(20), [HOOK])
    sender = Scripted()
    both = [
        Deliveries(store, lambda work, name: asyncio.create_task(work, name=name), holder=holder, sender=sender)
        for holder in ("a", "b")
    ]
    for deliveries in both:
        deliveries.serve([HOOK])
    async with asyncio.timeout(20):
        while (await store.backlog()).get(("w1", DELIVERED), 0) < 100:
            await asyncio.sleep(0.01)
    tasks = [task for task in asyncio.all_tasks() if task.get_name() == "webhook w1"]
    for deliveries in both:
        deliveries.serve([])
    await asyncio.wait(tasks)
    assert len(sender.taken) == 100


class Slow(Scripted):
    """Takes its time for the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def send(self, hook: Webhook, event: Envelope) -> Answer:
        self.asked.set()
        await self.may_answer.wait()
        return await super().send(hook, event)


async def test_the_end_waits_for_an_attempt_and_begins_no_other(store: Store):
    await store.take(calls(1), [HOOK])
    sender = Slow()
    deliveries = Deliveries(store, lambda work, name: asyncio.create_task(work, name=name), sender=sender)
    deliveries.serve([HOOK])
    async with asyncio.timeout(20):
        await sender.asked.wait()
        closing = asyncio.ensure_future(deliveries.close())
        await asyncio.sleep(0)
        sender.may_answer.set()
        await closing
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "webhook w1"]
    backlog = await store.backlog()
    assert (backlog["w1", DELIVERED], backlog["w1", PENDING]) == (1, 4)


class Down(Scripted):
    """Answers 503 until a time."""

    def __init__(self, clock: ManualClock, until_s: float) -> None:
        super().__init__()
        self._clock, self._until_s = clock, until_s
        self.refused = 0

    async def send(self, hook: Webhook, event: Envelope) -> Answer:
        if self._clock.now() < self._until_s:
            self.refused += 1
            return Answer(503, 0, "down")
        return await super().send(hook, event)


async def test_an_endpoint_that_was_down_for_ten_minutes_gets_all_of_it_within_a_minute(store: Store):
    clock = ManualClock()
    began = clock.now()
    sender = Down(clock, began + 600)
    deliveries = Deliveries(store, lambda work, name: asyncio.create_task(work, name=name), sender=sender, clock=clock)
    endpoint, waiting = Endpoint(HOOK), [calls(100)[at : at + 25] for at in range(0, 500, 25)]
    while waiting or (await store.backlog()).get(("w1", PENDING), 0):
        if waiting and clock.now() >= began + 25 * (20 - len(waiting)):
            await store.take(waiting.pop(0), [HOOK])
        clock.advance(await deliveries.turn(endpoint))
        assert clock.now() < began + 660, await store.backlog()
    assert sender.refused < 60, "it was spared"
    by_call: dict[str, list[int]] = {}
    for event in sender.taken:
        by_call.setdefault(event.call_id, []).append(event.sequence)
    assert len(by_call) == 100
    assert all(sequence == [1, 2, 3, 4, 5] for sequence in by_call.values())


async def test_what_waits_for_an_endpoint_that_is_down_goes_to_its_new_address_at_once(store: Store):
    sender, clock = Scripted(), ManualClock()
    deliveries = Deliveries(store, lambda work, name: asyncio.create_task(work, name=name), sender=sender, clock=clock)
    deliveries.serve([HOOK])
    for _ in range(BREAK_AFTER + 10):
        deliveries.endpoints["w1"].breaker.failed(clock.now())
    await store.take(calls(3), [HOOK])
    deliveries.wake()
    await asyncio.sleep(0.1)
    assert not sender.taken, "it is down: the next probe is a minute away"
    deliveries.serve([replace(HOOK, url="https://crm.example/new")])
    async with asyncio.timeout(5):
        while len(sender.taken) < 15:
            await asyncio.sleep(0.01)
    await deliveries.close()
