"""Who may be latched, when: the table of latching.py, case by case, and no way around it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.latching import SETTLE_NS, STRAGGLER_NS, Latch

ANNOUNCED = Endpoint("192.168.1.5", 4000)
NAT = Endpoint("203.0.113.9", 61000)
OTHER_PORT = Endpoint("192.168.1.5", 4444)
EVIL = Endpoint("198.51.100.66", 666)
OPEN = 30_000_000_000
STREAM = (0xABCD, 100)


def latch(hint: str = "", until_ns: int = OPEN) -> Latch:
    return Latch(ANNOUNCED, hint, until_ns, 0)


def rtp(made: Latch, source: Endpoint, now_ns: int = 1, plausible: bool = True, sequence: int = 100) -> bool:
    return made.accept_rtp(source, plausible, (0xABCD, sequence), now_ns)


def test_announced_is_accepted_at_once_and_shuts_the_window() -> None:
    made = latch()
    assert rtp(made, ANNOUNCED, plausible=False)
    assert not rtp(made, OTHER_PORT)
    assert made.destination == ANNOUNCED


def test_strict_takes_the_announced_alone() -> None:
    made = latch(until_ns=0)
    assert not rtp(made, OTHER_PORT)
    assert not rtp(made, NAT, sequence=1)
    assert not rtp(made, NAT, sequence=2)
    assert rtp(made, ANNOUNCED)


def test_same_host_latches_at_its_first_plausible_packet() -> None:
    made = latch()
    assert not rtp(made, OTHER_PORT, plausible=False)
    assert rtp(made, OTHER_PORT)
    assert (made.source, made.destination) == (OTHER_PORT, OTHER_PORT)


def test_strangers_need_two_sequential_packets() -> None:
    made = latch()
    assert not rtp(made, NAT, sequence=65535)
    assert not rtp(made, EVIL, sequence=0)
    assert not rtp(made, NAT, sequence=0)
    assert rtp(made, NAT, sequence=1)


def test_a_better_source_replaces_a_worse_one_until_the_window_settles() -> None:
    made = latch()
    rtp(made, EVIL, sequence=1)
    assert rtp(made, EVIL, sequence=2)
    assert rtp(made, OTHER_PORT, now_ns=2)
    assert not rtp(made, EVIL, now_ns=3)
    assert rtp(made, ANNOUNCED, now_ns=4)
    assert made.source == ANNOUNCED
    late = latch()
    rtp(late, NAT, sequence=1)
    rtp(late, NAT, sequence=2)
    assert not rtp(late, OTHER_PORT, now_ns=SETTLE_NS + 2)


def test_a_known_signaling_host_bars_all_others() -> None:
    made = latch(hint=NAT.host)
    assert not any(rtp(made, EVIL, sequence=sequence) for sequence in range(10))
    assert rtp(made, NAT)


def test_a_closed_window_stays_closed() -> None:
    made = latch()
    assert not rtp(made, OTHER_PORT, now_ns=OPEN)


def test_the_same_generation_keeps_and_a_new_one_opens() -> None:
    made = latch()
    rtp(made, OTHER_PORT)
    made.update(ANNOUNCED, "", OPEN * 2, 0)
    assert made.source == OTHER_PORT
    made.update(ANNOUNCED, "", OPEN * 2, 1)
    assert (made.source, made.destination, made.last_source) == (None, OTHER_PORT, OTHER_PORT)
    assert rtp(made, Endpoint(ANNOUNCED.host, 5000), now_ns=OPEN + 1)


def test_a_new_announced_endpoint_is_the_new_destination() -> None:
    made = latch()
    rtp(made, OTHER_PORT)
    made.update(NAT, "", 0, 0)
    assert made.destination == NAT
    assert not rtp(made, OTHER_PORT)
    assert rtp(made, NAT)


def test_the_announced_endpoint_comes_back_whenever_it_likes() -> None:
    made = latch()
    rtp(made, OTHER_PORT)
    assert not rtp(made, NAT, now_ns=OPEN * 2)
    assert rtp(made, ANNOUNCED, now_ns=OPEN * 2, plausible=False)
    assert made.destination == ANNOUNCED
    assert not rtp(made, OTHER_PORT, now_ns=OPEN * 2 + 1)


def test_a_straggler_of_the_place_before_is_late_and_not_news() -> None:
    made = latch(hint="192.168.1.5")
    rtp(made, ANNOUNCED)
    moved = Endpoint(ANNOUNCED.host, 4800)
    made.update(moved, "192.168.1.5", OPEN + 10, 0)
    assert not rtp(made, ANNOUNCED, now_ns=10 + STRAGGLER_NS // 2)
    assert made.destination == moved
    assert rtp(made, moved, now_ns=OPEN * 3)


def test_a_place_that_stays_the_same_under_another_announced_address_is_found_again() -> None:
    made = latch(hint=NAT.host)
    rtp(made, NAT)
    made.update(Endpoint("192.168.1.5", 4800), NAT.host, OPEN, 0)
    assert not rtp(made, NAT, now_ns=STRAGGLER_NS - 1)
    assert rtp(made, NAT, now_ns=STRAGGLER_NS + 1)
    fresh = Endpoint(NAT.host, 61002)
    assert rtp(made, fresh, now_ns=STRAGGLER_NS + 2), "a new port of the NAT replaces the old one"
    assert not rtp(made, NAT, now_ns=STRAGGLER_NS + 3)


def test_after_a_rebinding_the_new_port_wins_over_what_the_old_one_still_brings() -> None:
    made = latch(hint=NAT.host)
    rtp(made, NAT)
    made.update(ANNOUNCED, NAT.host, OPEN, 1)
    assert rtp(made, NAT)
    fresh = Endpoint(NAT.host, 61002)
    assert rtp(made, fresh)
    assert made.destination == fresh
    assert not rtp(made, NAT)


def test_asymmetric_rtp_is_taken_and_goes_where_it_was_announced() -> None:
    made = Latch(ANNOUNCED, "", OPEN, 0, True)
    assert rtp(made, OTHER_PORT)
    assert (made.source, made.destination) == (OTHER_PORT, ANNOUNCED)
    made.update(ANNOUNCED, "", OPEN, 1, False)
    rtp(made, OTHER_PORT)
    assert made.destination == OTHER_PORT
    made.update(ANNOUNCED, "", OPEN, 1, True)
    assert made.destination == ANNOUNCED


def test_keep_alives_tell_where_the_phones_own_hosts_are() -> None:
    made = latch(hint=NAT.host)
    made.keep_alive(EVIL, 1)
    assert made.source is None
    made.keep_alive(NAT, 1)
    assert made.destination == NAT
    made.keep_alive(Endpoint(NAT.host, 61002), 2)
    assert made.destination == NAT
    stranger = latch()
    stranger.keep_alive(NAT, 1)
    assert stranger.source is None, "of strangers it takes two packets of RTP"


def test_an_unlatched_window_may_be_moved_without_a_new_generation() -> None:
    made = latch(until_ns=10)
    made.update(ANNOUNCED, "", OPEN, 0)
    assert rtp(made, OTHER_PORT, now_ns=20)


def test_rtcp_follows_its_rtp_host_and_no_stranger() -> None:
    made = Latch(Endpoint("192.168.1.5", 4001), "", OPEN, 0)
    assert not made.accept_rtcp(EVIL, None, 1)
    assert not made.accept_rtcp(EVIL, NAT.host, 1)
    assert made.accept_rtcp(Endpoint(NAT.host, 61001), NAT.host, 1)
    announced = Latch(Endpoint("192.168.1.5", 4001), "", 0, 0)
    assert announced.accept_rtcp(Endpoint("192.168.1.5", 4001), "192.168.1.5", 1)


sources = st.sampled_from([ANNOUNCED, OTHER_PORT, NAT, EVIL])
packets = st.lists(st.tuples(sources, st.booleans(), st.integers(0, 5), st.integers(0, 2 * OPEN)), max_size=40)


@settings(deadline=None)
@given(packets, st.sampled_from(["", NAT.host]))
def test_once_the_window_is_shut_nothing_is_learned(script: list[tuple[Endpoint, bool, int, int]], hint: str) -> None:
    made, now_ns = latch(hint=hint), 0
    for source, plausible, sequence, step_ns in script:
        now_ns += step_ns
        before, window = made.source, made.until_ns
        accepted = made.accept_rtp(source, plausible, (1, sequence), now_ns)
        if before is not None and now_ns >= window:
            assert made.source in (before, ANNOUNCED)
        assert accepted == (made.source == source)
        if hint and accepted:
            assert source.host in (hint, ANNOUNCED.host)
