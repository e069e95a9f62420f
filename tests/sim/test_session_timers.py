"""Session timers of each leg (RFC 4028) through the B2BUA's core, on a virtual clock."""

from __future__ import annotations

import pytest

from pbx_signaling.calls.ending import Origin
from pbx_sip.message.message import Request, Response
from support.bench_core import ALICE, BOB, Bench, sdp
from support.ladder import answer, establish, from_bob, invite, reply, within

ALLOW_UPDATE = "Allow: INVITE, ACK, BYE, UPDATE"


def from_alice(request: Request, status: int, *, extra: str = "") -> str:
    """Alice's response to a request of ours."""
    return reply(request, status, extra=extra).replace("sip:1008@192.0.2.20", "sip:1004@192.0.2.10")


def of(bench: Bench, party: object, method: str) -> list[Request]:
    """Requests of a method that a party got since the last look."""
    taken = bench.take(party)  # type: ignore[arg-type]
    return [message for message in taken if isinstance(message, Request) and message.method == method]


def end(bench: Bench, ok: Response, cseq: int = 50) -> None:
    bench.send(within("BYE", ok, cseq, "yend"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


def test_both_sides_are_asked_for_a_timer_and_none_is_kept_where_they_do_not_know_it():
    bench = Bench()
    out, ok = establish(bench)
    assert out.first("Session-Expires") == "1800"
    assert out.first("Min-SE") == "90"
    assert "timer" in (out.first("Supported") or "")
    assert "Session-Expires" not in ok.headers
    bench.advance(3000)
    assert not bench.sent
    end(bench, ok)


def test_the_caller_refreshes_its_leg_and_the_callee_hears_nothing_of_it():
    bench = Bench()
    _, ok = establish(bench, caller="Supported: timer\nSession-Expires: 120")
    assert ok.first("Session-Expires") == "120;refresher=uac"
    assert ok.first("Require") == "timer"
    for cseq in (2, 3, 4):
        bench.advance(60)
        extra = "\nSupported: timer\nSession-Expires: 120;refresher=uac\nContact: <sip:1004@192.0.2.10:5060>"
        bench.send(within("UPDATE", ok, cseq, f"u{cseq}") + extra, ALICE)
        assert bench.response(ALICE, 200).first("Session-Expires") == "120;refresher=uac"
        assert not bench.take(BOB)
    end(bench, ok)


def test_a_caller_that_stops_refreshing_loses_its_call():
    bench = Bench()
    establish(bench, caller="Supported: timer\nSession-Expires: 120")
    entry = next(iter(bench.calls.values()))
    bench.advance(87)
    assert not bench.sent, "120 s less 32 s"
    bench.advance(2)
    assert of(bench, ALICE, "BYE")
    assert of(bench, BOB, "BYE")
    ending = entry.call.ending
    assert ending is not None
    assert (ending.origin, ending.word, ending.q850_cause) == (Origin.TIMER, "session_expired", 102)
    bench.assert_clean()


@pytest.mark.parametrize("callee_refreshes", [False, True])
def test_the_callee_and_we_refresh(callee_refreshes: bool):
    bench = Bench()
    role = "uas" if callee_refreshes else "uac"
    out, ok = establish(bench, callee=f"{ALLOW_UPDATE}\nSession-Expires: 100;refresher={role}\nRequire: timer")
    for cseq in (1, 2, 3):
        bench.advance(50.2)
        if callee_refreshes:
            extra = "\nSupported: timer\nSession-Expires: 100;refresher=uac\nContact: <sip:1008@192.0.2.20:5060>"
            bench.send(from_bob("UPDATE", out, cseq, f"u{cseq}") + extra, BOB)
            assert bench.response(BOB, 200).first("Session-Expires") == "100;refresher=uac"
        else:
            update = bench.request(BOB, "UPDATE")
            assert not update.body
            assert update.first("Session-Expires") == "100;refresher=uac"
            answer(bench, update, 200, extra="Session-Expires: 100;refresher=uac")
        assert not bench.take(ALICE)
    end(bench, ok)


def test_a_callee_without_update_is_refreshed_by_a_re_invite_that_says_the_same():
    bench = Bench()
    out, ok = establish(bench, callee="Allow: INVITE, ACK, BYE\nSession-Expires: 100;refresher=uac")
    bench.advance(50.2)
    again = bench.request(BOB, "INVITE")
    assert again.body == out.body, "same version of o="
    answer(bench, again, 200, sdp("192.0.2.20"), extra="Session-Expires: 100;refresher=uac")
    assert bench.request(BOB, "ACK").cseq_number == again.cseq_number
    answer(bench, again, 200, sdp("192.0.2.20"), extra="Session-Expires: 100;refresher=uac")
    assert bench.request(BOB, "ACK"), "repeated 2xx, repeated ACK"
    assert not bench.take(ALICE)
    end(bench, ok)


def test_media_that_moved_in_the_answer_to_a_refresh_is_followed():
    bench = Bench()
    _, ok = establish(bench, callee="Allow: INVITE\nSession-Expires: 100;refresher=uac")
    bench.forget_updates()
    bench.advance(50.2)
    answer(bench, bench.request(BOB, "INVITE"), 200, sdp("192.0.2.20", 4444), extra="Session-Expires: 100")
    assert [(p.side, p.port) for update in bench.updates for p in update.endpoints] == [(2, 4444)]
    bench.sent.clear()
    end(bench, ok)


def test_glare_of_a_refresh_waits_as_the_owner_of_the_call_id():
    bench = Bench()
    _, ok = establish(bench, callee="Allow: INVITE\nSession-Expires: 100;refresher=uac")
    bench.advance(50.2)
    answer(bench, bench.request(BOB, "INVITE"), 491)
    bench.request(BOB, "ACK")
    bench.advance(2.05)
    assert not bench.take(BOB), "2.1 s at least (RFC 3261 section 14.1)"
    bench.advance(2)
    answer(bench, of(bench, BOB, "INVITE")[0], 200, sdp("192.0.2.20"), extra="Session-Expires: 100")
    bench.sent.clear()
    end(bench, ok)


def test_a_change_of_the_other_side_during_a_refresh_by_re_invite_is_refused_with_491():
    bench = Bench()
    _, ok = establish(bench, callee="Allow: INVITE\nSession-Expires: 100;refresher=uac")
    bench.advance(50.2)
    refresh = bench.request(BOB, "INVITE")
    extra = "\nContact: <sip:1004@192.0.2.10:5060>\nContent-Type: application/sdp"
    bench.send(within("INVITE", ok, 2, "re1") + extra, ALICE, sdp("192.0.2.10", 4200))
    assert [message.status for message in bench.take(ALICE) if isinstance(message, Response)] == [100, 491]
    answer(bench, refresh, 200, sdp("192.0.2.20"))
    bench.sent.clear()
    end(bench, ok)


@pytest.mark.parametrize("status", [405, 501])
def test_a_refusal_of_update_turns_to_re_invite(status: int):
    bench = Bench()
    _, ok = establish(bench, callee=f"{ALLOW_UPDATE}\nSession-Expires: 100;refresher=uac")
    bench.advance(50.2)
    answer(bench, bench.request(BOB, "UPDATE"), status)
    bench.advance(0.2)
    assert bench.request(BOB, "INVITE").body
    bench.sent.clear()
    end(bench, ok)


def test_a_refresh_that_is_refused_again_and_again_ends_the_call_in_time():
    bench = Bench()
    establish(bench, callee=f"{ALLOW_UPDATE}\nSession-Expires: 100;refresher=uac")
    refused = 0
    for _ in range(40):
        bench.advance(1)
        for message in bench.take(BOB):
            assert isinstance(message, Request)
            if message.method == "UPDATE":
                refused += 1
                answer(bench, message, 500)
    assert refused == 0
    for _ in range(40):
        bench.advance(1)
        for update in of(bench, BOB, "UPDATE"):
            refused += 1
            answer(bench, update, 500)
    assert refused >= 2
    assert not bench.calls
    bench.sent.clear()
    bench.assert_clean()


def test_a_refresh_without_an_answer_ends_the_call():
    bench = Bench()
    establish(bench, callee=f"{ALLOW_UPDATE}\nSession-Expires: 1000;refresher=uac")
    entry = next(iter(bench.calls.values()))
    bench.advance(501 + 32)
    assert not bench.calls
    assert entry.call.ending is not None
    assert entry.call.ending.word == "no_response"
    bench.sent.clear()
    bench.assert_clean()


def test_an_interval_below_ours_is_refused_with_422_and_min_se():
    bench = Bench()
    invite(bench, extra="Supported: timer\nSession-Expires: 60")
    refused = bench.take(ALICE)[-1]
    assert isinstance(refused, Response)
    assert refused.status == 422
    assert refused.first("Min-SE") == "90"
    assert not bench.take(BOB)
    bench.advance(40)
    bench.sent.clear()
    bench.assert_clean()


def test_an_interval_that_cannot_be_read_is_refused_with_400():
    bench = Bench()
    invite(bench, extra="Supported: timer\nSession-Expires: soon")
    refused = bench.take(ALICE)[-1]
    assert isinstance(refused, Response)
    assert refused.status == 400
    bench.advance(40)
    bench.sent.clear()
    bench.assert_clean()


def test_a_callee_that_wants_longer_intervals_is_invited_again():
    bench = Bench()
    invite(bench)
    bench.take(ALICE)
    first = bench.request(BOB, "INVITE")
    answer(bench, first, 422, extra="Min-SE: 3600")
    ack, again = bench.take(BOB)
    assert isinstance(ack, Request)
    assert isinstance(again, Request)
    assert (ack.method, again.method, again.cseq_number) == ("ACK", "INVITE", 2)
    assert (again.call_id, again.from_tag, again.body) == (first.call_id, first.from_tag, first.body)
    assert (again.first("Session-Expires"), again.first("Min-SE")) == ("3600", "3600")
    answer(bench, again, 200, sdp("192.0.2.20"), extra="Session-Expires: 3600;refresher=uas")
    ok = bench.response(ALICE, 200)
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    assert bench.request(BOB, "ACK").cseq_number == 2
    end(bench, ok)


def test_a_callee_that_refuses_every_interval_refuses_the_call():
    bench = Bench()
    invite(bench)
    bench.take(ALICE)
    answer(bench, bench.request(BOB, "INVITE"), 422, extra="Min-SE: 90")
    assert bench.response(ALICE, 422)
    bench.advance(40)
    bench.sent.clear()
    bench.assert_clean()


def test_a_change_of_the_session_carries_and_restarts_the_timer():
    bench = Bench()
    _, ok = establish(bench, callee=f"{ALLOW_UPDATE}\nSession-Expires: 100;refresher=uac")
    bench.advance(40)
    extra = "\nContact: <sip:1004@192.0.2.10:5060>\nContent-Type: application/sdp"
    bench.send(within("INVITE", ok, 2, "re1") + extra, ALICE, sdp("192.0.2.10", 4200))
    changed = bench.request(BOB, "INVITE")
    assert changed.first("Session-Expires") == "100;refresher=uac"
    answer(bench, changed, 200, sdp("192.0.2.20"), extra="Session-Expires: 100;refresher=uac")
    taken = bench.take(ALICE)[-1]
    assert isinstance(taken, Response)
    bench.send(within("ACK", taken, 2, "k2"), ALICE)
    bench.request(BOB, "ACK")
    bench.advance(45)
    assert not bench.take(BOB), "counted from the change"
    bench.advance(5.2)
    assert bench.request(BOB, "UPDATE")
    bench.sent.clear()
    end(bench, ok)


def test_422_to_a_change_is_mended_on_the_leg_where_it_came():
    bench = Bench()
    _, ok = establish(bench, callee=f"{ALLOW_UPDATE}\nSession-Expires: 100;refresher=uac")
    extra = "\nContact: <sip:1004@192.0.2.10:5060>\nContent-Type: application/sdp"
    bench.send(within("INVITE", ok, 2, "re1") + extra, ALICE, sdp("192.0.2.10", 4200))
    bench.take(ALICE)
    answer(bench, bench.request(BOB, "INVITE"), 422, extra="Min-SE: 400")
    again = of(bench, BOB, "INVITE")[0]
    assert again.first("Session-Expires") == "400;refresher=uac"
    answer(bench, again, 200, sdp("192.0.2.20"), extra="Session-Expires: 400;refresher=uac")
    assert bench.response(ALICE, 200).body
    bench.sent.clear()
    end(bench, ok)


def test_a_refresh_does_not_offer_again_what_the_peer_refused():
    bench = Bench()
    _, ok = establish(
        bench, callee="Session-Expires: 1800;refresher=uac\nRequire: timer\nAllow: INVITE, ACK, BYE, CANCEL"
    )
    offer = sdp("192.0.2.10") + b"m=video 6000 RTP/AVP 34\r\n"
    contact = "\nContact: <sip:1004@192.0.2.10:5060>\nContent-Type: application/sdp"
    bench.send(within("INVITE", ok, 2, "r1") + contact, ALICE, offer)
    bench.take(ALICE)
    bench.send(reply(bench.request(BOB, "INVITE"), 488), BOB)
    bench.send(within("ACK", ok, 2, "r1"), ALICE)
    bench.sent.clear()
    bench.advance(901)
    refresh = of(bench, BOB, "INVITE")[0]
    assert b"m=audio" in refresh.body
    assert b"m=video" not in refresh.body
    bench.send(reply(refresh, 200, sdp("192.0.2.20")), BOB, sdp("192.0.2.20"))
    bench.sent.clear()
    end(bench, ok)
