"""The wheel of deadlines: order, lateness, cancelling, size."""

from __future__ import annotations

import heapq

from hypothesis import given
from hypothesis import strategies as st

from pbx_sip.transaction.deadlines import BUCKETS_PER_S, NEVER, Deadlines


def test_fires_exactly_at_the_timers_of_the_rfc() -> None:
    for at in (0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 32.0, 1000.1 + 0.5):
        deadlines = Deadlines()
        deadlines.schedule(at, "tx", 1)
        due = deadlines.next_timeout
        assert due is not None
        assert 0 <= due - at <= 1.001 / BUCKETS_PER_S
        assert deadlines.expire(due - 0.0001) == []
        assert deadlines.expire(due) == [("tx", 1)]
        assert deadlines.next_timeout is None


@given(st.floats(0, 1e9, allow_nan=False))
def test_never_early_not_by_a_rounding_error(at: float) -> None:
    deadlines = Deadlines()
    deadlines.schedule(at, "tx", 0)
    due = deadlines.next_timeout
    assert due is not None
    assert at <= due <= at + 1.001 / BUCKETS_PER_S
    assert deadlines.expire(due) == [("tx", 0)]


def test_order_is_that_of_buckets_then_of_setting() -> None:
    deadlines = Deadlines()
    for owner, at in (("c", 2.0), ("a", 1.0), ("d", 2.001), ("b", 1.0)):
        deadlines.schedule(at, owner, 0)
    assert [owner for owner, _ in deadlines.expire(10.0)] == ["a", "b", "c", "d"]


def test_cancelled_ones_do_not_fire_nor_wake() -> None:
    deadlines = Deadlines()
    first, second = deadlines.schedule(1.0, "a", 0), deadlines.schedule(2.0, "b", 0)
    deadlines.cancel(first)
    deadlines.cancel(first)
    assert deadlines.next_timeout == 2.0
    deadlines.cancel(second)
    assert deadlines.next_timeout is None
    assert deadlines.expire(9.0) == []
    assert len(deadlines) == 0


def test_cancelling_what_has_fired_or_never_was_does_nothing() -> None:
    deadlines = Deadlines()
    handle = deadlines.schedule(1.0, "a", 0)
    deadlines.expire(1.0)
    deadlines.cancel(handle)
    deadlines.cancel(NEVER)
    assert len(deadlines) == 0


def test_a_bucket_that_was_emptied_can_be_filled_again() -> None:
    deadlines = Deadlines()
    deadlines.cancel(deadlines.schedule(1.0, "a", 0))
    deadlines.schedule(1.0, "b", 0)
    assert deadlines.expire(1.0) == [("b", 0)]
    assert deadlines.next_timeout is None


def test_a_jump_of_the_clock_takes_all_in_order() -> None:
    deadlines = Deadlines()
    for number in range(1000):
        deadlines.schedule(1000 - number, number, 0)
    assert [owner for owner, _ in deadlines.expire(1e9)] == list(range(999, -1, -1))


def test_nothing_remains_of_what_was_cancelled() -> None:
    deadlines = Deadlines()
    for handle in [deadlines.schedule(5.0 + number / 7, number, 0) for number in range(5000)]:
        deadlines.cancel(handle)
    assert deadlines._buckets == {}
    assert deadlines.next_timeout is None
    assert deadlines._heap == []
    assert repr(deadlines) == "<Deadlines 0 set, next None>"


@given(
    st.lists(
        st.tuples(st.floats(0, 100, allow_nan=False), st.booleans(), st.floats(0, 5, allow_nan=False)), max_size=60
    )
)
def test_agrees_with_a_heap(script: list[tuple[float, bool, float]]) -> None:
    """Each step: set a deadline, perhaps cancel it, and let some time pass. Never early, at most a bucket late."""
    deadlines, heap, now = Deadlines(), [], 0.0
    fired: set[int] = set()
    for number, (after, cancelled, passes) in enumerate(script):
        handle = deadlines.schedule(now + after, number, 0)
        if cancelled:
            deadlines.cancel(handle)
        else:
            heapq.heappush(heap, (now + after, number))
        now += passes
        fired |= {owner for owner, _ in deadlines.expire(now)}
        assert all(number in fired for at, number in heap if at <= now - 1 / BUCKETS_PER_S)
        assert all(number not in fired for at, number in heap if at > now)
        assert len(deadlines) == len(heap) - len(fired)
