"""Call-ID and both tags are what a dialog is: whoever lacks one of them changes nothing, on either leg."""

from __future__ import annotations

import pytest

from pbx_sip.address import HostPort
from pbx_sip.message.message import Request, Response
from support.bench_core import ALICE, BOB, Bench, sdp
from support.ladder import CANCEL, answer, establish, from_bob, invite, reply, within

STRANGER = HostPort("198.51.100.66", 5099)
NATTED = "10.9.9.9"
METHODS = ("BYE", "OPTIONS", "INFO", "MESSAGE", "UPDATE", "INVITE", "PRACK", "REFER")
WRONG = {
    "from-tag": (";tag=a1", ";tag=zz"),
    "no from-tag": (";tag=a1", ""),
    "to-tag": ("tag=s1.", "tag=s1.x"),
    "call-id": ("call-1@alice", "call-2@alice"),
}
WRONG_OF_BOB = {"from-tag": (";tag=b1", ";tag=zz"), "no from-tag": (";tag=b1", ""), "call-id": ("s1.", "s1.x")}


def of_bob(text: str, wrong: str) -> str:
    """A request of Bob's with one part of the identity wrong."""
    old, new = WRONG_OF_BOB[wrong]
    if wrong != "call-id":
        return text.replace(old, new)
    return "\n".join(line.replace(old, new) if line.startswith("Call-ID") else line for line in text.splitlines())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("source", [ALICE, STRANGER])
def test_a_request_of_another_dialog_is_481_and_changes_nothing(method: str, wrong: str, source: HostPort) -> None:
    bench = Bench()
    out, ok = establish(bench, contact=NATTED)  # a NAT: the dialog follows its flow
    before = bench.core.layer.active
    bench.send(within(method, ok, 2**31 - 1, "w1").replace(*WRONG[wrong]), source)
    assert bench.response(source, 481)
    assert bench.core.layer.active == before, "no state"
    assert not bench.take(BOB)
    bench.send(within("INFO", ok, 2, "i2"), ALICE)  # its CSeq went nowhere
    bench.send(reply(bench.request(BOB, "INFO"), 200), BOB)
    bench.response(ALICE, 200)
    bench.send(from_bob("BYE", out, 9, "y"), BOB)
    bench.response(BOB, 200)
    assert bench.request(ALICE, "BYE")
    assert not bench.take(STRANGER)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrong", WRONG_OF_BOB)
def test_nor_does_one_on_the_callees_leg(method: str, wrong: str) -> None:
    bench = Bench()
    out, ok = establish(bench)
    before = bench.core.layer.active
    bench.send(of_bob(from_bob(method, out, 2**31 - 1, "w1"), wrong), STRANGER)
    assert bench.response(STRANGER, 481)
    assert bench.core.layer.active == before
    assert not bench.take(ALICE)
    bench.send(from_bob("INFO", out, 1, "i1"), BOB)
    bench.send(reply(bench.request(ALICE, "INFO"), 200), ALICE)
    bench.response(BOB, 200)
    bench.send(within("BYE", ok, 9, "y"), ALICE)
    bench.response(ALICE, 200)
    assert bench.request(BOB, "BYE")


@pytest.mark.parametrize("method", ["OPTIONS", "INFO", "UPDATE"])
def test_a_number_that_is_not_above_the_last_moves_no_flow(method: str) -> None:
    bench = Bench()
    out, ok = establish(bench, contact=NATTED)
    bench.send(within(method, ok, 1, "o1") + "\nContact: <sip:1004@198.51.100.66:5099>", STRANGER)
    assert bench.response(STRANGER, 500)
    bench.send(from_bob("BYE", out, 9, "y"), BOB)
    bench.response(BOB, 200)
    assert bench.request(ALICE, "BYE")


@pytest.mark.parametrize("wrong", WRONG)
def test_an_ack_of_another_dialog_confirms_nothing(wrong: str) -> None:
    bench = Bench()
    invite(bench)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 200, sdp(BOB.host))
    ok = next(message for message in bench.take(ALICE) if isinstance(message, Response) and message.status == 200)
    bench.send(within("ACK", ok, 1, "w1").replace(*WRONG[wrong]), ALICE)
    bench.advance(1.0)
    assert bench.take(ALICE), "the 200 is still repeated"
    bench.send(within("ACK", ok, 1, "w2"), ALICE)
    bench.advance(10.0)
    assert not bench.take(ALICE)


@pytest.mark.parametrize(
    ("old", "new", "source"),
    [
        ("call-1@alice", "call-9@alice", ALICE),
        (";tag=a1", ";tag=zz", ALICE),
        ("CSeq: 1 ", "CSeq: 2 ", ALICE),
        ("branch=z9hG4bKi1", "branch=z9hG4bKi2", ALICE),
        ("x", "x", STRANGER),
    ],
)
def test_a_cancel_that_is_not_of_the_invite_ends_nothing(old: str, new: str, source: HostPort) -> None:
    bench = Bench()
    invite(bench)
    bench.take(ALICE)
    out = bench.request(BOB, "INVITE")
    answer(bench, out, 180)
    bench.take(ALICE)
    before = bench.core.layer.active
    bench.send(CANCEL.replace(old, new), source)
    assert bench.response(source, 481)
    assert bench.core.layer.active == before
    assert not bench.take(BOB)
    bench.send(CANCEL, HostPort(ALICE.host, 5061))  # another port of its NAT
    assert sorted(message.status for message in bench.take(ALICE) if isinstance(message, Response)) == [487]
    assert bench.request(BOB, "CANCEL")


@pytest.mark.parametrize(
    ("old", "new"), [("s1.", "s1.x"), ("CSeq: 1 ", "CSeq: 7 "), (";tag=b9", "")], ids=["call-id", "number", "no tag"]
)
def test_a_stray_200_that_is_not_of_our_invite_is_dropped(old: str, new: str) -> None:
    bench = Bench()
    out, _ = establish(bench)
    bench.advance(40)  # the transaction is gone
    bench.sent.clear()
    text = reply(out, 200, sdp(BOB.host), tag="b9")
    wrong = "\n".join(
        line if old == "s1." and not line.startswith("Call-ID") else line.replace(old, new) for line in text.split("\n")
    )
    bench.send(wrong, BOB, sdp(BOB.host))
    assert not bench.sent
    bench.send(text, BOB, sdp(BOB.host))
    sent = [message.method for message, remote in bench.sent if isinstance(message, Request) and remote == BOB]
    assert sent == ["ACK", "BYE"]
