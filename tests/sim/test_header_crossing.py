"""What crosses from leg to leg beside the session: header fields by policy, Reason in either direction."""

from __future__ import annotations

import pytest

from pbx_sip.message.message import Message, Request
from support.bench_core import ALICE, BOB, Bench, sdp
from support.ladder import CANCEL, answer, establish, from_bob, invite, reply, within

RULES = ("X-*=pass",)
NOTES = "Subject: Lunch\nX-Case: 17\nOrganization: Example\nReply-To: <sip:alice@192.0.2.10>"


def crossed(message: Message) -> dict[str, str]:
    """The headers of `NOTES` in a message."""
    return {name: value for name, value in message.headers if name in ("Subject", "X-Case", "Organization", "Reply-To")}


PASSED = {"Subject": "Lunch", "X-Case": "17", "Reply-To": "<sip:alice@pbx.local>"}


def test_headers_cross_with_the_invite_and_each_response():
    bench = Bench(headers=RULES)
    invite(bench, extra=NOTES)
    bench.response(ALICE, 100)
    out = bench.request(BOB, "INVITE")
    assert crossed(out) == PASSED
    answer(bench, out, 180, extra=NOTES)
    assert crossed(bench.response(ALICE, 180)) == PASSED
    answer(bench, out, 200, sdp("192.0.2.20"), extra=NOTES)
    assert crossed(bench.response(ALICE, 200)) == PASSED


def test_headers_cross_with_a_refusal():
    bench = Bench()
    invite(bench)
    out = bench.take(BOB)[0]
    assert isinstance(out, Request)
    bench.take(ALICE)
    answer(bench, out, 488, extra='Warning: 304 192.0.2.20 "Media type not available"\nX-Case: 1')
    bench.request(BOB, "ACK")
    refused = bench.response(ALICE, 488)
    assert refused.first("Warning") == '304 pbx "Media type not available"'
    assert not crossed(refused)
    bench.assert_clean()


def test_headers_cross_inside_the_dialog():
    bench = Bench(headers=RULES)
    _, ok = establish(bench)
    bench.send(within("INFO", ok, 2, "n1") + f"\n{NOTES}\nContent-Type: text/plain", ALICE, b"x")
    info = bench.request(BOB, "INFO")
    assert crossed(info) == PASSED
    answer(bench, info, 200, extra=NOTES)
    assert crossed(bench.response(ALICE, 200)) == PASSED
    bench.send(within("BYE", ok, 3, "y1"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


def test_a_body_keeps_what_describes_it():
    bench = Bench()
    _, ok = establish(bench)
    bench.send(
        within("MESSAGE", ok, 2, "n1") + "\nContent-Type: text/plain\nContent-Language: de\ne: gzip", ALICE, b"x"
    )
    message = bench.request(BOB, "MESSAGE")
    assert (message.first("Content-Language"), message.first("Content-Encoding")) == ("de", "gzip")
    answer(bench, message, 200)
    bench.send(within("BYE", ok, 3, "y1"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


REASONS = 'Reason: Q.850;cause=31;text="Normal, unspecified"\nReason: SIP;cause=580;text="Precondition"'
WRITTEN = ['Q.850;cause=31;text="Normal, unspecified"', 'SIP;cause=580;text="Precondition"']


@pytest.mark.parametrize("by_callee", [False, True])
def test_reason_crosses_with_bye(by_callee: bool):
    bench = Bench()
    out, ok = establish(bench)
    source, other = (BOB, ALICE) if by_callee else (ALICE, BOB)
    bye = from_bob("BYE", out, 1, "y1") if by_callee else within("BYE", ok, 2, "y1")
    bench.send(f"{bye}\n{REASONS}", source)
    relayed = bench.request(other, "BYE")
    assert relayed.headers.all("Reason") == WRITTEN
    bench.send(reply(relayed, 200), other)
    bench.sent.clear()
    bench.assert_clean()


def test_reason_crosses_with_cancel():
    bench = Bench()
    invite(bench)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 180)
    bench.send(f'{CANCEL}\nReason: SIP;cause=200;text="Call completed elsewhere"', ALICE)
    cancel = bench.request(BOB, "CANCEL")
    assert cancel.headers.all("Reason") == ['SIP;cause=200;text="Call completed elsewhere"']
    bench.send(reply(cancel, 200), BOB)
    answer(bench, out, 487)
    bench.sent.clear()
    bench.assert_clean()


def test_reason_crosses_with_a_refusal():
    bench = Bench()
    invite(bench)
    out = bench.request(BOB, "INVITE")
    bench.take(ALICE)
    answer(bench, out, 480, extra=f"{REASONS}, Preemption;cause=1")
    bench.request(BOB, "ACK")
    assert bench.response(ALICE, 480).headers.all("Reason") == [*WRITTEN, "Preemption;cause=1"]
    bench.assert_clean()
