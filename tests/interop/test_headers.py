"""What of a phone's header fields the other one sees, at the running product: policy per header, Reason both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.call import establish
from support.sipp_script import Callee
from support.wire import audio_sdp

if TYPE_CHECKING:
    from support.pair import Pair
    from support.wire import Message

pytestmark = pytest.mark.interop

HIDDEN = (
    ("Organization", "Secret Ltd at 10.9.8.7"),
    ("Call-Info", "<http://10.9.8.7/me.png>;purpose=icon"),
    ("X-Gateway", "10.9.8.7"),
    ("Diversion", "<sip:1@10.9.8.7>;reason=unconditional"),
    ("P-Asserted-Identity", '"The Boss" <sip:boss@pbx.local>'),
    ("P-Preferred-Identity", '"The Boss" <sip:boss@pbx.local>'),
)
SHOWN = (("Subject", "Lunch?"), ("Priority", "urgent"), ("X-Test-Case", "17"))
REWRITTEN = ("Reply-To", "<sip:desk@10.9.8.7:5070>")


def assert_crossed(message: Message) -> None:
    """What shall cross did, and nothing else."""
    assert {name: message.get(name) for name, _ in SHOWN} == dict(SHOWN)
    assert message.get("Reply-To") == "<sip:desk@pbx.local>"
    assert not [name for name, _ in HIDDEN if message.get(name)]
    assert "10.9.8.7" not in str(message)
    assert "Boss" not in str(message)


def test_header_fields_cross_by_policy(pair: Pair) -> None:
    sent = (*HIDDEN, *SHOWN, REWRITTEN)
    caller, callee = pair.phones()
    with caller, callee:
        dialog = caller.dial(pair.callee, headers=sent)
        invite = callee.expect("INVITE")
        assert_crossed(invite)
        theirs = callee.answer(invite)
        callee.reply(invite, 180, "Ringing", dialog=theirs, headers=sent)
        assert_crossed(caller.expect(180))
        callee.reply(invite, 200, "OK", dialog=theirs, body=audio_sdp(callee.port + 2), headers=sent)
        answer = caller.expect(200)
        assert_crossed(answer)
        caller.ack(dialog, answer)
        callee.expect("ACK")
        callee.request(theirs, "INFO", headers=sent)
        info = caller.expect("INFO")
        assert_crossed(info)
        caller.reply(info, 200, "OK", headers=sent)
        assert_crossed(callee.expect(200, method="INFO"))
        caller.request(dialog, "BYE")
        callee.reply(callee.expect("BYE"), 200, "OK")
        caller.expect(200, method="BYE")
    pair.released()


@pytest.mark.parametrize("by_callee", [False, True])
def test_reason_crosses_with_bye(pair: Pair, by_callee: bool) -> None:
    reasons = ("Q.850;cause=31", 'SIP;cause=580;text="Precondition Failure"')
    caller, callee = pair.phones()
    with caller, callee:
        call = establish(caller, callee)
        ending, other = (callee, caller) if by_callee else (caller, callee)
        dialog = call.callee_dialog if by_callee else call.caller_dialog
        ending.request(dialog, "BYE", headers=tuple(("Reason", value) for value in reasons))
        bye = other.expect("BYE")
        assert bye.all("Reason") == list(reasons)
        other.reply(bye, 200, "OK")
        ending.expect(200, method="BYE")
    pair.cdr(outcome="answered", q850_cause=31)
    pair.released()


def test_reason_crosses_with_cancel_and_with_a_refusal(pair: Pair) -> None:
    elsewhere = 'SIP;cause=200;text="Call completed elsewhere"'
    caller = pair.calling().invite().recv(180).cancel(headers=f"Reason: {elsewhere}\n")
    callee = Callee().ring().take("CANCEL", Reason="SIP;cause=200;text=.Call completed elsewhere").reply(200)
    callee.reply_invite(487, headers='Reason: Q.850;cause=17;text="User busy"\n').take("ACK")
    pair.play(caller.recv(200, CSeq="CANCEL").recv(487).reject_ack(), callee)
    busy = Callee().ring().reply(486, headers='Reason: Q.850;cause=17;text="User busy"\n').take("ACK")
    pair.play(pair.calling().invite().recv(180).recv(486, Reason='Q.850;cause=17;text="User busy"').reject_ack(), busy)
    pair.released()
