"""Floods from one source at the B2BUA's core: it is refused early and without state, and others call as before."""

from __future__ import annotations

import pytest

from pbx_sip.address import HostPort
from pbx_sip.message.message import Response
from support.bench_core import ALICE, BOB, Bench, sdp
from support.ladder import INVITE, answer, establish, invite, within

FLOODER = HostPort("198.51.100.66", 5060)
REQUEST = """{method} sip:1008@pbx.local SIP/2.0
Via: SIP/2.0/UDP 198.51.100.66:5060;branch=z9hG4bKf{number}
Max-Forwards: 70
From: <sip:x@pbx.local>;tag=x{number}
To: <sip:x@pbx.local>
Call-ID: flood-{number}
CSeq: 1 {method}
Contact: <sip:x@198.51.100.66>"""


def limited(**limits: float) -> Bench:
    """A core with other limits than usual."""
    return Bench(authenticate=True, limits=limits)


@pytest.mark.parametrize("method", ["OPTIONS", "REGISTER", "INVITE", "SUBSCRIBE", "MESSAGE"])
def test_a_flood_is_refused_without_state_then_not_read_and_others_call(method: str):
    bench = limited(source_requests_per_s=20.0, source_burst=40.0)
    statuses: list[int] = []
    for number in range(1000):
        bench.now += 0.001
        bench.send(REQUEST.format(method=method, number=number), FLOODER)
        statuses += [m.status for m in bench.take(FLOODER) if isinstance(m, Response)]
    refused = statuses.count(503)
    assert statuses[:40].count(503) == 0
    assert refused >= 1
    assert len(statuses) < 200, "the rest was not read"
    assert bench.core.counters.messages_unread > 800
    assert bench.core.layer.active == 0
    bench.harness.reconfigure(authenticate=False)
    _, ok = establish(bench)
    bench.send(within("BYE", ok, 2, "y1"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


def test_503_says_when_to_come_again():
    bench = limited(source_requests_per_s=1.0, source_burst=1.0)
    for number in range(2):
        bench.send(REQUEST.format(method="OPTIONS", number=number), FLOODER)
    refused = bench.take(FLOODER)[-1]
    assert isinstance(refused, Response)
    assert (refused.status, refused.first("Retry-After")) == (503, "5")


def test_garbage_costs_as_well():
    bench = limited(source_requests_per_s=1.0, source_burst=10.0)
    for _ in range(100):
        bench.raw(b"INVITE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.66;branch=z9hG4bK1\r\n\r\n", FLOODER)
    assert len(bench.take(FLOODER)) <= 10


def test_calls_beyond_the_rate_get_503_without_a_transaction():
    bench = limited(calls_per_s=3.0, source_burst=1000.0)
    bench.harness.reconfigure(authenticate=False)
    bench.now += 1
    for number in range(6):
        text = INVITE.format(branch=f"i{number}").replace("call-1@alice", f"call-{number}@alice")
        bench.send(text.replace("\nContent-Type: application/sdp", ""), ALICE)
    statuses = [m.status for m in bench.take(ALICE) if isinstance(m, Response)]
    assert statuses.count(100) == 3
    assert statuses.count(503) == 3
    assert bench.core.counters.calls_refused == 3
    bench.advance(200)
    bench.sent.clear()
    bench.assert_clean()


def test_requests_inside_calls_cost_nothing():
    bench = Bench()
    _, ok = establish(bench)
    bench.core.sources.rate = bench.core.sources.burst = 1.0
    for cseq in range(2, 60):
        bench.send(within("OPTIONS", ok, cseq, f"o{cseq}"), ALICE)
        assert bench.response(ALICE, 200)
    bench.send(within("BYE", ok, 99, "y1"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


def test_an_invite_that_was_refused_may_come_again_later():
    bench = limited(source_requests_per_s=1.0, source_burst=1.0)
    bench.send(REQUEST.format(method="OPTIONS", number=1), ALICE)
    bench.take(ALICE)
    invite(bench)
    assert bench.response(ALICE, 503)
    bench.advance(5)
    invite(bench, branch="i2")
    assert bench.response(ALICE, 407)


@pytest.mark.parametrize("limit", ["calls_max", "calls_per_s", "source", "journal"])
def test_what_was_taken_on_stays_so_when_its_invite_comes_again_under_overload(limit: str):
    """UDP phones repeat themselves just when there is too much to do; a 503 would leave a callee with a ghost."""
    limits = {"calls_max": {"calls_max": 1}, "calls_per_s": {"calls_per_s": 1.0}, "source": {"source_burst": 1.0}}
    bench = limited(source_requests_per_s=0.001, **limits.get(limit, {}))
    bench.harness.reconfigure(authenticate=False)
    bench.now += 1
    invite(bench)
    bench.response(ALICE, 100)
    out = bench.request(BOB, "INVITE")
    if limit == "journal":
        bench.core.router.journal_ready = False
    invite(bench)
    assert bench.response(ALICE, 100), "the answer that it has"
    answer(bench, out, 200, sdp("192.0.2.20"))
    ok = bench.response(ALICE, 200)
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    bench.core.router.journal_ready = True
    bench.send(within("BYE", ok, 2, "y1"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


@pytest.mark.parametrize("method", ["BYE", "OPTIONS", "INVITE", "CANCEL"])
def test_requests_of_dialogs_and_invites_that_are_not_cost_a_token_and_no_memory(method: str):
    bench = limited(source_requests_per_s=20.0, source_burst=40.0)
    statuses: list[int] = []
    for number in range(100):
        text = REQUEST.format(method=method, number=number)
        bench.send(
            text if method == "CANCEL" else text.replace("To: <sip:x@pbx.local>", "To: <sip:x@pbx.local>;tag=no"),
            FLOODER,
        )
        statuses += [m.status for m in bench.take(FLOODER) if isinstance(m, Response)]
    assert statuses[:40] == [481] * 40
    assert set(statuses[41:]) <= {503}
    assert bench.core.layer.active == 0
