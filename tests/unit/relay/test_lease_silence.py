"""Leases of signaling instances and the watch over silent calls, on a clock turned by hand."""

from __future__ import annotations

import pytest

from pbx_media_relay.lease import LEASE_MAX_S, Leases
from pbx_media_relay.silence import DEAD_MIN, Silence, SilenceWatch

S = 1_000_000_000


def test_a_connected_instance_never_expires() -> None:
    leases = Leases()
    leases.connect("s1", 0)
    leases.touch("s1", 0)
    assert leases.expire(10_000 * S) == []


@pytest.mark.parametrize(("asked", "given"), [(0, 30), (10, 10), (60, 60), (3600, LEASE_MAX_S)])
def test_its_lease_runs_from_the_end_of_the_last_stream(asked: int, given: int) -> None:
    leases = Leases()
    leases.connect("s1", asked)
    leases.connect("s1", asked)
    leases.disconnect("s1", 100 * S)
    assert leases.expire(1000 * S) == []
    leases.disconnect("s1", 1000 * S)
    assert leases.expire((1000 + given) * S - 1) == []
    assert leases.expire((1000 + given) * S) == ["s1"]
    assert leases.expire(9999 * S) == []


def test_coming_back_in_time_keeps_all() -> None:
    leases = Leases()
    leases.connect("s1", 0)
    leases.disconnect("s1", 0)
    leases.connect("s1", 0)
    assert leases.expire(1000 * S) == []
    assert leases.connected() == 1


def test_without_a_stream_every_word_renews() -> None:
    leases = Leases()
    leases.touch("tool", 0)
    leases.touch("tool", 50 * S)
    assert leases.expire(100 * S) == []
    assert leases.expire(110 * S) == ["tool"]


def test_silence_is_reported_once_and_again_after_media_came_back() -> None:
    watch, last = SilenceWatch(), {"c": 0}
    watch.watch("c", 60 * S, 0)

    def due(now_s: int) -> list[Silence]:
        return list(watch.due(now_s * S, lambda call_id: last[call_id]))

    assert due(59) == []
    last["c"] = 50 * S
    assert due(60) == []
    assert due(109) == []
    assert due(110) == [Silence("c", 60 * S)]
    assert due(170) == []
    assert due(1000) == []
    last["c"] = 1010 * S
    assert due(1060) == []
    assert due(1080) == [Silence("c", 70 * S)]


def test_a_forgotten_call_is_silent_in_peace() -> None:
    watch = SilenceWatch()
    watch.watch("c", 10 * S, 0)
    watch.forget("c")
    assert list(watch.due(100 * S, lambda _: 0)) == []
    assert not watch.is_watched("c")


def test_watching_anew_starts_anew() -> None:
    watch = SilenceWatch()
    watch.watch("c", 10 * S, 0)
    watch.forget("c")
    watch.watch("c", 10 * S, 8 * S)
    assert list(watch.due(12 * S, lambda _: 0)) == []
    assert list(watch.due(18 * S, lambda _: 0)) == [Silence("c", 10 * S)]


def test_a_timeout_of_zero_watches_nothing() -> None:
    watch = SilenceWatch()
    watch.watch("c", 0, 0)
    assert not watch.is_watched("c")


def test_calls_that_are_over_leave_nothing_to_look_at() -> None:
    """Found by relay-cycles: 200 bytes stayed of each call until its timeout was over."""
    watch = SilenceWatch()
    for number in range(10):
        watch.watch(f"live{number}", 3600 * S, number)
    for number in range(5000):
        watch.watch(f"c{number}", 3600 * S, 100)
        watch.forget(f"c{number}")
    assert len(watch._heap) <= 10 + DEAD_MIN + 20
    found = list(watch.due(3600 * S + 9, lambda _: 0))
    assert [each.call_id for each in found] == [f"live{number}" for number in range(10)]
