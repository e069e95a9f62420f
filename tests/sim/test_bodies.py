"""Session descriptions inside of other bodies (RFC 5621): found, rewritten in place, or not let through."""

from __future__ import annotations

import pytest

from pbx_sip.message.message import Message
from support.bench_core import ALICE, BOB, Bench, sdp
from support.ladder import INVITE, establish, invite, reply, within

ISUP = b"\x01\x00\x49\x00--edge\x00"
RELAY, PHONES = b"192.0.2.2", (b"192.0.2.10", b"192.0.2.20")


def mixed(*parts: tuple[str, bytes]) -> bytes:
    """A body of parts: their header fields and octets."""
    return b"".join(b"--edge\r\n%s\r\n\r\n%s\r\n" % (head.encode(), data) for head, data in parts) + b"--edge--\r\n"


def isup_and(*descriptions: bytes) -> bytes:
    """A telephone network's parameters beside session descriptions."""
    told = [("Content-Type: application/sdp", data) for data in descriptions]
    return mixed(("Content-Type: application/ISUP;version=itu-t92+\r\nContent-Disposition: signal", ISUP), *told)


def assert_rewritten(message: Message) -> None:
    """The relay is named, no phone is, and the other part is as it was."""
    assert message.content_type == "multipart/mixed"
    assert RELAY in message.body
    assert not any(phone in message.body for phone in PHONES)
    assert ISUP in message.body


MIXED = "Content-Type: multipart/mixed;boundary=edge"


def call(bench: Bench, body: bytes, header: str = MIXED) -> None:
    """Alice calls with that body."""
    bench.send(INVITE.format(branch="i1").replace("Content-Type: application/sdp", header), ALICE, body)


def test_a_description_in_a_multipart_body_is_rewritten_both_ways():
    bench = Bench()
    call(bench, isup_and(sdp("192.0.2.10")))
    bench.response(ALICE, 100)
    out = bench.request(BOB, "INVITE")
    assert_rewritten(out)
    bench.send(reply(out, 200) + f"\n{MIXED}", BOB, isup_and(sdp("192.0.2.20")))
    ok = bench.response(ALICE, 200)
    assert_rewritten(ok)
    assert {endpoint.host for update in bench.updates for endpoint in update.endpoints} == {"192.0.2.20"}
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    bench.request(BOB, "ACK")
    bench.send(within("INVITE", ok, 2, "h1") + f"\n{MIXED}", ALICE, isup_and(sdp("192.0.2.10", 4002)))
    assert_rewritten(next(m for m in bench.take(BOB) if m.body))
    bench.take(ALICE)
    bench.send(within("BYE", ok, 3, "y1"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


def test_a_second_session_does_not_cross():
    """Early media of its own (RFC 3959) would not pass the relay."""
    bench = Bench()
    early = ("Content-Type: application/sdp\r\nContent-Disposition: early-session", sdp("192.0.2.10", 5000))
    call(bench, mixed(early, ("Content-Type: application/sdp", sdp("192.0.2.10")), early))
    bench.response(ALICE, 100)
    out = bench.request(BOB, "INVITE")
    assert out.body.count(b"m=audio") == 1
    assert PHONES[0] not in out.body
    bench.send(reply(out, 183) + "\nContent-Type: application/sdp\nContent-Disposition: early-session", BOB, early[1])
    assert not bench.response(ALICE, 183).body


REFUSED = [
    (MIXED, isup_and(sdp("192.0.2.10"), sdp("192.0.2.10", 5000)), 488),
    (MIXED, b"no parts", 400),
    ("Content-Type: multipart/mixed", isup_and(sdp("192.0.2.10")), 400),
    (MIXED, mixed(*[("Content-Type: text/plain", b"x")] * 17), 413),
    (MIXED, mixed(("Content-Type: application/sdp\r\nContent-Transfer-Encoding: base64", b"dj0w")), 488),
    ("Content-Type: application/sdp\nContent-Encoding: gzip", sdp("192.0.2.10"), 415),
    ("Content-Type: application/sdp\nContent-Disposition: early-session", sdp("192.0.2.10"), 415),
    ("Content-Type: application/pidf+xml", b"<presence/>", 415),
]


@pytest.mark.parametrize(("header", "body", "status"), REFUSED)
def test_what_cannot_be_carried_is_refused(header: str, body: bytes, status: int):
    bench = Bench()
    call(bench, body, header)
    final = [message for message in bench.take(ALICE) if message.status >= 200]
    assert [message.status for message in final] == [status]
    if status == 415:
        assert final[0].first("Accept" if "gzip" not in header else "Accept-Encoding")
    assert not bench.take(BOB)
    bench.assert_clean()


@pytest.mark.parametrize(("header", "body", "status"), REFUSED)
def test_nor_inside_the_call(header: str, body: bytes, status: int):
    bench = Bench()
    _, ok = establish(bench)
    bench.send(within("INVITE", ok, 2, "h1") + f"\n{header}", ALICE, body)
    assert [message.status for message in bench.take(ALICE) if message.status >= 200] == [status]
    assert not bench.take(BOB)
    bench.send(within("BYE", ok, 3, "y1"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


def test_what_may_be_ignored_crosses_but_for_another_session():
    bench = Bench()
    call(bench, b"<x/>", "Content-Type: application/x+xml\nContent-Disposition: render; handling=optional")
    bench.response(ALICE, 100)
    assert bench.request(BOB, "INVITE").body == b"<x/>"
    bench = Bench()
    call(
        bench, sdp("192.0.2.10"), "Content-Type: application/sdp\nContent-Disposition: early-session;handling=optional"
    )
    bench.response(ALICE, 100)
    assert not bench.request(BOB, "INVITE").body


def test_a_description_in_an_answer_to_info_changes_nothing():
    """Only INVITE, UPDATE, PRACK and their answers are offers and answers (RFC 6337 section 2.1)."""
    bench = Bench()
    _, ok = establish(bench)
    bench.forget_updates()
    bench.send(within("INFO", ok, 2, "n1"), ALICE)
    bench.send(reply(bench.request(BOB, "INFO"), 200, b"x"), BOB, sdp("192.0.2.66"))
    bench.response(ALICE, 200)
    assert not bench.updates


def test_a_refresh_repeats_the_description_alone():
    """Not the parameters of a telephone network that came with it."""
    bench = Bench()
    invite(bench, extra="Session-Expires: 90;refresher=uas\nSupported: timer")
    bench.response(ALICE, 100)
    out = bench.request(BOB, "INVITE")
    bench.send(reply(out, 200) + f"\n{MIXED}", BOB, isup_and(sdp("192.0.2.20")))
    ok = bench.response(ALICE, 200)
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    bench.take(BOB)
    bench.advance(46)
    refresh = bench.take(ALICE)[0]
    assert refresh.content_type == "application/sdp"
    assert RELAY in refresh.body
