"""Signaling's client of the relays against real relays over streams in memory: slots ahead, refusals, drains."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pbx.relay.v1 import relay_pb2 as pb
from pbx_media_relay.api.grpc import RelayServicer
from pbx_media_relay.api.operations import Operations
from pbx_media_relay.civil import CivilTime
from pbx_media_relay.datapath.null import NullDatapath
from pbx_media_relay.identity import Identity
from pbx_media_relay.ports import Shard, SlotPool
from pbx_media_relay.recording.recorder import Recorder
from pbx_media_relay.relay import Relay
from pbx_runtime.batch_fake import FakeStream
from pbx_signaling.calls.signals import MediaLost, MediaReady, MediaUnavailable, Signal
from pbx_signaling.clients import relay as relay_module
from pbx_signaling.clients.relay import Relays
from pbx_signaling.clients.relay_link import RelayLink
from pbx_signaling.media.ahead import AHEAD, Ahead, slot_of
from pbx_signaling.media.stream import Direction, Media, Slot, StreamEndpoint
from support.eventually import eventually

HOSTS = ("192.0.2.1", "2001:db8::1")


class FakeRelay:
    """A real relay over the null datapath, reached by streams in memory."""

    def __init__(self, name: str, shard: str = "30000-39999") -> None:
        self.datapath = NullDatapath()
        self.relay = Relay(
            SlotPool(Shard.parse(shard), random.Random(1)), self.datapath, media_timeout_s=60, tell=self._tell
        )
        self.relay.start()
        self.operations = Operations(
            self.relay, Identity(name, HOSTS, "null", ""), CivilTime(), 5.0, Recorder(Path(), _no)
        )
        self.servicer = RelayServicer(self.operations)
        self.streams: list[FakeStream] = []
        self._serving: list[asyncio.Future[None]] = []

    def _tell(self, event: Any) -> None:
        self.servicer.tell(event)

    def open(self) -> FakeStream:
        stream = FakeStream()
        self.streams.append(stream)
        self._serving.append(asyncio.ensure_future(self.servicer.Session(stream.requests(), stream.context)))
        return stream

    def commands(self) -> list[str | None]:
        """What was asked on all streams, by kind."""
        return [
            each.WhichOneof("command") for stream in self.streams for r in stream.requests_seen for each in r.commands
        ]

    async def close(self) -> None:
        for task in self._serving:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


def _no(*_: object) -> None:
    """No recordings."""


class Rig:
    """Relays as signaling has them, with what they told."""

    def __init__(self) -> None:
        self.signals: list[tuple[str, Signal]] = []
        self.ready = False
        self.relays = Relays("s1", lambda call_id, signal: self.signals.append((call_id, signal)), self._ready)
        self.tasks: list[asyncio.Future[None]] = []

    def _ready(self, ready: bool) -> None:
        self.ready = ready

    def add(self, relay: FakeRelay) -> RelayLink:
        link = self.relays.add(f"unix:///{len(self.tasks)}")
        link.client._open_stream = relay.open
        self.tasks.append(asyncio.ensure_future(link.client.run()))
        return link

    async def reserve(self, call_id: str, *endpoints: StreamEndpoint) -> Signal:
        answer: asyncio.Future[Signal] = asyncio.get_running_loop().create_future()
        self.relays.reserve(call_id, list(endpoints), answer.set_result)
        return await answer


@asynccontextmanager
async def rig_of(*fakes: FakeRelay) -> AsyncIterator[tuple[Rig, list[RelayLink]]]:
    rig = Rig()
    links = [rig.add(fake) for fake in fakes]
    await eventually(lambda: all(link.is_ready for link in links))
    try:
        yield rig, links
    finally:
        for task in rig.tasks:
            task.cancel()
        await asyncio.wait(rig.tasks)
        for link in links:
            await link.close()
        for fake in fakes:
            await fake.close()


async def test_a_call_waits_for_no_answer_of_a_relay() -> None:
    fake = FakeRelay("r1")
    async with rig_of(fake) as (rig, (link,)):
        await eventually(lambda: len(link.ahead) == AHEAD)
        ready = await rig.reserve("c1")
        assert isinstance(ready, MediaReady)
        assert fake.commands() == ["grant"], "it has not even been told yet"
        at_once: list[Signal] = []
        rig.relays.reserve("c2", [], at_once.append)
        assert len(at_once) == 1
        slot = ready.slot
        assert (slot.relay, slot.host4, slot.host6) == ("r1", *HOSTS)
        await eventually(lambda: len(fake.relay.calls) == 2)
        call, _ = fake.relay.calls
        assert (call.id, call.slot, call.instance_id) == ("c1", slot.index, "s1")
        assert slot.ports == _ports_of(fake, "c1"), "as an Allocate would have told"
        rig.relays.release("c1", slot)
        await eventually(lambda: len(fake.relay.calls) == 1)
        assert rig.signals == []


def _ports_of(fake: FakeRelay, call_id: str) -> dict[tuple[int, int], tuple[int, int]]:
    answer = fake.operations.allocate(pb.AllocateRequest(call_id=call_id), "s1")
    return {(int(p.side), int(p.media)): (p.rtp_port, p.rtcp_port) for p in answer.ports}


async def test_more_are_asked_for_in_time_and_in_one_question() -> None:
    fake = FakeRelay("r1")
    async with rig_of(fake) as (rig, (link,)):
        await eventually(lambda: len(link.ahead) == AHEAD)
        for number in range(3 * AHEAD):
            assert isinstance(await rig.reserve(f"c{number}"), MediaReady)
            await eventually(lambda: len(link.ahead) > 0)
        assert "allocate" not in fake.commands()
        assert fake.commands().count("grant") <= 8
        await eventually(lambda: len(fake.relay.calls) == 3 * AHEAD)
        tally = rig.relays.tally
        assert (tally.used, tally.refused, tally.returned) == (3 * AHEAD, 0, 0)
        assert tally.granted == tally.used + len(link.ahead)


async def test_without_slots_ahead_the_relay_is_asked() -> None:
    fake = FakeRelay("r1", "30000-30023")
    async with rig_of(fake) as (rig, (link,)):
        await eventually(lambda: "grant" in fake.commands())
        ready = [await rig.reserve(f"c{number}") for number in range(4)]
        assert [type(each) for each in ready] == [MediaReady] * 3 + [MediaUnavailable]
        assert len(link.ahead) == 0
        assert fake.commands().count("grant") == 1, "it is not asked again and again"


async def test_a_relay_of_the_version_before_is_asked_for_each_call() -> None:
    fake = FakeRelay("r1")
    fake.operations.grant = _unknown  # type: ignore[method-assign]
    async with rig_of(fake) as (rig, (link,)):
        await eventually(lambda: not link._grants)
        assert isinstance(await rig.reserve("c1"), MediaReady)
        assert fake.commands() == ["grant", "allocate"]


def _unknown(request: pb.GrantRequest, instance_id: str) -> pb.GrantResponse:
    from pbx_runtime.errors import InvalidArgument

    raise InvalidArgument("a command without an operation")


async def test_a_slot_that_the_relay_refuses_is_told_to_the_call() -> None:
    fake = FakeRelay("r1")
    async with rig_of(fake) as (rig, (link,)):
        await eventually(lambda: len(link.ahead) == AHEAD)
        fake.relay.slots.give_back_all("s1", 0)
        ready = await rig.reserve("c1")
        assert isinstance(ready, MediaReady)
        await eventually(lambda: rig.signals)
        ((call_id, lost),) = rig.signals
        assert isinstance(lost, MediaLost)
        assert (call_id, lost.slot) == ("c1", ready.slot)
        assert rig.relays.tally.refused == 1


async def test_a_relay_that_drains_gets_its_slots_back_and_no_call() -> None:
    drained, other = FakeRelay("r1"), FakeRelay("r2")
    async with rig_of(drained, other) as (rig, (link, rest)):
        await eventually(lambda: len(link.ahead) == len(rest.ahead) == AHEAD)
        drained.operations.drain(pb.DrainRequest(deadline_s=60))
        await eventually(lambda: drained.relay.status.granted == 0)
        assert len(link.ahead) == 0
        for number in range(8):
            ready = await rig.reserve(f"c{number}")
            assert isinstance(ready, MediaReady)
            assert ready.slot.relay == "r2"
        assert rig.relays.tally.returned == AHEAD


async def test_slots_of_a_broken_stream_are_worth_nothing_and_others_come_with_the_next() -> None:
    fake = FakeRelay("r1")
    async with rig_of(fake) as (rig, (link,)):
        await eventually(lambda: len(link.ahead) == AHEAD)
        before = list(link.ahead._slots)
        fake.streams[0].break_off()
        await eventually(lambda: not link.client.is_up)
        assert len(link.ahead) == 0
        await eventually(lambda: len(link.ahead) == AHEAD)
        assert fake.relay.status.granted == AHEAD, "those from before were given back"
        assert not {slot.index for slot in before} & {slot.index for slot in link.ahead._slots}
        assert isinstance(await rig.reserve("c1"), MediaReady)


async def test_a_call_begun_on_a_stream_that_breaks_is_told_so() -> None:
    fake = FakeRelay("r1")
    async with rig_of(fake) as (rig, (link,)):
        await eventually(lambda: len(link.ahead) == AHEAD)
        await rig.reserve("c1")
        fake.streams[0].break_off()
        await eventually(lambda: rig.signals)
        assert isinstance(rig.signals[0][1], MediaLost)


async def test_a_call_that_ends_while_its_relay_cannot_be_told_leaves_no_slot_behind() -> None:
    fake = FakeRelay("r1")
    async with rig_of(fake) as (rig, (link,)):
        await eventually(lambda: len(link.ahead) == AHEAD)
        ready = [await rig.reserve(call_id) for call_id in ("c1", "c2")]
        slots = [each.slot for each in ready if isinstance(each, MediaReady)]
        await eventually(lambda: len(fake.relay.calls) == 2 and not link.client.in_flight)
        link.client._open_stream = _refused
        fake.streams[0].break_off()
        await eventually(lambda: not link.client.is_up)
        rig.relays.release("c1", slots[0])
        await eventually(lambda: "c1" in link._owed)
        link.client._open_stream = fake.open
        await eventually(lambda: [call.id for call in fake.relay.calls] == ["c2"])
        assert link._owed == {}
        assert rig.signals == [], "the other call goes on"


def _refused() -> FakeStream:
    stream = FakeStream()
    stream.break_off()
    return stream


async def test_calls_of_a_relay_that_does_not_come_back_are_told_and_may_move(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "LOST_S", 0.05)
    lost, other = FakeRelay("r1"), FakeRelay("r2")
    async with rig_of(lost) as (rig, (link,)):
        await eventually(lambda: len(link.ahead) == AHEAD)
        first = await rig.reserve("c1")
        assert isinstance(first, MediaReady)
        await eventually(lambda: len(lost.relay.calls) == 1 and not link.client.in_flight)
        rig.relays._look_after("r1")
        assert rig.signals == [], "it is there"
        link.client._open_stream = _refused
        lost.streams[0].break_off()
        await eventually(lambda: rig.signals)
        ((call_id, told),) = rig.signals
        assert (call_id, told) == ("c1", MediaLost(first.slot, "relay out of reach", is_certain=False))
        beside = rig.add(other)
        await eventually(lambda: len(beside.ahead) == AHEAD)
        moved = await rig.reserve("c1")
        assert isinstance(moved, MediaReady)
        assert moved.slot.relay == "r2"
        await eventually(lambda: "c1" in link._owed)
        link.client._open_stream = lost.open
        await eventually(lambda: len(lost.relay.calls) == 0)
        await eventually(lambda: len(other.relay.calls) == 1)
        rig.relays.release("c1", moved.slot)
        await eventually(lambda: len(other.relay.calls) == 0)
        assert rig.relays._held == {}
        await beside.close()
    await other.close()


async def test_a_relay_that_was_forgotten_meanwhile_is_told_when_it_is_back() -> None:
    fake = FakeRelay("r1")
    async with rig_of(fake) as (rig, (link,)):
        await eventually(lambda: len(link.ahead) == AHEAD)
        ready = await rig.reserve("c1")
        assert isinstance(ready, MediaReady)
        await eventually(lambda: len(fake.relay.calls) == 1 and not link.client.in_flight)
        link.client._open_stream = _refused
        fake.streams[0].break_off()
        await eventually(lambda: not link.client.is_up)
        rig.relays.remove(link.address)
        rig.relays.release("c1", ready.slot)
        again = rig.relays.add(link.address)
        again.client._open_stream = fake.open
        rig.tasks.append(asyncio.ensure_future(again.client.run()))
        await eventually(lambda: len(fake.relay.calls) == 0)
        await again.close()


async def test_an_instance_that_goes_returns_all() -> None:
    fake = FakeRelay("r1")
    async with rig_of(fake) as (rig, (link,)):
        await eventually(lambda: len(link.ahead) == AHEAD)
        await rig.reserve("c1")
        await rig.relays.leave(10.0)
        assert (fake.relay.status.granted, len(fake.relay.calls), link.client.in_flight) == (0, 1, 0)


async def test_a_phone_beside_the_relay_gets_another_slot_than_its_own_port() -> None:
    fake = FakeRelay("r1")
    async with rig_of(fake) as (rig, (link,)):
        await eventually(lambda: len(link.ahead) == AHEAD)
        first = link.ahead._slots[0]
        port = first.first_port
        endpoint = StreamEndpoint(
            1, Media.AUDIO, HOSTS[0], port, HOSTS[0], port + 1, Direction.SENDRECV, rtcp_mux=False, codecs=()
        )
        ready = await rig.reserve("c1", endpoint)
        assert isinstance(ready, MediaReady)
        assert ready.slot != first


@pytest.mark.parametrize("hosts", [("192.0.2.1",), ("2001:db8::1",), HOSTS])
def test_ports_of_a_granted_slot_follow_from_its_number(hosts: tuple[str, ...]) -> None:
    slot = slot_of("r1", 3750, hosts)
    assert slot.ports == {
        (1, 1): (30000, 30001),
        (1, 2): (30002, 30003),
        (2, 1): (30004, 30005),
        (2, 2): (30006, 30007),
    }
    assert slot.host_for(4) in hosts


def test_what_is_held_is_asked_for_once_and_again_when_half_is_used() -> None:
    ahead = Ahead()
    assert ahead.missing() == AHEAD
    assert ahead.missing() == 0, "an answer is awaited"
    ahead.add(_slots(0, AHEAD))
    assert ahead.missing() == 0
    for _ in range(AHEAD // 2):
        assert ahead.take() is not None
    assert ahead.missing() == AHEAD // 2
    ahead.add(())
    assert ahead.missing() == 0, "there was none: not again before something changed"
    ahead.may_ask()
    assert ahead.missing() == AHEAD // 2
    assert ahead.take({AHEAD // 2}).index == AHEAD // 2 + 1  # type: ignore[union-attr]
    assert len(ahead.clear()) == AHEAD // 2 - 1
    assert ahead.take() is None


def _slots(first: int, count: int) -> list[Slot]:
    return [slot_of("r1", number, HOSTS) for number in range(first, first + count)]
