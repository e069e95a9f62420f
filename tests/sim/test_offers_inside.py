"""Offers inside a call beside other requests, and those that are never answered (RFC 3264, 6337, 6141)."""

from __future__ import annotations

import pytest

from pbx_sip.message.message import Response
from support.bench_core import ALICE, BOB, Bench, sdp
from support.ladder import establish, reply, within

SDP = "\nContact: <sip:1004@192.0.2.10:5060>\nContent-Type: application/sdp"


def end(bench: Bench, ok: Response) -> None:
    bench.send(within("BYE", ok, 50, "yend"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


def test_a_refused_info_leaves_the_re_invite_beside_it_alone():
    bench = Bench()
    _, ok = establish(bench)
    bench.forget_updates()
    bench.send(within("INVITE", ok, 2, "r1") + SDP, ALICE, sdp("192.0.2.10", 5556, direction="sendonly"))
    bench.take(ALICE)
    invited = bench.request(BOB, "INVITE")
    bench.send(within("INFO", ok, 3, "n1") + "\nContent-Type: application/dtmf-relay", ALICE, b"Signal=1\r\n")
    bench.send(reply(bench.request(BOB, "INFO"), 415), BOB)
    body = sdp("192.0.2.20", direction="recvonly")
    bench.send(reply(invited, 200, body), BOB, body)
    told = [(endpoint.side, endpoint.port) for update in bench.updates for endpoint in update.endpoints]
    assert (1, 5556) in told, "the relay hears of the new port"
    bench.send(within("ACK", ok, 2, "k2"), ALICE)
    end(bench, ok)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
@pytest.mark.parametrize("body", [b"", b"no description"])
def test_a_2xx_without_an_answer_does_not_refuse_all_that_comes_later(method: str, body: bytes):
    bench = Bench()
    _, ok = establish(bench)
    bench.send(within(method, ok, 2, "r1") + SDP, ALICE, sdp("192.0.2.10", direction="sendonly"))
    bench.take(ALICE)
    bench.send(reply(bench.request(BOB, method), 200, body), BOB, body)
    if method == "INVITE":
        bench.send(within("ACK", ok, 2, "k2"), ALICE)
    bench.advance(60)
    bench.sent.clear()
    bench.send(within(method, ok, 3, "r2") + SDP, ALICE, sdp("192.0.2.10"))
    assert 491 not in [message.status for message in bench.take(ALICE) if isinstance(message, Response)]
    answered = bench.request(BOB, method)
    bench.send(reply(answered, 200, sdp("192.0.2.20")), BOB, sdp("192.0.2.20"))
    if method == "INVITE":
        bench.send(within("ACK", ok, 3, "k3"), ALICE)
    end(bench, ok)
