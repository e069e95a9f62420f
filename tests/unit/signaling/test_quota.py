"""Limits of accounts and sources: what counts for whom, from when, and until when."""

from __future__ import annotations

import dataclasses

import pytest

from pbx_signaling.calls.signals import Authenticated, Limited
from pbx_signaling.replicas.board import OCTETS, Board
from pbx_signaling.users.quota import BURST_S, LIMITS, RATES_MAX, Held, QuotaPolicy, Quotas
from pbx_sip.address import HostPort

OFFICE = HostPort("198.51.100.7", 5060)
POLICY = QuotaPolicy(
    account_calls=2, account_calls_per_s=4.0, source_calls=5, source_calls_per_s=10.0, callee_ringing=3
)


def begun(quotas: Quotas, user: str = "1004", source: HostPort = OFFICE, *, calls_max: int = 0, **more: bool) -> Held:
    """A call that was let in; AssertionError where it was not."""
    held = Held()
    limited = quotas.begin(held, Authenticated(user, "", calls_max), source, trusted=more.get("trusted", False))
    assert limited is None, limited
    return held


def refusal(quotas: Quotas, user: str = "1004", source: HostPort = OFFICE, *, calls_max: int = 0) -> Limited:
    """What a call that is not let in meets; it counts for nothing."""
    held = Held()
    limited = quotas.begin(held, Authenticated(user, "", calls_max), source, trusted=False)
    assert limited is not None
    assert held == Held()
    return limited


def test_an_account_has_so_many_calls_and_another_has_its_own() -> None:
    quotas = Quotas(POLICY)
    first, _ = begun(quotas), begun(quotas)
    assert (refusal(quotas).status, refusal(quotas).word) == (486, "account_calls")
    begun(quotas, "1008")
    quotas.end(first)
    begun(quotas)
    assert quotas.refused == {"account_calls": 2}


@pytest.mark.parametrize(("own", "calls"), [(1, 1), (4, 4), (0, 2)])
def test_a_limit_of_its_own_counts_more_than_that_of_all(own: int, calls: int) -> None:
    quotas = Quotas(POLICY)
    for _ in range(calls):
        begun(quotas, calls_max=own)
    assert refusal(quotas, calls_max=own).word == "account_calls"


def test_an_address_has_so_many_calls_whoever_makes_them() -> None:
    quotas = Quotas(POLICY)
    for number in range(5):
        begun(quotas, f"u{number}", HostPort(OFFICE.host, 1024 + number))
    assert refusal(quotas, "u9").word == "source_calls"
    begun(quotas, "u9", HostPort("198.51.100.8", 5060))
    begun(quotas, "u9", trusted=True)


def test_addresses_of_one_ipv6_customer_are_one_source() -> None:
    quotas = Quotas(POLICY)
    for number in range(5):
        begun(quotas, f"u{number}", HostPort(f"2001:db8::{number}", 5060))
    assert refusal(quotas, "u9", HostPort("2001:db8::ffff", 5060)).word == "source_calls"


def test_an_account_is_rung_by_so_many_calls_until_they_are_answered_or_end() -> None:
    quotas = Quotas(POLICY)
    held = [Held() for _ in range(5)]
    assert [quotas.ring(each, "1008@x") for each in held[:3]] == [None] * 3
    limited = quotas.ring(held[3], "1008@x")
    assert limited is not None
    assert (limited.status, limited.word) == (486, "callee_ringing")
    assert quotas.ring(held[3], "1009@x") is None
    quotas.answered(held[0])
    assert quotas.ring(held[4], "1008@x") is None
    for each in held:
        quotas.end(each)
        quotas.end(each)
    assert len(quotas) == 0


def test_attempts_have_a_rate_and_a_burst() -> None:
    quotas = Quotas(POLICY)
    burst = int(POLICY.account_calls_per_s * BURST_S)
    outcomes = [quotas.attempt("1004", OFFICE, 0.0, trusted=False) for _ in range(burst + 3)]
    assert outcomes[:burst] == [None] * burst
    for limited in outcomes[burst:]:
        assert limited is not None
        assert (limited.status, limited.word, limited.retry_after_s) == (503, "account_rate", 1)
    assert quotas.attempt("1004", OFFICE, 0.26, trusted=False) is None
    words = [quotas.attempt(f"u{number}", OFFICE, 0.3, trusted=False) for number in range(60)]
    assert {limited.word for limited in words if limited is not None} == {"source_rate"}
    assert quotas.attempt("u99", OFFICE, 0.3, trusted=True) is None


def test_no_limit_is_no_limit() -> None:
    quotas = Quotas(QuotaPolicy(0, 0.0, 0, 0.0, 0))
    for _ in range(1000):
        begun(quotas)
        assert quotas.attempt("1004", OFFICE, 0.0, trusted=False) is None
        assert quotas.ring(Held(), "1008@x") is None
    assert quotas.busiest == 1000


def test_tables_are_bounded_and_words_are_named() -> None:
    quotas = Quotas(dataclasses.replace(POLICY, source_calls_per_s=0.0))
    for number in range(RATES_MAX + 10):
        quotas.attempt(f"u{number}", OFFICE, 0.0, trusted=False)
    assert len(quotas._rates) == RATES_MAX
    assert set(quotas.refused) <= set(LIMITS)


def test_processes_at_one_address_hold_a_limit_together() -> None:
    memory = memoryview(bytearray(OCTETS))
    one, other = (Quotas(POLICY, shared=Board(memory, index, ("abcd00", "abcd01"))) for index in range(2))
    first = begun(one)
    begun(other)
    assert (refusal(one).word, refusal(other).word) == ("account_calls", "account_calls")
    one.end(first)
    begun(other)
    assert refusal(one).word == "account_calls"
    for quotas, callee in ((one, "1008"), (other, "1008"), (one, "1008")):
        assert quotas.ring(Held(), callee) is None
    refused = other.ring(Held(), "1008")
    assert refused is not None
    assert refused.word == "callee_ringing"
