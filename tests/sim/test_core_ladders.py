"""Ladders through the B2BUA's core, message by message, on a virtual clock."""

from __future__ import annotations

from pbx_signaling.calls import signals as e
from pbx_sip.auth.digest import Challenge
from pbx_sip.message.message import Request, Response
from pbx_sip.message.serialize import serialize
from support.bench_core import ALICE, BOB, Bench, sdp
from support.ladder import INVITE, answer, establish, from_bob, invite, reply, within


def test_a_call_is_made_answered_and_ended_by_the_caller():
    bench = Bench()
    invite(bench)
    assert bench.response(ALICE, 100)
    out = bench.request(BOB, "INVITE")
    assert out.call_id.startswith("s1.")
    assert out.branch.startswith("z9hG4bKs1.")
    assert out.from_tag.startswith("s1.")
    assert b"c=IN IP4 192.0.2.2" in out.body
    assert b"m=audio 30004 RTP/AVP 0 8" in out.body
    assert out.first("Max-Forwards") == "69"
    answer(bench, out, 180)
    assert bench.response(ALICE, 180).to_tag.startswith("s1.")
    answer(bench, out, 200, sdp("192.0.2.20"))
    ok = bench.response(ALICE, 200)
    assert b"m=audio 30000 RTP/AVP 0 8" in ok.body
    assert bench.request(BOB, "ACK").cseq_number == 1, "at once: the caller's may be lost (RFC 3261 section 13.2.2.4)"
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    assert not bench.take(BOB)
    bench.send(within("BYE", ok, 2, "y1"), ALICE)
    assert bench.response(ALICE, 200)
    bye = bench.request(BOB, "BYE")
    assert bye.cseq_number == 2
    bench.send(reply(bye, 200), BOB)
    assert bench.names() == ["INITIATED", "DIALING", "RINGING", "ANSWERED", "ENDED"]
    bench.assert_clean()


def test_the_callee_hangs_up():
    bench = Bench()
    out, _ = establish(bench)
    bench.send(from_bob("BYE", out, 1, "bb1"), BOB)
    assert bench.response(BOB, 200)
    bye = bench.request(ALICE, "BYE")
    bench.send(reply(bye, 200), ALICE)
    assert bench.names()[-1] == "ENDED"
    bench.assert_clean()


def test_cancel_while_ringing_ends_both_legs():
    bench = Bench()
    invite(bench)
    bench.take(ALICE)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 180)
    bench.take(ALICE)
    bench.send(
        INVITE.format(branch="i1").replace("INVITE", "CANCEL").replace("\nContent-Type: application/sdp", ""), ALICE
    )
    statuses = [message.status for message in bench.take(ALICE)]
    assert sorted(statuses) == [200, 487]
    cancel = bench.request(BOB, "CANCEL")
    bench.send(reply(cancel, 200), BOB)
    answer(bench, out, 487)
    assert bench.request(BOB, "ACK")
    assert bench.names() == ["INITIATED", "DIALING", "RINGING", "ENDED"]
    bench.assert_clean()


def test_the_200_that_crosses_the_cancel_is_acknowledged_and_ended():
    bench = Bench()
    invite(bench)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 180)
    bench.send(
        INVITE.format(branch="i1").replace("INVITE", "CANCEL").replace("\nContent-Type: application/sdp", ""), ALICE
    )
    bench.request(BOB, "CANCEL")
    answer(bench, out, 200, sdp("192.0.2.20"))
    ack, bye = bench.take(BOB)
    assert (ack.method, bye.method) == ("ACK", "BYE")
    bench.send(reply(bye, 200), BOB)
    bench.assert_clean()


def test_refusals_of_the_callee_are_passed_on():
    for status in (404, 480, 486, 488, 500, 600, 603):
        bench = Bench()
        invite(bench)
        bench.take(ALICE)
        out = bench.request(BOB, "INVITE")
        answer(bench, out, status)
        assert bench.request(BOB, "ACK")
        assert bench.response(ALICE, status)
        assert bench.names() == ["INITIATED", "DIALING", "ENDED"]
        bench.assert_clean()


def test_unknown_and_unregistered_users():
    for found, status in ((e.Found(False, []), 404), (e.Found(True, []), 480)):
        bench = Bench(found=found)
        invite(bench)
        assert [message.status for message in bench.take(ALICE)] == [100, status]
        assert bench.names() == ["INITIATED", "ENDED"]
        bench.assert_clean()


def test_nobody_answers():
    bench = Bench()
    invite(bench)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 180)
    bench.take(ALICE)
    bench.advance(121)
    assert bench.take(ALICE)[0].status == 480
    assert bench.take(BOB)[0].method == "CANCEL"
    bench.advance(64)
    bench.sent.clear()
    bench.assert_clean()


def test_a_dead_callee_gives_408():
    bench = Bench()
    invite(bench)
    bench.take(ALICE)
    bench.advance(33)
    assert bench.take(ALICE)[0].status == 408
    assert len(bench.take(BOB)) == 7
    bench.assert_clean()


def test_a_caller_that_never_acknowledges():
    bench = Bench()
    invite(bench)
    bench.take(ALICE)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 200, sdp("192.0.2.20"))
    bench.advance(33)
    repeated = bench.take(ALICE)
    assert [m.status for m in repeated if isinstance(m, Response)] == [200] * 11
    assert [m.method for m in repeated if isinstance(m, Request)] == ["BYE"] * len(
        [m for m in repeated if isinstance(m, Request)]
    )
    assert [m.method for m in bench.take(BOB)][:2] == ["ACK", "BYE"]
    bench.assert_clean()


def test_reinvite_from_either_side():
    bench = Bench()
    out, ok = establish(bench)
    before = len(bench.updates)
    contact = "\nContact: <sip:1004@192.0.2.10:5060>\nContent-Type: application/sdp"
    bench.send(within("INVITE", ok, 2, "r1") + contact, ALICE, sdp("192.0.2.10", 4002, direction="sendonly"))
    bench.response(ALICE, 100)
    again = bench.request(BOB, "INVITE")
    assert b"m=audio 30004" in again.body
    assert b"a=sendonly" in again.body
    assert len(bench.updates) == before, "an offer takes effect with its answer"
    answer(bench, again, 200, sdp("192.0.2.20", direction="recvonly"))
    ok2 = bench.response(ALICE, 200)
    assert len(bench.updates) == before + 1
    bench.send(within("ACK", ok2, 2, "r2"), ALICE)
    assert bench.request(BOB, "ACK").cseq_number == again.cseq_number
    assert bench.names()[-1] == "HELD"
    # and now Bob
    bench.send(
        from_bob("INVITE", out, 7, "rb1") + contact.replace("1004@192.0.2.10", "1008@192.0.2.20"),
        BOB,
        sdp("192.0.2.20", 4010),
    )
    bench.response(BOB, 100)
    to_alice = bench.request(ALICE, "INVITE")
    bench.send(reply(to_alice, 200, b"x").replace("1008@192.0.2.20", "1004@192.0.2.10"), ALICE, sdp("192.0.2.10", 4002))
    bob_ok = bench.response(BOB, 200)
    assert b"m=audio 30004" in bob_ok.body
    bench.send(from_bob("ACK", out, 7, "rb2"), BOB)
    bench.request(ALICE, "ACK")
    bench.send(within("BYE", ok, 3, "y1"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


def test_a_refused_reinvite_leaves_the_session():
    bench = Bench()
    _, ok = establish(bench)
    before = len(bench.updates)
    contact = "\nContact: <sip:1004@192.0.2.10:5060>\nContent-Type: application/sdp"
    bench.send(within("INVITE", ok, 2, "r1") + contact, ALICE, sdp("192.0.2.10", 4002))
    bench.response(ALICE, 100)
    again = bench.request(BOB, "INVITE")
    answer(bench, again, 488)
    assert bench.response(ALICE, 488)
    assert len(bench.updates) == before
    bench.send(within("BYE", ok, 3, "y1"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


def test_delayed_offer():
    bench = Bench()
    invite(bench, b"")
    bench.response(ALICE, 100)
    out = bench.request(BOB, "INVITE")
    assert not out.body
    answer(bench, out, 200, sdp("192.0.2.20"))
    ok = bench.response(ALICE, 200)
    assert b"m=audio 30000" in ok.body
    bench.send(within("ACK", ok, 1, "k1") + "\nContent-Type: application/sdp", ALICE, sdp("192.0.2.10"))
    ack = bench.request(BOB, "ACK")
    assert b"m=audio 30004" in ack.body
    assert {(p.side, p.port) for u in bench.updates for p in u.endpoints} == {(1, 4000), (2, 4000)}
    bench.send(within("BYE", ok, 2, "y1"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


def test_reliable_progress_and_prack():
    bench = Bench()
    invite(bench)
    bench.response(ALICE, 100)
    out = bench.request(BOB, "INVITE")
    assert out.first("Supported") == "100rel, timer"
    answer(bench, out, 183, sdp("192.0.2.20"), extra="Require: 100rel\nRSeq: 77")
    progress = bench.response(ALICE, 183)
    assert progress.first("RSeq") == "1"
    bench.advance(0.6)
    assert bench.response(ALICE, 183), "repeated until the PRACK"
    bench.send(within("PRACK", progress, 2, "p1") + "\nRAck: 1 1 INVITE", ALICE)
    prack = bench.request(BOB, "PRACK")
    assert prack.first("RAck") == "77 1 INVITE"
    bench.send(reply(prack, 200), BOB)
    assert bench.response(ALICE, 200)
    answer(bench, out, 200)
    ok = list(bench.take(ALICE))[-1]
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    bench.request(BOB, "ACK")
    assert "EARLY_MEDIA" in bench.names()
    bench.send(within("BYE", ok, 3, "y1"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


def test_info_message_and_update_are_relayed():
    bench = Bench()
    _, ok = establish(bench, callee="Allow: INVITE, ACK, BYE, UPDATE")
    for cseq, method in enumerate(("INFO", "MESSAGE", "UPDATE"), start=2):
        body = sdp("192.0.2.10", 4100) if method == "UPDATE" else b"Signal=1"
        kind = "application/sdp" if method == "UPDATE" else "application/dtmf-relay"
        extra = "\nContact: <sip:1004@192.0.2.10:5060>" if method == "UPDATE" else ""
        bench.send(within(method, ok, cseq, f"m{cseq}") + f"{extra}\nContent-Type: {kind}", ALICE, body)
        relayed = bench.request(BOB, method)
        assert relayed.content_type == kind
        answer(bench, relayed, 200, sdp("192.0.2.20") if method == "UPDATE" else b"")
        assert bench.response(ALICE, 200)
    bench.send(within("BYE", ok, 9, "y1"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


def test_options_inside_a_dialog_is_answered_by_ourselves():
    bench = Bench()
    _, ok = establish(bench)
    bench.send(within("OPTIONS", ok, 2, "o1"), ALICE)
    assert "INVITE" in (bench.response(ALICE, 200).first("Allow") or "")
    assert bench.take(BOB) == []
    bench.send(within("BYE", ok, 3, "y1"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


def test_glare_is_answered_491():
    bench = Bench()
    out, ok = establish(bench)
    contact = "\nContact: <sip:1004@192.0.2.10:5060>\nContent-Type: application/sdp"
    bench.send(within("INVITE", ok, 2, "r1") + contact, ALICE, sdp("192.0.2.10", 4002))
    bench.take(ALICE)
    to_bob = bench.request(BOB, "INVITE")
    bench.send(from_bob("INVITE", out, 5, "rb1") + contact, BOB, sdp("192.0.2.20", 4010))
    assert bench.response(BOB, 491)
    answer(bench, to_bob, 491)
    assert bench.response(ALICE, 491)
    bench.send(within("BYE", ok, 3, "y1"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


def test_a_second_fork_that_answers_is_acknowledged_and_ended():
    bench = Bench()
    invite(bench)
    bench.take(ALICE)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 180, tag="b1")
    answer(bench, out, 180, tag="b2")
    first, second = bench.take(ALICE)
    assert first.to_tag != second.to_tag
    answer(bench, out, 200, sdp("192.0.2.20"), tag="b2")
    ok = bench.response(ALICE, 200)
    assert ok.to_tag == second.to_tag
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    bench.request(BOB, "ACK")
    answer(bench, out, 200, sdp("192.0.2.20"), tag="b1")
    ack, bye = bench.take(BOB)
    assert (ack.method, bye.method) == ("ACK", "BYE")
    assert bye.to_tag == "b1"
    bench.send(within("BYE", ok, 2, "y1"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


def test_an_invite_without_credentials_is_challenged_and_keeps_no_state():
    bench = Bench(authenticate=True)
    invite(bench, extra="User-Agent: PJSUA v2.14 Linux")
    response = bench.response(ALICE, 407)
    values = response.headers.all("Proxy-Authenticate")
    assert [Challenge.parse(value).algorithm for value in values] == ["SHA-512-256", "SHA-256", "MD5"]
    assert bench.core.layer.active == 0
    assert not bench.records
    nonce = Challenge.parse(values[0]).nonce
    assert int(nonce[:8], 16) == int(bench.now + 1_700_000_000), "dated by the wall clock, as the registrar checks it"


def test_a_relay_that_never_answers_gives_503():
    bench = Bench(answer_relay=False)
    invite(bench)
    bench.advance(6)
    assert [m.status for m in bench.take(ALICE) if isinstance(m, Response)][:2] == [100, 503]
    call_id = next(iter(bench.calls))
    bench.signal(call_id, e.MediaReady(bench.slot(call_id)))
    bench.assert_clean()


def test_bad_and_odd_requests_get_their_status():
    bench = Bench()
    base = INVITE.format(branch="x1").replace("\nContent-Type: application/sdp", "")
    cases = [
        (base.replace("Max-Forwards: 70", "Max-Forwards: 0"), b"", 483),
        (base + "\nRequire: warp", b"", 420),
        (base.replace("INVITE", "BYE"), b"", 481),
        (base.replace("INVITE", "SUBSCRIBE"), b"", 405),
        (base.replace("INVITE", "DANCE"), b"", 501),
        (base.replace("INVITE", "OPTIONS").replace("sip:1008@192.0.2.1", "sip:192.0.2.1", 1), b"", 200),
        (base + "\nContent-Type: text/plain", b"hello", 415),
        (base + "\nContent-Type: application/sdp", b"v=0\r\nrubbish", 488),
        (base + "\nContent-Type: application/sdp", sdp("192.0.2.300"), 488),
        (base + "\nContent-Type: application/sdp", sdp("127.0.0.1"), 488),
        (base + "\nContent-Type: application/sdp", sdp("239.1.2.3"), 488),
        (base.replace("sip:1008@192.0.2.1", "http://x"), b"", 416),
        (base.replace("CSeq: 1 INVITE", "CSeq: 1 BYE"), b"", 400),
    ]
    for number, (text, body, status) in enumerate(cases):
        bench.send(
            text.replace("branch=z9hG4bKx1", f"branch=z9hG4bKx{number}").replace("call-1@", f"call-{number}@"),
            ALICE,
            body,
        )
        got = [m.status for m in bench.take(ALICE) if isinstance(m, Response) and m.status >= 200]
        assert got == [status], (status, got, text)
    bench.advance(70)
    bench.sent.clear()
    bench.assert_clean()


def test_any_bytes_survive():
    bench = Bench()
    _out, ok = establish(bench)
    message = serialize(ok)
    for cut in range(0, len(message), 7):
        bench.raw(message[:cut], ALICE)
        bench.raw(b"\x00\xff" + message[cut:], BOB)
    bench.send(within("BYE", ok, 2, "y1"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


def test_a_message_outside_of_a_dialog_is_sent_on_and_its_answer_passed_back():
    bench = Bench()
    text = INVITE.format(branch="m1").replace("INVITE", "MESSAGE").replace("application/sdp", "text/plain")
    bench.send(text, ALICE, b"hello")
    out = bench.request(BOB, "MESSAGE")
    assert (out.body, out.content_type, out.uri) == (b"hello", "text/plain", f"sip:1008@{BOB}")
    assert out.call_id != "call-1@alice"
    answer(bench, out, 202)
    assert bench.response(ALICE, 202)
    assert bench.core.messages.pending == 0
    bench.assert_clean()


def test_a_message_that_nobody_takes():
    for found, status in ((e.Found(False, []), 404), (e.Found(True, []), 480), (e.ServiceFailed("down"), 503)):
        bench = Bench(found=found)
        bench.send(INVITE.format(branch="m1").replace("INVITE", "MESSAGE"), ALICE, b"hello")
        assert bench.response(ALICE, status)
        bench.assert_clean()
