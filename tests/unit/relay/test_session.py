"""The session table: what signaling says becomes forwards, generations and windows, and nothing else does."""

from __future__ import annotations

import pytest

from pbx_media_relay import session
from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.forward import EVERY_PAYLOAD_TYPE, Forward, Medium, Side
from pbx_media_relay.latching import LATCH_WINDOW_NS
from pbx_media_relay.session import Call, CallTable, Rules, Terms
from pbx_media_relay.stream import Direction, Latching, PayloadType, Stream

A_RTP, B_RTP = Endpoint("192.0.2.1", 4000), Endpoint("192.0.2.2", 5000)
PCMU = PayloadType(0, "PCMU", 8000)
DTMF = PayloadType(101, "telephone-event", 48000)


def new_call(latching: Latching = Latching.AUTO) -> Call:
    return Call("c1", 3750, "s1", Terms(60_000_000_000, latching), 0)


def a_side(**changes: object) -> Stream:
    return Stream(**{"side": Side.A, "medium": Medium.AUDIO, "rtp": A_RTP, **changes})  # type: ignore[arg-type]


def b_side(**changes: object) -> Stream:
    return Stream(**{"side": Side.B, "medium": Medium.AUDIO, "rtp": B_RTP, **changes})  # type: ignore[arg-type]


def forward_of(call: Call, side: Side = Side.A) -> Forward:
    return call.forwards[call.forward_id(side * 2)]


def test_a_stream_becomes_a_forward() -> None:
    call = new_call()
    change = session.update(call, [a_side(payload_types=(DTMF, PCMU), signaling_host="198.51.100.1")], 5)
    (forward,) = change.upsert
    assert (forward.id, forward.peer, forward.port) == (15000, 15002, 30000)
    assert (forward.rtp, forward.rtcp) == (A_RTP, Endpoint("192.0.2.1", 4001))
    assert forward.payload_types == 1 | 1 << 101 | 1 << 13 | 1 << 19
    assert forward.clock_rate_hz == 8000
    assert forward.hint_host == "198.51.100.1"
    assert (forward.latch_until_ns, forward.generation) == (5 + LATCH_WINDOW_NS, 0)


def test_the_same_words_again_change_nothing() -> None:
    call = new_call()
    session.update(call, [a_side(), b_side()], 0)
    assert session.update(call, [a_side(), b_side()], 99) == session.Change()


def test_mux_and_an_own_rtcp_endpoint() -> None:
    call = new_call()
    session.update(call, [a_side(rtcp_mux=True), b_side(rtcp=Endpoint("192.0.2.2", 7))], 0)
    assert forward_of(call).rtcp == A_RTP
    assert forward_of(call, Side.B).rtcp == Endpoint("192.0.2.2", 7)


@pytest.mark.parametrize(
    ("direction", "receive", "send"),
    [
        (Direction.SENDRECV, True, True),
        (Direction.SENDONLY, True, False),
        (Direction.RECVONLY, False, True),
        (Direction.INACTIVE, False, False),
    ],
)
def test_directions(direction: Direction, receive: bool, send: bool) -> None:
    call = new_call()
    session.update(call, [a_side(direction=direction)], 0)
    assert (forward_of(call).receive, forward_of(call).send) == (receive, send)


def test_relatch_and_a_new_address_open_the_window_again() -> None:
    call = new_call()
    session.update(call, [a_side()], 0)
    session.update(call, [a_side(relatch=True)], 10)
    assert (forward_of(call).generation, forward_of(call).latch_until_ns) == (1, 10 + LATCH_WINDOW_NS)
    session.update(call, [a_side(rtp=B_RTP)], 20)
    assert (forward_of(call).generation, forward_of(call).latch_until_ns) == (2, 20 + LATCH_WINDOW_NS)


def test_a_change_of_direction_opens_nothing() -> None:
    call = new_call()
    session.update(call, [a_side()], 0)
    session.update(call, [a_side(direction=Direction.INACTIVE)], 10)
    assert (forward_of(call).generation, forward_of(call).latch_until_ns) == (0, LATCH_WINDOW_NS)


def test_strict_never_opens() -> None:
    call = new_call(Latching.STRICT)
    session.update(call, [a_side()], 0)
    session.update(call, [a_side(relatch=True), b_side()], 10)
    assert forward_of(call).latch_until_ns == 0


def test_the_answer_gives_the_caller_its_window() -> None:
    call = new_call()
    session.update(call, [a_side()], 0)
    change = session.update(call, [b_side()], 40_000_000_000)
    assert forward_of(call).latch_until_ns == 40_000_000_000 + LATCH_WINDOW_NS
    assert forward_of(call).generation == 0
    assert {forward.id for forward in change.upsert} == {15000, 15002}


def test_a_declined_stream_is_taken_out() -> None:
    call = new_call()
    session.update(call, [a_side(), b_side()], 0)
    assert session.update(call, [a_side(rtp=None)], 1).remove == (15000,)
    assert session.update(call, [a_side(rtp=None)], 2) == session.Change()


@pytest.mark.parametrize(
    ("host", "port", "is_refused"),
    [
        ("127.0.0.1", 30004, True),
        ("127.8.8.8", 30005, True),
        ("::1", 30000, True),
        ("203.0.113.5", 30001, True),
        ("203.0.113.5", 30008, True),
        ("203.0.113.5", 30016, False),
        ("203.0.113.6", 30004, False),
        ("127.0.0.1", 30016, False),
    ],
)
def test_ports_of_slots_that_calls_hold_are_no_phones(host: str, port: int, is_refused: bool) -> None:
    call = new_call()
    rules = Rules.of(["203.0.113.5"], [], False)
    held = {call.slot, call.slot + 1}.__contains__
    rtp, rtcp = a_side(rtp=Endpoint(host, port)), a_side(rtcp=Endpoint(host, port))
    for stream in (rtp, rtcp):
        found = session.refusals(call, [b_side(), stream], held, rules)
        assert [refusal.stream for refusal in found] == [stream] * is_refused
    change = session.update(call, session.without([b_side(), rtp], session.refusals(call, [rtp], held, rules)), 0)
    assert len(change.upsert) == 2 - is_refused


def test_payload_types_of_both_sides_comfort_noise_and_no_more_are_plausible() -> None:
    call = new_call()
    session.update(call, [a_side(payload_types=(PayloadType(97, "opus", 48000, 2),))], 0)
    session.update(call, [b_side(payload_types=(PayloadType(111, "opus", 48000, 2), PCMU))], 0)
    both = 1 << 97 | 1 << 111 | 1 | 1 << 13 | 1 << 19
    assert forward_of(call).payload_types == forward_of(call, Side.B).payload_types == both
    assert forward_of(call).generation == 0
    session.update(call, [b_side()], 0)
    assert forward_of(call, Side.B).payload_types == EVERY_PAYLOAD_TYPE


def test_rules_of_the_relay() -> None:
    rules = Rules.of([], ["198.51.100.0/24", "2001:db8::/32"], True)
    hidden = a_side(rtp=Endpoint("10.1.1.1", 4000), signaling_host="198.51.100.7")
    for any_host, stream, hint in (
        (False, hidden, "198.51.100.7"),
        (True, hidden, ""),
        (True, a_side(rtp=Endpoint("203.0.114.1", 4000), signaling_host="198.51.100.7"), "198.51.100.7"),
        (True, a_side(rtp=Endpoint("10.1.1.1", 4000), signaling_host="10.1.1.1"), "10.1.1.1"),
    ):
        call = new_call()
        session.update(call, [stream], 0, Rules.of([], [], any_host))
        assert forward_of(call).hint_host == hint
    call = new_call()
    session.update(call, [a_side(rtp=Endpoint("198.51.100.9", 4000)), b_side(no_rtcp=True)], 0, rules)
    assert (forward_of(call).fixed, forward_of(call, Side.B).fixed) == (True, False)
    assert (forward_of(call).no_rtcp, forward_of(call, Side.B).no_rtcp) == (False, True)
    with pytest.raises(ValueError, match="gateway"):
        Rules.of([], ["gateway"], False)


def test_expects_media_only_where_both_may_talk() -> None:
    call = new_call()
    session.update(call, [a_side()], 0)
    assert not call.expects_media()
    session.update(call, [b_side()], 0)
    assert call.expects_media()
    session.update(call, [b_side(direction=Direction.SENDONLY)], 0)
    assert not call.expects_media()


def test_a_tap_is_put_on_and_taken_off() -> None:
    call = new_call()
    session.update(call, [a_side(), b_side()], 0)
    assert len(session.tap(call, True).upsert) == 2
    assert session.tap(call, True) == session.Change()
    session.update(call, [a_side(relatch=True)], 1)
    assert forward_of(call).tap
    assert all(not forward.tap for forward in session.tap(call, False).upsert)


def test_unknown_payload_types_restrict_nothing_and_measure_nothing() -> None:
    call = new_call()
    session.update(call, [a_side()], 0)
    assert (forward_of(call).payload_types, forward_of(call).clock_rate_hz) == (EVERY_PAYLOAD_TYPE, 0)


def test_the_table_knows_who_owns_what() -> None:
    table, call = CallTable(), new_call()
    table.add(call)
    table.own(call, "s2")
    assert table.owned_by("s1") == []
    assert table.owned_by("s2") == [call]
    assert table.remove("c1") is call
    assert table.remove("c1") is None
    assert table.owned_by("s2") == []
    assert "0 calls of 0 instances" in repr(table)
