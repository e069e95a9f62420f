"""Calls through the running product, as SIPp ladders: set-up, ends, refusals. Each leaves one CDR and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.pair import NO_ANSWER_S, Pair
from support.sipp_script import ANSWER, OFFER, Callee, Caller

if TYPE_CHECKING:
    from support.product import Product

pytestmark = pytest.mark.interop


def test_answered_and_ended_by_the_caller(pair: Pair) -> None:
    pair.play(
        pair.calling().invite().recv(180).answered().ack().pause(200).bye().recv(200),
        Callee().ring().answer().take("BYE").reply(200),
    )
    cdr = pair.cdr(caller=pair.caller, callee=pair.callee, outcome="answered", sip_status=200, hung_up_by="caller")
    assert cdr["talk_ms"] >= 150
    assert len(cdr["legs"]) == 2
    pair.released()


def test_answered_and_ended_by_the_callee(pair: Pair) -> None:
    pair.play(
        pair.calling().invite().recv(180).answered().ack().take("BYE").reply(200),
        Callee().ring().answer().pause(100).bye().recv(200),
    )
    pair.cdr(outcome="answered", hung_up_by="callee")
    pair.released()


def test_early_media_and_several_provisional_responses(pair: Pair) -> None:
    pair.play(
        pair.calling().invite().recv(180).recv(183, Content_Type="application/sdp").answered().ack().bye().recv(200),
        Callee().ring(180).reply(183, ANSWER).pause(50).answer().take("BYE").reply(200),
    )
    pair.cdr(outcome="answered")
    pair.released()


def test_answered_without_ringing(pair: Pair) -> None:
    pair.play(
        pair.calling().invite().answered().ack().bye().recv(200),
        Callee().take("INVITE").answer().take("BYE").reply(200),
    )
    pair.cdr(outcome="answered")
    pair.released()


def test_cancelled_while_ringing(pair: Pair) -> None:
    pair.play(
        pair.calling().invite().recv(180).pause(100).cancel().recv(200, CSeq="CANCEL").recv(487).reject_ack(),
        Callee().ring().cancelled(),
    )
    pair.cdr(outcome="cancelled", sip_status=487, hung_up_by="caller")
    pair.released()


def test_cancelled_before_ringing(pair: Pair) -> None:
    # The callee is silent at first: the CANCEL must wait for its first provisional response (RFC 3261 section 9.1).
    pair.play(
        pair.calling().invite().recv(100).pause(150).cancel().recv(200, CSeq="CANCEL").recv(487).reject_ack(),
        Callee().take("INVITE").pause(300).reply(180).cancelled(),
    )
    pair.cdr(outcome="cancelled", sip_status=487)
    pair.released()


def test_answer_wins_the_race_against_cancel(pair: Pair) -> None:
    # The callee's 200 crosses the CANCEL: it gets 200 to the CANCEL's own transaction, ACK, then BYE.
    callee = Callee().ring().take("CANCEL").reply(200).reply_invite(200, ANSWER).take("ACK").take("BYE").reply(200)
    pair.play(
        pair.calling().invite().recv(180).cancel().recv(200, CSeq="CANCEL").recv(487).reject_ack(),
        callee,
    )
    pair.cdr(outcome="cancelled", sip_status=487)
    pair.released()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(480, "no_answer"), (486, "busy"), (488, "failed"), (500, "failed"), (600, "busy"), (603, "rejected")],
)
def test_refused_by_the_callee(pair: Pair, status: int, outcome: str) -> None:
    pair.play(
        pair.calling().invite().recv(180).recv(status).reject_ack(),
        Callee().ring().reject(status),
    )
    pair.cdr(outcome=outcome, sip_status=status)
    pair.released()


def test_refused_at_once(pair: Pair) -> None:
    pair.play(pair.calling().invite().recv(486).reject_ack(), Callee().take("INVITE").reject(486))
    pair.cdr(outcome="busy", sip_status=486)
    pair.released()


def test_unknown_number(pair: Pair) -> None:
    caller = Caller(pair.caller, pair.product.credentials(pair.caller).password, "9999")
    pair.play(caller.invite().recv(404).reject_ack())
    pair.cdr(outcome="unreachable", sip_status=404)
    pair.released()


def test_known_but_not_registered(pair: Pair) -> None:
    pair.play(pair.calling().invite().recv(480).reject_ack())
    pair.cdr(outcome="unreachable", sip_status=480)
    pair.released()


def test_no_answer(pair: Pair) -> None:
    pair.play(
        pair.calling().invite().recv(180).recv(480).reject_ack(),
        Callee().ring().cancelled(),
    )
    cdr = pair.cdr(outcome="no_answer", origin="timer")
    assert cdr["duration_ms"] >= NO_ANSWER_S * 900
    pair.released()


def test_wrong_password_is_refused_and_recorded(pair: Pair) -> None:
    caller = Caller(pair.caller, "wrong", pair.callee)
    pair.play(caller.invite().recv(403).reject_ack())
    pair.cdr(outcome="forbidden")


def test_a_challenge_alone_is_no_attempt(pair: Pair) -> None:
    caller = Caller(pair.caller, "", pair.callee)
    pair.play(caller.invite().recv(407, Proxy_Authenticate="Digest").reject_ack())
    pair.play(pair.calling().invite().recv(480).reject_ack())
    pair.cdr(sip_status=480)  # one CDR: the challenge left none


def test_offer_in_the_200(pair: Pair) -> None:
    pair.play(
        pair.calling().invite("").recv(180).answered().ack(OFFER).bye().recv(200),
        Callee().ring().reply(200, ANSWER, reliable=True).take("ACK", Content_Type="application/sdp")
        .take("BYE").reply(200),
    )  # fmt: skip
    pair.cdr(outcome="answered")
    pair.released()


def test_a_hundred_at_once(pair: Pair) -> None:
    caller = pair.calling().invite().recv(180).answered().ack().pause(1500).bye().recv(200)
    callee = Callee().ring().answer().take("BYE").reply(200)
    pair.play(caller, callee, calls=100, rate=200)
    pair.released()
    cdrs = pair.product.cdrs_of(100, caller=pair.caller)
    assert {cdr["outcome"] for cdr in cdrs} == {"answered"}


@pytest.mark.xdist_group("1004")
def test_1004_calls_1008(product: Product) -> None:
    before = len(product.cdrs(caller="1004", limit=1000))
    pair = Pair(product, "1004", "1008")
    pair.play(
        pair.calling().invite().recv(180).answered().ack().pause(100).bye().recv(200),
        Callee().ring().answer().take("BYE").reply(200),
    )
    pair.released()
    product.cdrs_of(before + 1, caller="1004")
