"""Redis stalls for a moment: calls that come meanwhile wait, and begin when events are written again."""

from __future__ import annotations

import pytest

from pbx_signaling.config import QuotaPolicy
from pbx_signaling.users.waiting import AT_ONCE, PATIENCE_S, WAITING_MAX
from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.message.message import Response
from support.bench_core import ALICE, BOB, Bench, sdp
from support.ladder import answer, establish, invite, within

INVITE = """INVITE sip:1008@pbx.local SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKw{number}
Max-Forwards: 70
From: <sip:1004@pbx.local>;tag=w{number}
To: <sip:1008@pbx.local>
Call-ID: waits-{number}
CSeq: 1 INVITE
Contact: <sip:1004@192.0.2.10>
Content-Type: application/sdp"""
CANCEL = """CANCEL sip:1008@pbx.local SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKw{number}
Max-Forwards: 70
From: <sip:1004@pbx.local>;tag=w{number}
To: <sip:1008@pbx.local>
Call-ID: waits-{number}
CSeq: 1 CANCEL"""


def call(bench: Bench, number: int) -> None:
    bench.send(INVITE.format(number=number), ALICE, sdp(ALICE.host))


def journal(bench: Bench, ready: bool) -> None:
    bench.journal(ready)


def statuses(bench: Bench, to: HostPort = ALICE) -> list[int]:
    return [message.status for message in bench.take(to) if isinstance(message, Response)]


def stalled() -> Bench:
    bench = Bench()
    bench.core.quotas.policy = QuotaPolicy(callee_ringing=0)  # all of them call one phone
    journal(bench, False)
    return bench


def test_a_call_waits_for_the_end_of_a_stall_and_its_repetitions_are_swallowed():
    bench = stalled()
    invite(bench)
    bench.advance(0.5)
    invite(bench)
    assert not bench.sent, "not even a 100: call.initiated is not stored"
    assert not bench.calls
    bench.advance(1.0)
    journal(bench, True)
    assert bench.names()[:2] == ["INITIATED", "DIALING"]
    assert bench.response(ALICE, 100)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 200, sdp(BOB.host))
    ok = bench.response(ALICE, 200)
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    bench.send(within("BYE", ok, 2, "y1"), ALICE)
    bench.sent.clear()
    bench.assert_clean()
    assert bench.core.counters.calls_refused == 0


def test_a_stall_that_lasts_refuses_those_who_wait_and_those_who_come():
    bench = stalled()
    call(bench, 1)
    bench.advance(PATIENCE_S - 0.1)
    assert not bench.sent
    call(bench, 2)
    bench.advance(0.2)
    refused = bench.take(ALICE)
    assert [(m.status, m.first("Retry-After")) for m in refused if isinstance(m, Response)] == [(503, "5")] * 2
    call(bench, 3)
    assert statuses(bench) == [503]
    assert bench.core.counters.calls_refused == 3
    journal(bench, True)
    assert not bench.calls
    bench.advance(70)
    bench.sent.clear()
    establish(bench)


def test_the_end_of_one_stall_does_not_end_the_patience_with_the_next():
    bench = stalled()
    bench.advance(PATIENCE_S - 0.5)
    journal(bench, True)
    journal(bench, False)
    call(bench, 1)
    bench.advance(1.0)
    assert not bench.sent
    journal(bench, True)
    assert 100 in statuses(bench)


def test_a_cancel_of_a_call_that_waits():
    bench = stalled()
    call(bench, 1)
    bench.send(CANCEL.format(number=1), ALICE)
    assert sorted(statuses(bench)) == [200, 487]
    journal(bench, True)
    assert not bench.calls
    assert not bench.take(BOB)
    assert not bench.records


def test_a_connection_that_breaks_takes_its_calls_along():
    bench = stalled()
    flow = Flow(Transport.TCP, ALICE, "tcp4", 1)
    head = INVITE.format(number=1).replace("/UDP", "/TCP").replace("\n", "\r\n")
    body = sdp(ALICE.host)
    bench.receive(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body, flow)
    assert len(bench.core.waiting) == 1
    bench.transport_failed(flow)
    assert len(bench.core.waiting) == 0
    journal(bench, True)
    assert not bench.calls


def test_a_drain_refuses_who_waits():
    bench = stalled()
    call(bench, 1)
    bench.end_all("drain")
    assert statuses(bench) == [503]


def test_no_more_than_the_limit_wait():
    bench = stalled()
    for number in range(WAITING_MAX + 3):
        call(bench, number)
    assert statuses(bench) == [503] * 3
    assert len(bench.core.waiting) == WAITING_MAX


def test_after_a_stall_calls_begin_in_order_and_a_few_at_a_time():
    bench = stalled()
    total = 2 * AT_ONCE + 1
    for number in range(total):
        call(bench, number)
    journal(bench, True)
    begun = [m.call_id for m in bench.take(ALICE)]
    assert begun == [f"waits-{number}" for number in range(AT_ONCE)]
    call(bench, total)
    assert [m.call_id for m in bench.take(ALICE)] == [f"waits-{total}"], "who comes now need not wait"
    bench.advance(0.1)
    assert [m.call_id for m in bench.take(ALICE)] == [f"waits-{number}" for number in range(AT_ONCE, total)]


def test_who_had_not_begun_waits_through_the_next_stall():
    bench = stalled()
    for number in range(AT_ONCE + 1):
        call(bench, number)
    journal(bench, True)
    journal(bench, False)
    bench.sent.clear()
    bench.advance(1.0)
    assert not [m for m in bench.take(ALICE) if m.call_id == f"waits-{AT_ONCE}"]
    journal(bench, True)
    assert [m.call_id for m in bench.take(ALICE)] == [f"waits-{AT_ONCE}"]


@pytest.mark.parametrize("refusal", ["draining", "calls_max"])
def test_what_is_refused_anyhow_does_not_wait(refusal: str):
    bench = stalled()
    if refusal == "draining":
        bench.core.router.draining = True
    else:
        bench.harness.reconfigure(calls_max=0)
    call(bench, 1)
    assert statuses(bench) == [503]


def test_each_call_that_waited_has_a_step_of_its_own():
    """What is sent for one call must not stand behind the events of another."""
    bench = stalled()
    for number in range(3):
        call(bench, number)
    bench.harness.relay.delay_s = bench.harness.registrar.delay_s = None
    bench.answer_registrar = False
    bench.harness.steps.clear()
    bench.journal(True)
    steps = bench.harness.steps
    assert [len(step.transmits) for step in steps] == [1, 1, 1]
    assert len({step.call_id for step in steps}) == 3
    assert all(step.records for step in steps)


def test_a_message_that_causes_nothing_leaves_its_call_out_of_the_next_step():
    bench = Bench()
    _, ok = establish(bench)
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    assert not bench.take(BOB), "the ACK was known"
    options = """OPTIONS sip:pbx.local SIP/2.0
        Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKo1
        Max-Forwards: 70
        From: <sip:1004@pbx.local>;tag=o1
        To: <sip:pbx.local>
        Call-ID: options-1
        CSeq: 1 OPTIONS
        Content-Length: 0
    """
    text = "".join(f"{line.strip()}\r\n" for line in options.splitlines())
    bench.receive(text.encode(), Flow(Transport.UDP, ALICE, "udp4"))
    step = bench.harness.steps[-1]
    assert step.transmits
    assert step.call_id == ""
