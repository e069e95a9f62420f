"""100rel where one side wants it and the other does not know it (RFC 3262): we are the other end of it."""

from __future__ import annotations

from pbx_sip.message.message import Request, Response
from support.bench_core import ALICE, BOB, Bench, sdp
from support.ladder import answer, establish, from_bob, invite, reply, within


def progress_of(bench: Bench) -> list[Response]:
    return [message for message in bench.take(ALICE) if isinstance(message, Response) and message.status > 100]


def finish(bench: Bench) -> None:
    bench.sent.clear()
    bench.advance(200)
    bench.sent.clear()
    bench.assert_clean()


def test_a_caller_that_requires_it_gets_reliable_progress_of_a_callee_that_does_not():
    bench = Bench()
    invite(bench, extra="Require: 100rel")
    bench.take(ALICE)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 180)
    (ringing,) = progress_of(bench)
    assert (ringing.first("Require"), ringing.first("RSeq")) == ("100rel", "1")
    bench.advance(0.6)
    assert progress_of(bench), "repeated until its PRACK"
    answer(bench, out, 183, sdp("192.0.2.20"))
    assert not progress_of(bench), "the second one waits for the PRACK of the first (RFC 3262 section 3)"
    bench.send(within("PRACK", ringing, 2, "p1") + "\nRAck: 1 1 INVITE", ALICE)
    confirmed, second = progress_of(bench)
    assert (confirmed.status, second.status, second.first("RSeq")) == (200, 183, "2")
    assert not bench.take(BOB), "the callee has asked for no PRACK"
    bench.send(within("PRACK", ringing, 3, "p2") + "\nRAck: 1 1 INVITE", ALICE)
    assert bench.response(ALICE, 481), "confirmed already"
    bench.send(within("PRACK", ringing, 4, "p3") + "\nRAck: 2 1 INVITE", ALICE)
    assert bench.response(ALICE, 200)
    finish(bench)


def test_a_callee_that_wants_it_is_confirmed_by_us_where_the_caller_does_not_know_it():
    bench = Bench()
    text_without = "Supported: replaces"
    invite(bench, extra=text_without, reliable=False)
    bench.take(ALICE)
    out = bench.request(BOB, "INVITE")
    assert "100rel" in out.headers.tokens("Supported")
    answer(bench, out, 183, sdp("192.0.2.20"), extra="Require: 100rel\nRSeq: 9")
    prack = bench.request(BOB, "PRACK")
    assert prack.first("RAck") == "9 1 INVITE"
    (early,) = progress_of(bench)
    assert "RSeq" not in early.headers
    assert early.body
    bench.send(reply(prack, 200), BOB)
    answer(bench, out, 183, sdp("192.0.2.20"), extra="Require: 100rel\nRSeq: 9")
    assert not bench.take(BOB), "a repetition is dropped"
    answer(bench, out, 200, sdp("192.0.2.20"))
    ok = progress_of(bench)[-1]
    assert ok.status == 200
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    assert bench.request(BOB, "ACK").cseq_number == 1
    bench.send(within("BYE", ok, 2, "y1"), ALICE)
    finish(bench)


def test_it_is_not_offered_where_the_answer_in_a_prack_would_have_to_come_from_a_caller_that_sends_none():
    bench = Bench()
    invite(bench, b"", reliable=False)
    bench.take(ALICE)
    out = bench.request(BOB, "INVITE")
    assert "100rel" not in out.headers.tokens("Supported")
    finish(bench)


def test_a_caller_that_never_confirms_loses_its_call():
    bench = Bench()
    invite(bench, extra="Require: 100rel")
    bench.take(ALICE)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 180)
    bench.advance(33)
    refused = progress_of(bench)[-1]
    assert refused.status == 504, "a 5xx (RFC 3262 section 3)"
    assert bench.take(BOB), "and the callee is cancelled"
    finish(bench)


def test_a_prack_that_crosses_the_answer_is_taken():
    """RFC 3262 section 3: the UAS must be prepared to process PRACK requests for outstanding responses."""
    bench = Bench()
    invite(bench)
    bench.take(ALICE)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 180, extra="Require: 100rel\nRSeq: 1")
    ringing = bench.response(ALICE, 180)
    answer(bench, out, 200, sdp("192.0.2.20"))
    ok = bench.response(ALICE, 200)
    bench.send(within("PRACK", ringing, 2, "p1") + "\nRAck: 1 1 INVITE", ALICE)
    assert bench.response(ALICE, 200).cseq_method == "PRACK"
    bench.send(within("PRACK", ringing, 3, "p2") + "\nRAck: 7 1 INVITE", ALICE)
    assert bench.response(ALICE, 481), "this one confirms nothing"
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    bench.send(within("BYE", ok, 4, "y1"), ALICE)
    finish(bench)


def test_a_prack_of_the_callee_confirms_nothing():
    bench = Bench()
    out, ok = establish(bench)
    bench.send(from_bob("PRACK", out, 2, "bp1") + "\nRAck: 1 1 INVITE", BOB)
    assert bench.response(BOB, 481)
    assert not bench.take(ALICE)
    bench.send(within("BYE", ok, 2, "y1"), ALICE)
    finish(bench)


def test_a_reliable_response_without_a_tag_is_passed_on_as_any_other():
    bench = Bench()
    invite(bench, reliable=False)
    bench.take(ALICE)
    out = bench.request(BOB, "INVITE")
    bench.send(reply(out, 183, extra="Require: 100rel\nRSeq: 1").replace(";tag=b1", ""), BOB)
    assert not [message for message in bench.take(BOB) if isinstance(message, Request) and message.method == "PRACK"]
    finish(bench)
