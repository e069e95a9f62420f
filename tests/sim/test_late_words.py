"""What a phone says when the other side does not listen any more, or says by another way than before."""

from __future__ import annotations

import pytest

from pbx_signaling.addressing import Listener
from pbx_sip.address import Flow, Transport
from pbx_sip.message.message import Request, Response
from support.bench_core import ALICE, BOB, PBX, Bench, sdp
from support.ladder import CANCEL, answer, establish, from_bob, invite, within


def test_who_asks_when_the_caller_has_given_up_is_told_so():
    """An UPDATE of the callee that crossed the CANCEL, and one that came before it; a BYE, which it may not send."""
    bench = Bench()
    invite(bench)
    out = bench.take(BOB)[0]
    assert isinstance(out, Request)
    answer(bench, out, 183, sdp("192.0.2.20"))
    bench.take(ALICE)
    bench.send(from_bob("INFO", out, 1, "u1"), BOB)
    bench.request(ALICE, "INFO")
    bench.send(CANCEL, ALICE)
    told = [m for m in bench.take(BOB) if isinstance(m, Response)]
    assert [(m.status, m.cseq_method) for m in told] == [(487, "INFO")]
    bench.send(from_bob("UPDATE", out, 2, "u2") + "\nContent-Type: application/sdp", BOB, sdp("192.0.2.20", 4444))
    bench.response(BOB, 487)
    bench.send(from_bob("BYE", out, 3, "u3"), BOB)
    bench.response(BOB, 200)
    answer(bench, out, 487)
    bench.sent.clear()
    bench.assert_clean()


def by_tcp(bench: Bench, text: str) -> None:
    """Alice sends a message over a connection of hers."""
    data = ("\r\n".join(text.splitlines()) + "\r\nContent-Length: 0\r\n\r\n").encode()
    bench.core.receive(data, Flow(Transport.TCP, ALICE._replace(port=50123), "tcp4", 7), bench.now)
    bench.drain()


@pytest.mark.parametrize("nat", [False, True])
def test_one_large_request_by_tcp_does_not_move_a_phone_there(nat: bool):
    """RFC 3261 section 18.1.1: what is too large for a datagram goes by TCP, nothing else does."""
    bench = Bench()
    _, ok = establish(bench, contact="10.0.0.1" if nat else "")
    by_tcp(bench, within("MESSAGE", ok, 2, "n1").replace("UDP", "TCP"))
    bench.request(BOB, "MESSAGE")
    bench.sent.clear()
    bench.core.end_all("test", bench.now)
    (bye,) = [
        flow
        for step in bench.core.drain()
        for data, flow in getattr(step, "transmits", [])
        if data.startswith(b"BYE") and flow.remote.host == ALICE.host
    ]
    assert (bye.transport, bye.remote) == (Transport.UDP, ALICE)


def test_a_phone_whose_new_contact_names_the_connection_has_moved():
    bench = Bench()
    bench.addressing.add(Listener("tcp4", Transport.TCP, PBX))
    _, ok = establish(bench)
    moved = within("UPDATE", ok, 2, "n1").replace("UDP", "TCP") + "\nContact: <sip:1004@10.0.0.1:5060;transport=tcp>"
    by_tcp(bench, moved)
    bench.sent.clear()
    bench.core.end_all("test", bench.now)
    flows = [
        flow
        for step in bench.core.drain()
        for data, flow in getattr(step, "transmits", [])
        if data.startswith(b"BYE") and flow.connection
    ]
    assert [(flow.transport, flow.connection) for flow in flows] == [(Transport.TCP, 7)]
