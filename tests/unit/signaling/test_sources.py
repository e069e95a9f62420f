"""Buckets of sources: who is refused, who is not read, who is never slowed down."""

from __future__ import annotations

import pytest

from pbx_signaling.router.sources import ANSWERS_BURST, ANSWERS_PER_S, KNOWN_S, SOURCES_MAX, UNREAD_S, Sources
from pbx_sip.address import HostPort

FLOOD, PHONE = HostPort("198.51.100.1", 5060), HostPort("192.0.2.10", 5060)


def test_a_source_has_its_burst_and_then_its_rate():
    sources = Sources(10.0, 20.0)
    assert [sources.admits(FLOOD, 0.0) for _ in range(21)] == [True] * 20 + [False]
    admitted = sum(sources.admits(FLOOD, 0.1 * tick) for tick in range(1, 101))
    assert 95 <= admitted <= 100


def test_others_are_not_concerned():
    sources = Sources(10.0, 20.0)
    for _ in range(500):
        sources.admits(FLOOD, 0.0)
    assert sources.admits(PHONE, 0.0)


def test_who_goes_on_is_not_read_but_for_what_belongs_to_calls():
    sources = Sources(100.0, 20.0)
    for _ in range(50):
        sources.admits(FLOOD, 0.0)
    assert sources.unread
    assert sources.is_unread(b"OPTIONS sip:x SIP/2.0\r\n", FLOOD, 0.1)
    for message in (b"BYE sip:x SIP/2.0", b"ACK sip:x SIP/2.0", b"SIP/2.0 200 OK", b"CANCEL sip:x SIP/2.0"):
        assert not sources.is_unread(message, FLOOD, 0.1)
    assert not sources.is_unread(b"OPTIONS sip:x SIP/2.0\r\n", PHONE, 0.1)
    assert not sources.is_unread(b"OPTIONS sip:x SIP/2.0\r\n", FLOOD, UNREAD_S + 0.1)
    assert not sources.unread


def test_who_proves_its_users_is_never_slowed_down():
    sources = Sources(10.0, 20.0)
    for number in range(10_000):
        now = number / 1000
        assert sources.admits(PHONE, now), "the request without credentials"
        assert sources.admits(PHONE, now, answers=True), "and the one with them"
        sources.proved(PHONE, now)


def test_many_ports_of_one_address_are_one_source_with_more_room():
    sources = Sources(10.0, 20.0)
    admitted = sum(sources.admits(HostPort("198.51.100.1", 1024 + number), 0.0) for number in range(1000))
    assert admitted == 100


def test_refusals_are_forgotten():
    sources = Sources(10.0, 20.0)
    for _ in range(10_000):
        sources.admits(FLOOD, 0.0)
    assert sources.admits(FLOOD, 0.2), "what was refused cost nothing"


def test_tables_are_bounded():
    sources = Sources(10.0, 1.0)
    for number in range(SOURCES_MAX + 100):
        source = HostPort(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 5060)
        for _ in range(23 if number < 500 else 1):
            sources.admits(source, 0.0)
    assert len(sources._strangers) <= SOURCES_MAX
    assert len(sources.unread) <= SOURCES_MAX


def test_no_rate_is_no_limit():
    sources = Sources(0.0, 1.0)
    assert all(sources.admits(FLOOD, 0.0) for _ in range(100))


def test_datagrams_in_the_name_of_a_source_do_not_use_up_what_it_has_for_answers():
    sources = Sources(10.0, 20.0)
    for _ in range(1000):
        sources.admits(PHONE, 0.0)
    assert not sources.admits(PHONE, 0.0)
    assert sources.admits(PHONE, 0.0, answers=True)


def test_wrong_answers_are_slow_and_do_not_mute():
    sources = Sources(200.0, 50.0)
    assert sum(sources.admits(PHONE, 0.0, answers=True) for _ in range(500)) == 50
    admitted = sum(sources.admits(PHONE, 0.01 * tick, answers=True) for tick in range(1, 1001))
    assert admitted == pytest.approx(ANSWERS_PER_S * 10, abs=2)
    assert not sources.unread


def test_the_burst_of_answers_is_smaller_than_that_of_strangers():
    sources = Sources(200.0, 2_000.0)
    assert sum(sources.admits(PHONE, 0.0, answers=True) for _ in range(3_000)) == ANSWERS_BURST


def test_right_answers_are_free():
    sources = Sources(10.0, 20.0)
    for number in range(5_000):
        assert sources.admits(PHONE, number / 1000, answers=True)
        sources.proved(PHONE, number / 1000)


def test_a_source_that_proved_a_user_does_not_share_the_bucket_of_its_address():
    sources = Sources(10.0, 20.0)
    sources.proved(PHONE, 0.0)
    for port in range(1024, 3000):
        sources.admits(HostPort(PHONE.host, port), 1.0)
    assert not sources.admits(HostPort(PHONE.host, 99), 1.0)
    assert sources.admits(PHONE, 1.0)
    assert sources.is_known(PHONE, KNOWN_S - 1)
    assert not sources.is_known(PHONE, KNOWN_S)


def test_what_is_carried_to_others_has_a_budget_of_its_own():
    sources = Sources(10.0, 20.0)
    assert sum(sources.carries(FLOOD, 0.0) for _ in range(500)) == 100
    assert sources.admits(FLOOD, 0.0)
    assert all(Sources(0.0, 1.0).carries(FLOOD, 0.0) for _ in range(100))


def test_known_sources_are_bounded():
    sources = Sources(10.0, 1.0)
    for number in range(SOURCES_MAX + 5):
        sources.proved(HostPort(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 5060), 0.0)
    assert len(sources._known) == SOURCES_MAX
