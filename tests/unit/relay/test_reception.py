"""Loss, order, duplicates and jitter of a stream against hand-made tables and RFC 3550's own formulas."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbx_media_relay.reception import MAX_DROPOUT, Reception

MS = 1_000_000


def feed(sequences: list[int], ssrc: int = 1) -> Reception:
    reception = Reception()
    for index, sequence in enumerate(sequences):
        reception.receive(sequence & 0xFFFF, sequence * 160 & 0xFFFFFFFF, ssrc, 8000, (index + 1) * 20 * MS)
    return reception


@pytest.mark.parametrize(
    ("sequences", "lost", "reordered", "duplicate"),
    [
        ([], 0, 0, 0),
        ([5], 0, 0, 0),
        ([5, 6, 7], 0, 0, 0),
        ([5, 7], 1, 0, 0),
        ([5, 7, 6], 0, 1, 0),
        ([5, 5], 0, 0, 1),
        ([5, 6, 5], 0, 0, 1),
        ([5, 8, 7, 7], 1, 1, 1),
        ([65534, 65535, 65536, 65537], 0, 0, 0),
        ([65535, 65537, 65536], 0, 1, 0),
        ([10, 9], 0, 1, 0),
        ([10, 10 + 70, 11], 68, 1, 0),
        ([10, 10 + MAX_DROPOUT - 1], MAX_DROPOUT - 2, 0, 0),
        ([10, 20000, 20001, 20002], 0, 0, 0),
        ([10, 11, 20000, 12], 0, 0, 0),
        ([10, 12, 40000, 40001, 40003], 2, 0, 0),
    ],
)
def test_sequences(sequences: list[int], lost: int, reordered: int, duplicate: int) -> None:
    reception = feed(sequences)
    assert (reception.lost, reception.reordered, reception.duplicate) == (lost, reordered, duplicate)


@settings(deadline=None)
@given(
    st.integers(0, 65535),
    st.lists(st.booleans(), min_size=1, max_size=300),
)
def test_loss_is_what_was_not_sent_on(start: int, arrives: list[bool]) -> None:
    sequences = [start + index for index, ok in enumerate([True, *arrives, True]) if ok]
    assert feed(sequences).lost == arrives.count(False)


@settings(deadline=None)
@given(st.permutations(range(20)))
def test_any_order_of_all_packets_loses_none(order: list[int]) -> None:
    reception = feed([30000 + number for number in order])
    assert (reception.lost, reception.duplicate) == (0, 0)


def test_a_new_ssrc_starts_over_and_keeps_the_loss() -> None:
    reception = feed([1, 3])
    reception.receive(60000, 0, 2, 8000, 100 * MS)
    reception.receive(60001, 160, 2, 8000, 120 * MS)
    assert (reception.lost, reception.ssrc_changes, reception.ssrc) == (1, 1, 2)


def test_jitter_is_the_appendix_formula() -> None:
    arrivals_ms = [0, 20, 47, 60, 80, 135, 140, 141]
    reception, expected, before = Reception(), 0.0, None
    for sequence, arrival_ms in enumerate(arrivals_ms):
        reception.receive(sequence, sequence * 160, 9, 8000, (arrival_ms + 1) * MS)
        transit = arrival_ms * 8 - sequence * 160
        if before is not None:
            expected += (abs(transit - before) - expected) / 16
        before = transit
    assert reception.jitter_measured
    assert reception.jitter_q4 / 16 == pytest.approx(expected, abs=1.0)
    assert expected > 20


def test_steady_arrival_has_no_jitter_across_the_wrap_of_the_timestamp() -> None:
    reception = Reception()
    for sequence in range(10):
        stamp = (0xFFFFFFFF - 500 + sequence * 160) & 0xFFFFFFFF
        reception.receive(sequence, stamp, 9, 8000, (sequence + 1) * 20 * MS)
    assert reception.jitter_measured
    assert reception.jitter_q4 == 0


def test_a_jump_of_the_timestamp_is_no_jitter() -> None:
    reception = feed([1, 2, 3])
    reception.receive(4, 999_999_999, 1, 8000, 80 * MS)
    reception.receive(5, 999_999_999 + 160, 1, 8000, 100 * MS)
    assert reception.jitter_q4 == 0


def test_repeated_timestamps_do_not_count() -> None:
    reception = Reception()
    for sequence in range(5):
        reception.receive(sequence, 1000, 9, 8000, (sequence + 1) * 20 * MS)
    assert not reception.jitter_measured


def test_the_longest_gap_and_a_pause_that_is_none() -> None:
    reception = Reception()
    for sequence, at_ms in enumerate([10, 30, 95, 115]):
        reception.receive(sequence, sequence * 160, 9, 8000, at_ms * MS)
    reception.pause()
    reception.receive(9, 9 * 160, 9, 8000, 5000 * MS)
    assert reception.gap_max_ns == 65 * MS


@given(st.lists(st.tuples(st.integers(-90, 200), st.booleans()), max_size=60))
def test_what_was_missing_once_never_becomes_less(steps: list[tuple[int, bool]]) -> None:
    """A counter must not fall: `lost` does when a late packet comes, `lost` with the late ones does not."""
    reception, sequence, before = Reception(), 30_000, 0
    for number, (step, restarts) in enumerate(steps):
        sequence = (sequence + step) & 0xFFFF
        reception.receive(sequence, number * 160, 7 + restarts, 8000, number * 20_000_000)
        missing = reception.lost + reception.reordered
        assert missing >= before
        before = missing
