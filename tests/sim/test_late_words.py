"""What a phone says when the other side does not listen any more, or says by another way than before."""

from __future__ import annotations

import pytest

from pbx_signaling.router.addressing import Listener
from pbx_sip.address import Flow, Transport
from pbx_sip.message.message import Request, Response
from support.bench_core import ALICE, BOB, PBX, Bench, sdp
from support.ladder import CANCEL, answer, establish, from_bob, invite, reply, within


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
    bench.receive(data, Flow(Transport.TCP, ALICE._replace(port=50123), "tcp4", 7))


@pytest.mark.parametrize("nat", [False, True])
def test_one_large_request_by_tcp_does_not_move_a_phone_there(nat: bool):
    """RFC 3261 section 18.1.1: what is too large for a datagram goes by TCP, nothing else does."""
    bench = Bench()
    _, ok = establish(bench, contact="10.0.0.1" if nat else "")
    by_tcp(bench, within("MESSAGE", ok, 2, "n1").replace("UDP", "TCP"))
    bench.request(BOB, "MESSAGE")
    bench.sent.clear()
    bench.end_all("test")
    (bye,) = [flow for data, flow in bench.harness.wire if data.startswith(b"BYE") and flow.remote.host == ALICE.host]
    assert (bye.transport, bye.remote) == (Transport.UDP, ALICE)


def test_a_phone_whose_new_contact_names_the_connection_has_moved():
    bench = Bench()
    bench.addressing.add(Listener("tcp4", Transport.TCP, PBX))
    _, ok = establish(bench)
    moved = within("UPDATE", ok, 2, "n1").replace("UDP", "TCP") + "\nContact: <sip:1004@10.0.0.1:5060;transport=tcp>"
    by_tcp(bench, moved)
    bench.sent.clear()
    bench.end_all("test")
    flows = [flow for data, flow in bench.harness.wire if data.startswith(b"BYE") and flow.connection]
    assert [(flow.transport, flow.connection) for flow in flows] == [(Transport.TCP, 7)]


def unconfirmed(bench: Bench) -> Response:
    """A call that Bob answered and, at once, ended: Alice's 200 was lost. What she should have got."""
    invite(bench)
    out = bench.take(BOB)[0]
    assert isinstance(out, Request)
    answer(bench, out, 200, sdp("192.0.2.20"))
    ok = bench.take(ALICE)[-1]
    assert isinstance(ok, Response)
    assert [getattr(message, "method", "") for message in bench.take(BOB)] == ["ACK"]
    bench.send(from_bob("BYE", out, 1, "y1"), BOB)
    assert bench.response(BOB, 200)
    assert bench.names()[-1] == "ENDED", "the CDR does not wait for Alice"
    assert not bench.slots
    return ok


def test_the_bye_waits_for_the_ack():
    """RFC 3261 section 15: no BYE before the ACK for the 2xx, or Alice would not even know the dialog."""
    bench = Bench()
    ok = unconfirmed(bench)
    assert not bench.take(ALICE)
    bench.advance(0.6)
    assert bench.response(ALICE, 200).to_tag == ok.to_tag
    bench.send(within("INFO", ok, 2, "n1"), ALICE)
    bench.response(ALICE, 481)
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    bye = bench.request(ALICE, "BYE")
    bench.send(reply(bye, 200), ALICE)
    bench.advance(5)
    assert not bench.take(ALICE)
    bench.assert_clean()


def test_the_bye_comes_when_no_ack_does():
    bench = Bench()
    unconfirmed(bench)
    bench.advance(31)
    assert all(isinstance(message, Response) for message in bench.take(ALICE))
    bench.advance(2)
    assert next(message.method for message in bench.take(ALICE) if isinstance(message, Request)) == "BYE"
    bench.assert_clean()


def test_both_hang_up_before_the_ack():
    bench = Bench()
    ok = unconfirmed(bench)
    bench.send(within("BYE", ok, 2, "y1"), ALICE)
    bench.response(ALICE, 200)
    bench.advance(40)
    assert not bench.take(ALICE)
    bench.assert_clean()


def test_a_process_that_ends_does_not_wait_for_the_ack():
    bench = Bench()
    unconfirmed(bench)
    bench.end_all("test")
    bench.request(ALICE, "BYE")
    bench.assert_clean()


def reinvite(bench: Bench) -> tuple[str, Request]:
    """Alice changes the session; her request, and what Bob got."""
    _, ok = establish(bench)
    text = within("INVITE", ok, 2, "h1")
    bench.send(text + "\nContent-Type: application/sdp", ALICE, sdp("192.0.2.10", 4002))
    bench.response(ALICE, 100)
    return text, bench.request(BOB, "INVITE")


def test_a_change_is_cancelled_through():
    """The other phone may be asking its user (to add video): it stops, and the session stays what it was."""
    bench = Bench()
    text, out = reinvite(bench)
    bench.send(reply(out, 180), BOB)
    bench.take(ALICE)
    bench.send(text.replace("INVITE", "CANCEL") + "\nReason: SIP;cause=200", ALICE)
    bench.response(ALICE, 200)
    cancel = bench.request(BOB, "CANCEL")
    assert (cancel.branch, cancel.cseq_number) == (out.branch, out.cseq_number)
    bench.send(reply(cancel, 200), BOB)
    bench.send(reply(out, 487), BOB)
    bench.request(BOB, "ACK")
    bench.response(ALICE, 487)
    bench.send(text.replace("INVITE", "ACK"), ALICE)
    bench.forget_updates()
    bench.send(
        text.replace("2 INVITE", "3 INVITE").replace("h1", "h2") + "\nContent-Type: application/sdp",
        ALICE,
        sdp("192.0.2.10"),
    )
    bench.response(ALICE, 100)
    bench.request(BOB, "INVITE")


def test_a_cancel_that_comes_after_the_answer_changes_nothing():
    bench = Bench()
    text, out = reinvite(bench)
    answer(bench, out, 200, sdp("192.0.2.20"))
    bench.response(ALICE, 200)
    bench.send(text.replace("INVITE", "CANCEL"), ALICE)
    assert not bench.take(BOB)
    bench.take(ALICE)
    bench.send(text.replace("INVITE", "ACK").replace("h1", "k2"), ALICE)
    bench.request(BOB, "ACK")
    assert bench.calls


def test_a_cancel_that_the_answer_overtakes_leaves_the_change_made():
    bench = Bench()
    text, out = reinvite(bench)
    bench.send(text.replace("INVITE", "CANCEL"), ALICE)
    bench.response(ALICE, 200)
    answer(bench, out, 200, sdp("192.0.2.20"))
    ok = bench.response(ALICE, 200)
    assert ok.cseq_method == "INVITE"
    bench.send(text.replace("INVITE", "ACK").replace("h1", "k2"), ALICE)
    bench.request(BOB, "ACK")
    assert bench.calls


def test_bob_cancels_a_change_of_his():
    bench = Bench()
    out, _ = establish(bench)
    text = from_bob("INVITE", out, 1, "h1")
    bench.send(text + "\nContent-Type: application/sdp", BOB, sdp("192.0.2.20", 4444))
    bench.response(BOB, 100)
    mine = bench.request(ALICE, "INVITE")
    bench.send(reply(mine, 100), ALICE)
    bench.send(text.replace("INVITE", "CANCEL"), BOB)
    bench.response(BOB, 200)
    assert bench.request(ALICE, "CANCEL").branch == mine.branch
