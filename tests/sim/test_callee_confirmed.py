"""The callee's answer is confirmed at once, and what follows from that (RFC 3261 sections 13.2.2.4 and 14.2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pbx_signaling.calls import signals as e
from pbx_sip.message.message import Request, Response
from support.bench_core import ALICE, BOB, Bench, sdp
from support.ladder import answer, from_bob, invite, reply, within


def answered(bench: Bench, body: bytes | None = None) -> tuple[Request, Response]:
    """Bob took the call; Alice's ACK has not come."""
    invite(bench, body)
    bench.take(ALICE)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 200, sdp("192.0.2.20"))
    ok = bench.response(ALICE, 200)
    return out, ok


def test_the_ack_of_an_answered_offer_waits_for_nobody():
    bench = Bench()
    out, ok = answered(bench)
    ack = bench.request(BOB, "ACK")
    assert (ack.cseq_number, ack.body) == (out.cseq_number, b"")
    bench.send(reply(out, 200), BOB, sdp("192.0.2.20"))  # his 200 comes again: the ACK was lost
    assert bench.request(BOB, "ACK").branch == ack.branch
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    assert not bench.take(BOB)


def test_the_ack_that_carries_the_answer_waits_for_the_caller():
    bench = Bench()
    _, ok = answered(bench, b"")
    assert not bench.take(BOB)
    body = sdp("192.0.2.10")
    bench.send(within("ACK", ok, 1, "k1") + "\nContent-Type: application/sdp", ALICE, body)
    assert b"m=audio" in bench.request(BOB, "ACK").body


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
def test_a_callee_that_is_faster_than_the_callers_ack_is_asked_to_wait(method: str):
    """Else the caller could get a request of a dialog before the answer that makes it."""
    bench = Bench()
    out, ok = answered(bench)
    bench.take(BOB)
    offer = sdp("192.0.2.20", direction="sendonly")
    ask = "\nContact: <sip:1008@192.0.2.20:5060>\nContent-Type: application/sdp"
    bench.send(from_bob(method, out, 1, "m1") + ask, BOB, offer)
    assert [m.status for m in bench.take(BOB) if isinstance(m, Response)][-1] == 491
    assert not bench.take(ALICE)
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    bench.send(from_bob(method, out, 2, "m2") + ask, BOB, offer)
    assert bench.request(ALICE, method)


def test_a_request_inside_the_call_goes_to_what_was_dialled_where_the_answer_has_no_contact():
    bench = Bench()
    invite(bench)
    bench.take(ALICE)
    out = bench.request(BOB, "INVITE")
    text = reply(out, 200).replace("Contact: <sip:1008@192.0.2.20:5060>", "Subject: none")
    bench.send(text + "\nContent-Type: application/sdp", BOB, sdp("192.0.2.20"))
    assert bench.request(BOB, "ACK").uri == out.uri
    ok = bench.response(ALICE, 200)
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    bench.send(within("BYE", ok, 2, "y1"), ALICE)
    assert bench.request(BOB, "BYE").uri == out.uri


@pytest.mark.parametrize("retry", ["", "Retry-After: 90 (rebooting)"])
def test_a_phone_that_is_out_of_service_is_not_us(retry: str):
    """RFC 3261 sections 16.7 item 6 and 21.5.4: who gets 503 leaves the whole server alone."""
    bench = Bench()
    invite(bench)
    bench.take(ALICE)
    answer(bench, bench.request(BOB, "INVITE"), 503, extra=retry)
    assert bench.request(BOB, "ACK")
    refusal = bench.response(ALICE, 480)
    assert (refusal.first("Retry-After") or "") == ("90" if retry else ""), "when the callee expects to be back (20.33)"


def test_the_headers_of_a_contact_never_reach_a_request_uri():
    bench = Bench()
    assert bench.found is not None
    odd = f"sip:1008@{BOB};line=7;method=BYE?Route=%3Csip:evil%3E&Subject=x"
    bench.found = e.Found(True, [replace(bench.found.targets[0], uri=odd)])
    invite(bench)
    bench.take(ALICE)
    assert bench.request(BOB, "INVITE").uri == f"sip:1008@{BOB};line=7"


@pytest.mark.parametrize(
    ("uri", "aor"),
    [
        ("tel:1008", "1008@pbx.local"),
        ("tel:10-08;phone-context=pbx.local", "1008@pbx.local"),
        ("tel:1008;phone-context=elsewhere.example", "1008@elsewhere.example"),
        ("sip:(10)08@192.0.2.1;user=phone", "1008@pbx.local"),
        ("sip:1008;phone-context=PBX.local@192.0.2.1;user=phone", "1008@pbx.local"),
        ("sip:10-08@192.0.2.1", "10-08@pbx.local"),
    ],
)
def test_numbers_are_looked_up_without_what_does_not_count(uri: str, aor: str):
    bench = Bench(answer_registrar=False)
    invite(bench, to=uri)
    (entry,) = bench.calls.values()
    assert (entry.call.aor, entry.call.dialled) == (aor, aor.partition("@")[0])


@pytest.mark.parametrize("uri", ["tel:alice", "tel:", "sip:+49x@192.0.2.1;user=phone"])
def test_a_number_that_is_none_is_refused(uri: str):
    bench = Bench()
    invite(bench, to=uri)
    assert bench.response(ALICE, 416)
    assert not bench.calls
