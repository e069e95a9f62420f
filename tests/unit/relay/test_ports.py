"""The slot pool: every slot in exactly one state, rest by silence, broken slots, a shard that changes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbx_media_relay.ports import BROKEN_RETRY_NS, REST_MAX_NS, SILENCE_NS, Shard, SlotPool

S = 1_000_000_000


def silent(slot: int) -> int:
    return 0


def make(first: int = 30000, last: int = 30031) -> SlotPool:
    return SlotPool(Shard(first, last), random.Random(7))


@pytest.mark.parametrize(
    ("first", "last", "slots"), [(30000, 30007, 1), (30001, 30015, 1), (30000, 30014, 1), (30000, 39999, 1250)]
)
def test_whole_aligned_slots_of_a_shard(first: int, last: int, slots: int) -> None:
    assert len(Shard(first, last).slots()) == slots
    assert all(first <= slot * 8 and slot * 8 + 7 <= last for slot in Shard(first, last).slots())


@pytest.mark.parametrize("text", ["30000", "40000-30000", "30001-30007", "80-90", "30000-70000", "a-b", ""])
def test_refuses_what_is_no_shard(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Shard.parse(text)


def test_takes_each_slot_once_in_random_order() -> None:
    pool = make(30000, 39999)
    taken = [pool.take() for _ in range(1250)]
    assert sorted(slot for slot in taken if slot is not None) == list(Shard(30000, 39999).slots())
    assert taken != sorted(taken, key=lambda slot: slot or 0)
    assert pool.take() is None


def test_a_heard_slot_rests_until_it_was_silent() -> None:
    pool = make(30000, 30007)
    slot = pool.take()
    assert slot is not None
    pool.give_back(slot, True, 100 * S)
    assert pool.take() is None
    assert pool.settle(100 * S + SILENCE_NS - 1, silent) == []
    assert pool.settle(112 * S, lambda _: 105 * S) == []
    assert pool.settle(115 * S, lambda _: 105 * S) == [slot]
    assert pool.take() == slot


def test_a_slot_that_never_falls_silent_rests_for_a_minute() -> None:
    pool = make(30000, 30007)
    slot = pool.take()
    assert slot is not None
    pool.give_back(slot, True, 0)
    assert pool.settle(REST_MAX_NS - 1, lambda _: REST_MAX_NS - 1) == []
    assert pool.settle(REST_MAX_NS, lambda _: REST_MAX_NS) == [slot]


def test_an_unheard_slot_may_be_taken_when_nothing_else_is_left() -> None:
    pool = make(30000, 30015)
    first, second = pool.take(), pool.take()
    assert first is not None
    assert second is not None
    pool.give_back(second, False, 1)
    pool.give_back(first, False, 2)
    assert pool.counts.quarantined == 2
    assert pool.take() == second


def test_a_broken_slot_is_tried_again_later() -> None:
    pool = make(30000, 30007)
    slot = pool.take()
    assert slot is not None
    pool.take_out(slot, 0)
    assert pool.counts.broken == 1
    pool.settle(BROKEN_RETRY_NS - 1, silent)
    assert pool.take() is None
    assert pool.settle(BROKEN_RETRY_NS, silent) == []
    assert pool.take() == slot


def test_another_shard_leaves_taken_slots_alone() -> None:
    pool = make(30000, 30015)
    old = pool.take()
    assert old is not None
    pool.reshape(Shard(40000, 40015))
    assert pool.counts.total == 2
    assert pool.take() in Shard(40000, 40015).slots()
    pool.give_back(old, True, 0)
    assert pool.settle(SILENCE_NS, silent) == [old]
    assert pool.counts.free == 1


def test_adopts_a_given_slot_once() -> None:
    pool = make()
    slot = next(iter(pool.shard.slots()))
    assert pool.adopt(slot)
    assert not pool.adopt(slot)
    assert pool.counts.taken == 1


@settings(deadline=None)
@given(st.lists(st.sampled_from(["take", "heard", "unheard", "break", "settle", "reshape"]), max_size=60))
def test_no_slot_is_ever_lost_or_doubled(steps: list[str]) -> None:
    pool, taken, now = make(), [], 0
    for step in steps:
        now += 3 * S
        if step == "take":
            slot = pool.take()
            if slot is not None:
                assert slot not in taken
                taken.append(slot)
        elif step == "settle":
            pool.settle(now, silent)
        elif step == "reshape":
            pool.reshape(pool.shard)
        elif taken:
            slot = taken.pop()
            if step == "break":
                pool.take_out(slot, now)
            else:
                pool.give_back(slot, step == "heard", now)
        counts = pool.counts
        assert counts.taken == len(taken)
        assert counts.free + counts.quarantined + counts.broken + counts.taken == counts.total == 4
