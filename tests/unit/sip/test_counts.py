"""Counts of nonces: each is good once."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from pbx_sip.auth.counts import WINDOW, NonceCounts
from pbx_sip.auth.nonce import NonceMinter

SOURCE = "192.0.2.7"


def test_a_count_is_good_once_and_in_any_order():
    counts = NonceCounts(600.0)
    assert [counts.use("n", count, 0.0) for count in (1, 3, 2, 3, 2, 1)] == [True, True, True, False, False, False]
    assert counts.use("other", 1, 0.0)


def test_a_nonce_without_counts_is_good_once():
    counts = NonceCounts(600.0)
    assert counts.use("n", 0, 0.0)
    assert counts.use("n", 0, 0.0) is False


def test_a_count_far_behind_the_highest_counts_as_used():
    counts = NonceCounts(600.0)
    assert counts.use("n", 0xFFFFFFFF, 0.0)
    assert counts.use("n", 0xFFFFFFFF - WINDOW + 1, 0.0)
    assert counts.use("n", 0xFFFFFFFF - WINDOW, 0.0) is False
    assert counts.use("n", 1, 0.0) is False


def test_a_full_table_says_so_until_nonces_have_run_out():
    counts = NonceCounts(600.0, nonces_max=2)
    assert counts.use("a", 1, 0.0)
    assert counts.use("b", 1, 1.0)
    assert counts.use("c", 1, 2.0) is None
    assert counts.use("a", 2, 2.0)
    assert counts.use("a", 2, 2.0) is False
    assert counts.use("c", 1, 600.0)
    assert len(counts) == 2


@given(st.lists(st.integers(0, 2_000), max_size=60))
def test_no_count_is_good_twice(tried: list[int]):
    counts, good = NonceCounts(600.0), set()
    for count in tried:
        if counts.use("n", count, 0.0):
            assert count not in good
            good.add(count)
    behind = max(tried, default=0) - WINDOW
    assert {count for count in tried if count > behind} <= good


def test_a_minter_knows_its_own_nonces():
    mine, theirs = NonceMinter(b"k" * 32, os.urandom), NonceMinter(b"k" * 32, os.urandom)
    own = [mine.mint(1000.0 + second, SOURCE) for second in range(3) for _ in range(5)]
    others = [theirs.mint(1000.0 + second, SOURCE) for second in range(3) for _ in range(5)]
    assert all(map(mine.is_own, own))
    assert not any(map(mine.is_own, others))
    assert not NonceMinter(b"k" * 32, os.urandom).is_own(own[0])


def test_a_salt_that_runs_over_is_still_ones_own():
    mine = NonceMinter(b"k" * 32, lambda size: b"\xff" * size)
    nonces = [mine.mint(1000.0, SOURCE) for _ in range(3)]
    assert len(set(nonces)) == 3
    assert all(map(mine.is_own, nonces))


def test_a_minter_remembers_no_more_seconds_than_count():
    mine = NonceMinter(b"k" * 32, os.urandom, lifetime_s=5)
    first = mine.mint(0.0, SOURCE)
    for second in range(100):
        mine.mint(float(second), SOURCE)
    assert not mine.is_own(first)
    assert mine.is_own(mine.mint(99.0, SOURCE))
    assert len(mine._count) <= 11
