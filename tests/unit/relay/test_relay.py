"""The relay's operations over the null datapath: idempotence, limits, leaks, drains, what is told."""

from __future__ import annotations

import random

import pytest

from pbx_media_relay import events
from pbx_media_relay.datapath.base import Counters, DatapathError
from pbx_media_relay.datapath.null import NullDatapath
from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.errors import (
    DatapathRefusedError,
    DrainingError,
    InvalidStreamError,
    NoFreeSlotError,
    NotGrantedError,
    UnknownCallError,
)
from pbx_media_relay.forward import Forward, Medium, Side
from pbx_media_relay.order import Order
from pbx_media_relay.ports import Shard, SlotPool
from pbx_media_relay.relay import Relay
from pbx_media_relay.session import Rules
from pbx_media_relay.slots import BIND_TRIES
from pbx_media_relay.stream import Direction, Stream

S = 1_000_000_000
A = Stream(Side.A, Medium.AUDIO, Endpoint("192.0.2.1", 4000))
B = Stream(Side.B, Medium.AUDIO, Endpoint("192.0.2.2", 5000))


class Rig:
    def __init__(
        self, shard: str = "30000-30079", datapath: NullDatapath | None = None, rules: Rules | None = None
    ) -> None:
        self.datapath = datapath or NullDatapath()
        self.told: list[events.RelayEvent] = []
        pool = SlotPool(Shard.parse(shard), random.Random(1))
        self.relay = Relay(pool, self.datapath, media_timeout_s=60, tell=self.told.append, rules=rules)
        self.relay.start()

    def call(self, call_id: str = "c1", instance_id: str = "s1", now_s: int = 0, **more: int) -> int:
        order = Order(call_id, instance_id, (A, B), **more)
        return self.relay.allocate(order, now_s * S).slot


def test_allocate_is_idempotent_and_changes_the_owner() -> None:
    rig = Rig()
    slot = rig.call()
    assert rig.call(instance_id="s2") == slot
    assert [call.id for call in rig.relay.calls.owned_by("s2")] == ["c1"]
    assert rig.relay.status.slots.taken == 1
    assert rig.datapath.bound == {slot * 8}
    assert len(rig.datapath.forwards) == 2


def test_slots_are_granted_ahead_and_begun_without_asking() -> None:
    rig = Rig("30000-30639")
    slots = rig.relay.grant("s1", 4, 0)
    assert len(set(slots)) == 4
    assert rig.datapath.bound == {slot * 8 for slot in slots}, "their ports are open"
    status = rig.relay.status
    assert (status.granted, status.slots.free, len(rig.relay.calls)) == (4, 76, 0)
    call = rig.relay.begin(Order("c1", "s1", (A, B)), slots[0], 0)
    assert (call.slot, rig.relay.status.granted) == (slots[0], 3)
    assert len(rig.datapath.forwards) == 2
    again = rig.relay.begin(Order("c1", "s1", (A, B)), slots[0], 0)
    assert again is call, "it is idempotent"
    rig.relay.release("c1", S)
    assert len(rig.relay.calls) == 0


def test_a_slot_that_is_not_granted_is_refused() -> None:
    rig = Rig("30000-30639")
    (slot, other) = rig.relay.grant("s1", 2, 0)
    for instance_id, wanted in (("s2", slot), ("s1", 3790), ("", slot)):
        with pytest.raises(NotGrantedError):
            rig.relay.begin(Order("c1", instance_id, (A,)), wanted, 0)
    rig.relay.begin(Order("c1", "s1", (A,)), slot, 0)
    with pytest.raises(NotGrantedError):
        rig.relay.begin(Order("c2", "s1", (A,)), slot, 0)
    with pytest.raises(NotGrantedError):
        rig.relay.begin(Order("c1", "s1", (A,)), other, 0)
    with pytest.raises(InvalidStreamError):
        rig.relay.begin(Order("", "s1", (A,)), other, 0)
    assert rig.relay.status.granted == 1, "what was refused for its call is still granted"


def test_an_instance_has_at_most_a_share_of_all_and_gets_a_share_of_what_is_free() -> None:
    rig = Rig("30000-30639")
    assert len(rig.relay.grant("s1", 1000, 0)) == 80 // 8
    assert rig.relay.grant("s1", 1000, 0) == []
    assert len(rig.relay.grant("s2", 1000, 0)) == 80 // 8
    assert rig.relay.grant("s3", 1000, 0) == [], "a quarter is granted"
    small = Rig("30000-30079")
    assert len(small.relay.grant("s1", 48, 0)) == 1
    tiny = Rig("30000-30023")
    assert tiny.relay.grant("s1", 48, 0) == [], "the last slots go to calls"
    full = Rig("30000-30639")
    for number in range(78):
        full.call(f"c{number}")
    assert full.relay.grant("s1", 48, 0) == []


def test_granted_slots_come_back_when_they_are_returned_or_their_instance_is_gone() -> None:
    rig = Rig("30000-30639")
    rig.relay.connect("s1", 5, 0)
    slots = rig.relay.grant("s1", 3, 0)
    rig.relay.give_back("s1", [slots[0], 1, 3790], 0)
    rig.relay.give_back("s2", slots, 0)
    assert rig.relay.status.granted == 2
    rig.relay.leases.disconnect("s1", S)
    rig.relay.handle_timeout(4 * S)
    assert rig.relay.status.granted == 2, "its lease runs"
    rig.relay.handle_timeout(7 * S)
    assert rig.relay.status.granted == 0
    rig.relay.handle_timeout(30 * S)
    assert (rig.datapath.bound, rig.relay.status.slots.free) == (set(), 80)


def test_an_instance_that_connects_anew_knows_of_no_granted_slots() -> None:
    rig = Rig("30000-30639")
    rig.relay.connect("s1", 30, 0)
    rig.relay.grant("s1", 3, 0)
    rig.relay.connect("s1", 30, 0)
    assert rig.relay.status.granted == 3, "a second stream beside the first"
    rig.relay.leases.disconnect("s1", S)
    rig.relay.leases.disconnect("s1", S)
    rig.relay.connect("s1", 30, 2 * S)
    assert rig.relay.status.granted == 0


def test_a_draining_relay_grants_nothing_and_takes_calls_that_have_a_slot() -> None:
    rig = Rig("30000-30639")
    (slot,) = rig.relay.grant("s1", 1, 0)
    rig.relay.drain(60 * S, 0)
    with pytest.raises(DrainingError):
        rig.relay.grant("s1", 1, 0)
    assert rig.relay.begin(Order("c1", "s1", (A,)), slot, 0).slot == slot


def test_a_port_that_another_holds_is_not_granted() -> None:
    rig = Rig("30000-30639", NullDatapath(busy_ports=[30003]))
    slots = [slot for _ in range(12) for slot in rig.relay.grant("s1", 10, 0)]
    assert 3750 not in slots


def test_a_refused_begin_gives_its_slot_back() -> None:
    datapath = NullDatapath()
    rig = Rig("30000-30639", datapath)
    (slot,) = rig.relay.grant("s1", 1, 0)

    def refuse(forward: Forward) -> None:
        raise DatapathError("no")

    datapath.upsert = refuse  # type: ignore[method-assign]
    with pytest.raises(DatapathRefusedError):
        rig.relay.begin(Order("c1", "s1", (A,)), slot, 0)
    assert (len(rig.relay.calls), rig.relay.status.slots.taken) == (0, 0)


def test_release_answers_what_flowed_and_is_idempotent() -> None:
    rig = Rig()
    slot = rig.call()
    rig.datapath.played[slot * 4] = Counters(packets=7, bytes=70)
    reports = rig.relay.release("c1", S)
    assert [(report.side, report.counters.packets) for report in reports] == [(Side.A, 7), (Side.B, 0)]
    assert rig.relay.release("c1", S) == []
    assert rig.datapath.forwards == {}
    assert rig.relay.totals().packets == 7


def test_ports_are_unbound_when_the_slot_has_rested() -> None:
    rig = Rig()
    slot = rig.call()
    rig.datapath.heard_ns[slot * 8] = 5 * S
    rig.relay.release("c1", 6 * S)
    rig.relay.handle_timeout(14 * S)
    assert rig.datapath.bound == {slot * 8}
    rig.relay.handle_timeout(17 * S)
    assert rig.datapath.bound == set()


def test_a_busy_port_takes_its_slot_out_and_another_is_tried() -> None:
    rig = Rig("30000-30015", NullDatapath(busy_ports=[30003]))
    slots = [rig.call("c1")]
    assert slots == [3751]
    with pytest.raises(NoFreeSlotError):
        rig.call("c2")
    assert events.SlotBroken(3750, 30003) in rig.told
    assert rig.relay.status.slots.broken == 1


def test_a_shard_full_of_busy_ports_is_not_walked_to_its_end() -> None:
    rig = Rig("30000-39999", NullDatapath(busy_ports=range(30000, 40000)))
    with pytest.raises(NoFreeSlotError):
        rig.call()
    assert rig.relay.status.slots.broken == BIND_TRIES


def test_a_phone_beside_the_relay_gets_another_slot_than_the_one_of_its_own_port() -> None:
    rig = Rig("30000-30023")
    looped = Stream(Side.A, Medium.AUDIO, Endpoint("127.0.0.1", 30008))
    for number in range(50):
        call = rig.relay.allocate(Order(f"c{number}", "s1", (looped,)), number * 60 * S)
        assert call.slot in (3750, 3752)
        rig.relay.release(f"c{number}", number * 60 * S)
        rig.relay.handle_timeout(number * 60 * S + 30 * S)
    assert rig.datapath.bound == set()


def test_an_endpoint_in_a_slot_of_ours_is_refused_alone() -> None:
    rig = Rig("30000-30015", rules=Rules.of(["192.0.2.1"], [], False))
    first = rig.call("c1")
    looped = Stream(Side.A, Medium.AUDIO, Endpoint("192.0.2.1", first * 8 + 2))
    good = Stream(Side.A, Medium.VIDEO, Endpoint("192.0.2.9", 4002))
    call = rig.relay.allocate(Order("c2", "s1", (looped, good)), 0)
    assert [refusal.stream for refusal in call.refused] == [looped]
    assert list(call.forwards) == [call.forward_id(good.index)]
    rig.relay.update("c2", "s1", [Stream(Side.A, Medium.AUDIO, Endpoint("192.0.2.9", 4000))], 0)
    assert call.refused == ()
    assert len(call.forwards) == 2
    assert rig.relay.update("c2", "s1", [looped], 0).refused
    assert list(call.forwards) == [call.forward_id(good.index)], "what was announced before holds no more"


def test_a_phone_beside_the_relay_may_have_a_port_that_no_call_holds() -> None:
    rig = Rig("30000-30015")
    first = rig.call("c1")
    (free,) = {30000, 30008} - {first * 8}
    call = rig.relay.update("c1", "s1", [Stream(Side.A, Medium.AUDIO, Endpoint("127.0.0.1", free))], 0)
    assert call.refused == ()


@pytest.mark.parametrize("call_id", ["", "x" * 257])
def test_call_ids_are_bounded(call_id: str) -> None:
    rig = Rig()
    with pytest.raises(InvalidStreamError):
        rig.call(call_id)
    assert rig.relay.status.slots.taken == 0


def test_a_datapath_that_refuses_costs_no_slot() -> None:
    class Refusing(NullDatapath):
        def upsert(self, forward: Forward) -> None:
            raise DatapathError("map full")

    rig = Rig(datapath=Refusing())
    with pytest.raises(DatapathRefusedError, match="map full"):
        rig.call()
    assert (len(rig.relay.calls), rig.relay.status.slots.taken) == (0, 0)


def test_unknown_calls() -> None:
    rig = Rig()
    for operation in (
        lambda: rig.relay.update("nope", "s1", [A], 0),
        lambda: rig.relay.query("nope"),
        lambda: rig.relay.tap("nope"),
    ):
        with pytest.raises(UnknownCallError):
            operation()


def test_a_vanished_instance_leaks_nothing_for_longer_than_a_minute() -> None:
    rig = Rig()
    rig.relay.leases.connect("s1", 3600)
    for number in range(5):
        rig.call(f"c{number}")
    rig.call("other", "s2")
    rig.relay.leases.connect("s2", 0)
    rig.relay.leases.disconnect("s1", 100 * S)
    rig.relay.handle_timeout(159 * S)
    assert len(rig.relay.calls) == 6
    rig.relay.handle_timeout(160 * S)
    assert [call.id for call in rig.relay.calls] == ["other"]
    expired = [event for event in rig.told if isinstance(event, events.LeaseExpired)]
    assert {event.call_id for event in expired} == {f"c{number}" for number in range(5)}


def test_an_adopted_call_outlives_its_first_owner() -> None:
    rig = Rig()
    rig.relay.leases.connect("s1", 0)
    rig.relay.leases.connect("s2", 0)
    rig.call("c1")
    rig.relay.leases.disconnect("s1", 0)
    rig.relay.update("c1", "s2", [], S)
    rig.relay.handle_timeout(61 * S)
    assert len(rig.relay.calls) == 1


def test_media_timeout_is_told_once_and_held_calls_are_exempt() -> None:
    rig = Rig()
    rig.relay.leases.connect("s1", 0)
    rig.call("talks")
    rig.call("silent", media_timeout_s=10)
    rig.call("held")
    held = Stream(Side.A, Medium.AUDIO, A.rtp, direction=Direction.INACTIVE)
    rig.relay.update("held", "s1", [held], 0)
    slot = rig.relay.query("talks")[0].slot
    for now_s in range(0, 100, 5):
        rig.datapath.played[slot * 4] = Counters(packets=1, last_rtcp_ns=now_s * S)
        rig.relay.handle_timeout(now_s * S)
    timeouts = [event for event in rig.told if isinstance(event, events.MediaTimeout)]
    assert [(event.call_id, event.at_ns, event.silent_ns) for event in timeouts] == [("silent", 10 * S, 10 * S)]


def test_draining_refuses_new_calls_and_keeps_the_old() -> None:
    rig = Rig()
    rig.call("old")
    rig.relay.drain(100 * S, 0)
    rig.relay.drain(200 * S, 1)
    assert rig.relay.drain_deadline_ns == 100 * S
    with pytest.raises(DrainingError):
        rig.call("new")
    assert rig.call("old")
    assert rig.relay.status.draining
    assert [event for event in rig.told if isinstance(event, events.Draining)] == [events.Draining(0, 100 * S)]


def test_close_names_the_calls_it_drops() -> None:
    rig = Rig()
    rig.call("c1")
    rig.call("c2")
    assert rig.relay.close(0) == ["c1", "c2"]
    assert rig.datapath.closed


def test_the_first_packet_is_told_with_its_call() -> None:
    rig = Rig()
    slot = rig.call()
    source = Endpoint("192.0.2.2", 5000)
    rig.relay.first_packet(slot * 4 + 2, source, 77)
    rig.relay.first_packet(9, source, 78)
    assert rig.told == [events.FirstPacket("c1", "s1", 77, Side.B, Medium.AUDIO, source)]


def test_a_stream_taken_out_and_in_again_keeps_its_figures() -> None:
    rig = Rig()
    slot = rig.call()
    rig.datapath.played[slot * 4] = Counters(packets=3, bytes=30, lost=1, first_packet_ns=5)
    rig.relay.update("c1", "s1", [Stream(Side.A, Medium.AUDIO)], S)
    rig.relay.update("c1", "s1", [A], 2 * S)
    rig.datapath.played[slot * 4] = Counters(packets=4, bytes=40, first_packet_ns=9)
    (report, _) = rig.relay.query("c1")[1]
    assert (report.counters.packets, report.counters.lost, report.counters.first_packet_ns) == (7, 1, 5)
    assert rig.relay.release("c1", 3 * S)[0].counters.packets == 7


def test_orphans_of_a_former_process_are_removed() -> None:
    class Surviving(NullDatapath):
        removed: list[int] = []  # noqa: RUF012 -- one instance

        def remove(self, forward: int) -> Counters:
            self.removed.append(forward)
            return super().remove(forward)

    rig = Rig(datapath=Surviving(survivors=[4, 5]))
    assert sorted(rig.datapath.removed) == [4, 5]  # type: ignore[attr-defined]


def test_ten_thousand_cycles_leak_nothing() -> None:
    rig = Rig("30000-30399")
    for number in range(10_000):
        rig.call(f"c{number}", now_s=number)
        rig.relay.release(f"c{number}", number * S)
        rig.relay.handle_timeout(number * S)
    rig.relay.handle_timeout(20_000 * S)
    status = rig.relay.status
    assert (status.slots.free, status.slots.taken, len(rig.relay.calls)) == (50, 0, 0)
    assert rig.datapath.forwards == {}
    assert rig.datapath.bound == set()
    assert not rig.relay._silence._heap or len(rig.relay._silence._heap) < 100
