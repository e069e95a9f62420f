"""The next binding is tried after the first one had already begun offers and answers; and the net under CANCEL."""

from __future__ import annotations

import pytest

from pbx_signaling.calls import signals as e
from pbx_signaling.calls.hunt import HuntPolicy, Ringing
from pbx_signaling.calls.state import CallPolicy
from pbx_sip.message.message import Request
from support.bench_core import ALICE, BOB, Bench, sdp
from support.ladder import answer, from_bob, invite, reply, within

SDP = "\nContact: <sip:1004@192.0.2.10:5060>\nContent-Type: application/sdp"
BOBS_SDP = SDP.replace("1004@192.0.2.10", "1008@192.0.2.20")


def twice() -> Bench:
    """Bob has two bindings, of which the second one rings after the first."""
    bench = Bench(limits={"calls": CallPolicy(hunt=HuntPolicy(Ringing.SERIAL))})
    assert bench.found is not None
    (target,) = bench.found.targets
    bench.found = e.Found(True, [target, target])
    return bench


def end_of_second(bench: Bench) -> None:
    """The second binding gets the offer of Alice's INVITE and answers; she hangs up."""
    (second,) = [each for each in bench.take(BOB) if isinstance(each, Request) and each.method == "INVITE"]
    assert b"m=audio" in second.body
    assert b"a=recvonly" not in second.body, "as it was in the INVITE"
    answer(bench, second, 200, sdp("192.0.2.21"), tag="b2")
    ok = bench.response(ALICE, 200)
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    bench.send(within("BYE", ok, 9, "y1"), ALICE)
    bench.sent.clear()
    bench.advance(200)
    bench.sent.clear()
    bench.assert_clean()
    assert [bench.names().count(word) for word in ("INITIATED", "ANSWERED", "ENDED")] == [1, 1, 1]


@pytest.mark.parametrize("status", [408, 430, 503])
def test_after_an_offer_in_an_update_of_the_caller(status: int):
    bench = twice()
    invite(bench)
    bench.take(ALICE)
    first = bench.request(BOB, "INVITE")
    answer(bench, first, 183, sdp("192.0.2.20"), extra="Require: 100rel\nRSeq: 1")
    early = bench.response(ALICE, 183)
    bench.send(within("PRACK", early, 2, "p1") + "\nRAck: 1 1 INVITE", ALICE)
    bench.send(reply(bench.request(BOB, "PRACK"), 200), BOB)
    bench.send(within("UPDATE", early, 3, "u1") + SDP, ALICE, sdp("192.0.2.10", direction="recvonly"))
    body = sdp("192.0.2.20", direction="sendonly")
    bench.send(reply(bench.request(BOB, "UPDATE"), 200, body), BOB, body)
    bench.take(ALICE)
    answer(bench, first, status)
    end_of_second(bench)


def test_after_an_offer_in_an_update_of_the_first_callee():
    bench = twice()
    invite(bench)
    bench.take(ALICE)
    first = bench.request(BOB, "INVITE")
    answer(bench, first, 180, sdp("192.0.2.20"))
    bench.take(ALICE)
    bench.send(from_bob("UPDATE", first, 2, "bu1") + BOBS_SDP, BOB, sdp("192.0.2.20", direction="sendonly"))
    bench.sent.clear()
    answer(bench, first, 408)
    end_of_second(bench)


def test_an_attempt_that_nothing_ends_is_forgotten_after_the_cancel():
    bench = Bench()
    invite(bench)
    bench.take(ALICE)
    bench.request(BOB, "INVITE")
    (entry,) = bench.calls.values()
    entry.callees.clear()  # as a defect would: nobody is left to say that the callee is gone
    bench.advance(121)
    assert len(bench.calls) == 1, "no answer, and the callee's last word is waited for"
    bench.advance(41)
    assert not bench.calls
