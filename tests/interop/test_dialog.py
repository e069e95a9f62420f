"""Requests inside an established or early dialog, relayed from either side into the right dialog of the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.call import establish
from support.sipp_script import ANSWER, OFFER, Callee, sdp

if TYPE_CHECKING:
    from support.pair import Pair

pytestmark = pytest.mark.interop

HOLD = sdp(version=2, direction="sendonly")
HELD = sdp(port=4200, version=2, direction="recvonly")
RESUME = sdp(version=3)
RESUMED = sdp(port=4200, version=3)


def test_re_invite_by_the_caller(pair: Pair) -> None:
    pair.play(
        pair.calling().invite().recv(180).answered().ack().invite(sdp(version=2)).answered().ack().bye().recv(200),
        Callee().ring().answer().take("INVITE").answer(sdp(port=4200, version=2)).take("BYE").reply(200),
    )
    pair.cdr(outcome="answered")
    pair.released()


def test_re_invite_by_the_callee(pair: Pair) -> None:
    pair.play(
        pair.calling().invite().recv(180).answered().ack()
        .take("INVITE").reply(200, ANSWER).take("ACK").take("BYE").reply(200),
        Callee().ring().answer().pause(50).request("INVITE", OFFER).recv(200).ack().pause(50).bye().recv(200),
    )  # fmt: skip
    pair.cdr(outcome="answered", hung_up_by="callee")
    pair.released()


def test_a_refused_re_invite_leaves_the_call_as_it_was(pair: Pair) -> None:
    caller = pair.calling().invite().recv(180).answered().ack()
    caller.invite(sdp(version=2)).recv(488).reject_ack().pause(100).bye().recv(200)
    pair.play(caller, Callee().ring().answer().take("INVITE").reject(488).take("BYE").reply(200))
    pair.cdr(outcome="answered", sip_status=200)
    pair.released()


def test_hold_and_resume(pair: Pair) -> None:
    caller = pair.calling().invite().recv(180).answered().ack()
    caller.invite(HOLD).answered().ack().pause(100).invite(RESUME).answered().ack().bye().recv(200)
    callee = Callee().ring().answer().take("INVITE").answer(HELD).take("INVITE").answer(RESUMED).take("BYE").reply(200)
    pair.play(caller, callee)
    pair.cdr(outcome="answered")
    pair.released()


@pytest.mark.parametrize("by", ["caller", "callee"])
def test_update(pair: Pair, by: str) -> None:
    caller, callee = pair.calling().invite().recv(180).answered().ack(), Callee().ring().answer()
    if by == "caller":
        caller.request("UPDATE", sdp(version=2)).recv(200, Content_Type="application/sdp").bye().recv(200)
        callee.take("UPDATE").reply(200, sdp(port=4200, version=2)).take("BYE").reply(200)
    else:
        caller.take("UPDATE").reply(200, sdp(version=2)).take("BYE").reply(200)
        callee.pause(50).request("UPDATE", sdp(port=4200, version=2)).recv(200).bye().recv(200)
    pair.play(caller, callee)
    pair.cdr(outcome="answered")
    pair.released()


@pytest.mark.parametrize("by", ["caller", "callee"])
def test_info(pair: Pair, by: str) -> None:
    digit = "Signal=5\nDuration=160\n"
    content = "application/dtmf-relay"
    caller, callee = pair.calling().invite().recv(180).answered().ack(), Callee().ring().answer()
    if by == "caller":
        caller.request("INFO", digit, content=content).recv(200).bye().recv(200)
        callee.take("INFO", Content_Type=content).reply(200).take("BYE").reply(200)
    else:
        caller.take("INFO", Content_Type=content).reply(200).take("BYE").reply(200)
        callee.pause(50).request("INFO", digit, content=content).recv(200).bye().recv(200)
    pair.play(caller, callee)
    pair.cdr(outcome="answered")
    pair.released()


def test_prack(pair: Pair) -> None:
    caller = pair.calling().invite(headers="Supported: 100rel\n").early(183).prack().recv(200, CSeq="PRACK")
    caller.recv(180).answered().ack().bye().recv(200)
    callee = Callee().ring(183, ANSWER, headers="Require: 100rel\nRSeq: 17\n").take("PRACK", RAck="17 [0-9]+ INVITE")
    callee.reply(200).reply_invite(180).pause(50).reply_invite(200).take("ACK").take("BYE").reply(200)
    pair.play(caller, callee)
    pair.cdr(outcome="answered")
    pair.released()


def test_message(pair: Pair) -> None:
    caller = pair.calling().outside("MESSAGE", body="Lunch?\n", content="text/plain")
    caller.outside_again("MESSAGE", body="Lunch?\n", content="text/plain").recv(200)
    pair.play(caller, Callee().take("MESSAGE", Content_Type="text/plain").reply(200))


def test_options_inside_a_call(pair: Pair) -> None:
    caller, callee = pair.phones()
    with caller, callee:
        call = establish(caller, callee)
        for phone, dialog in ((caller, call.caller_dialog), (callee, call.callee_dialog)):
            phone.request(dialog, "OPTIONS")
            assert "INVITE" in phone.expect(200, method="OPTIONS").get("allow")
        call.hang_up()
    pair.released()
