"""The router: a method is a user and a row; every step names its call; asks and sendings in the promised order."""

from __future__ import annotations

from typing import Any

import pytest

from pbx_signaling.calls.commands import Record
from pbx_signaling.users import questions as q
from pbx_signaling.users.sip import Sip
from pbx_signaling.users.user import User, by_method
from pbx_sip.address import Flow
from pbx_sip.message.message import Request, response_to
from pbx_sip.transaction.events import ServerKey
from support.bench_core import ALICE, BOB, Bench, sdp
from support.ladder import answer, establish, invite, within

PUBLISH = """PUBLISH sip:1004@pbx.local SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK{branch}
Max-Forwards: 70
From: <sip:1004@pbx.local>;tag=p1
To: <sip:1004@pbx.local>
Call-ID: p-{branch}
CSeq: 1 PUBLISH{extra}"""


class Publications(User):
    """A toy: it answers every PUBLISH of a user that may prove itself."""

    methods = ("PUBLISH",)

    def __init__(self, sip: Sip) -> None:
        self._sip = sip

    def request(self, key: ServerKey, request: Request, flow: Flow) -> None:
        self._sip.respond(key, response_to(request, 200, "", self._sip.tag()))


def test_a_new_method_is_a_file_and_a_row():
    bench = Bench(authenticate=True, around={"others": (Publications,)})
    bench.send(PUBLISH.format(branch="1", extra=""), ALICE)
    assert bench.response(ALICE, 407), "it must prove its user, without a word about that"
    digest = f'Digest username="1004", realm="pbx.local", nonce="{bench.nonce()}", uri="sip:pbx.local", '
    digest += 'response="0", algorithm=SHA-256, cnonce="c", qop=auth, nc=00000001'
    bench.send(PUBLISH.format(branch="2", extra=f"\nProxy-Authorization: {digest}"), ALICE)
    assert bench.response(ALICE, 200)
    bench.send(PUBLISH.format(branch="3", extra="").replace("PUBLISH", "NOTIFY"), ALICE)
    assert "PUBLISH" in (bench.response(ALICE, 405).first("Allow") or "")
    bench.advance(40)
    bench.assert_clean()


def test_two_users_of_one_method_are_refused():
    one: Any = Publications(None)  # type: ignore[arg-type]  # never used
    with pytest.raises(ValueError, match="PUBLISH has two users"):
        by_method((one, Publications(None)))  # type: ignore[arg-type]


def test_every_step_of_a_call_names_it_also_what_is_sent_again_and_what_cancels():
    bench = Bench()
    invite(bench)
    (call_id,) = bench.calls
    bench.request(BOB, "INVITE")
    bench.advance(1.0)
    assert bench.take(BOB), "the INVITE again"
    bench.advance(200)
    steps = bench.harness.steps
    assert {step.call_id for step in steps} == {call_id}


def test_records_are_stamped_once_and_a_step_is_frozen():
    bench = Bench()
    establish(bench)
    emitted = [emit for step in bench.harness.steps for emit in step.records]
    assert [getattr(emit, "sequence", 0) for emit in emitted] == list(range(1, len(emitted) + 1))
    assert all(emit.at >= 1000.0 for emit in emitted)
    with pytest.raises(AttributeError):
        bench.harness.steps[0].call_id = "another"  # type: ignore[misc]


def test_what_a_relay_is_told_waits_for_the_records_of_its_step():
    bench = Bench()
    invite(bench)
    out = bench.request(BOB, "INVITE")
    bench.take(ALICE)
    outbox = bench.harness.outbox
    outbox.held = True
    bench.asked.clear()
    answer(bench, out, 200, sdp("192.0.2.20"))
    assert not [ask for ask in bench.asked if isinstance(ask.question, q.Update)], "ANSWERED is not stored yet"
    assert not bench.take(ALICE)
    outbox.held = False
    outbox.release()
    bench.advance(0)
    assert [ask for ask in bench.asked if isinstance(ask.question, q.Update)]
    ok = bench.response(ALICE, 200)
    bench.send(within("ACK", ok, 1, "k1"), ALICE)
    bench.send(within("BYE", ok, 2, "y1"), ALICE)
    bench.sent.clear()
    bench.assert_clean()


def test_what_a_call_learns_at_once_becomes_one_write():
    """Credentials, look-up and slot are answered in memory: the attempt and the dialling are stored together."""
    bench = Bench()
    invite(bench)
    written = [step for step in bench.harness.steps if step.records]
    assert [record.record for record in written[0].records] == [Record.INITIATED, Record.DIALING]  # type: ignore[union-attr]
    assert len(written) == 1
    assert written[0].snapshot
