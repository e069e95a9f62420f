"""Text of phones that is no UTF-8 (Latin-1 names, noise): calls go on, and CDRs, lists and snapshots bear it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.call import establish
from support.phone import Dialog, Phone
from support.waiting import until
from support.wire import audio_sdp, token

if TYPE_CHECKING:
    from support.pair import Pair

pytestmark = pytest.mark.interop
MARK, LATIN = "XlatinX", b"l\xe9ger\x8d"


class Foreign(Phone):
    """Writes octets that are no UTF-8 wherever MARK stands, and reads them so."""

    def send(self, data: bytes) -> None:
        super().send(data.replace(MARK.encode(), LATIN))

    def _next(self, timeout_s: float) -> bytes:
        return super()._next(timeout_s).replace(LATIN, MARK.encode())


def foreign(pair: Pair, user: str) -> Foreign:
    return Foreign(pair.product.sip, pair.product.credentials(user), domain="pbx.local")


def invite_of(caller: Phone, callee: str) -> Dialog:
    """A challenged and authenticated INVITE of a dialog that is named by such octets."""
    uri = caller.address_of(callee)
    dialog = Dialog(
        f"{MARK}{token()}@{caller.host}", f"{MARK} <{caller.address_of(caller.user)}>;tag={MARK}", f"<{uri}>", uri
    )
    caller.invite(dialog, audio_sdp(caller.port + 2), headers=HEADERS)
    caller.answer_challenge(dialog, caller.expect(407), headers=HEADERS)
    return dialog


HEADERS = (("User-Agent", f"phone {MARK}"), ("Subject", MARK), ("X-Test-Name", MARK), ("Warning", f'399 x "{MARK}"'))


def test_a_call_with_octets_that_are_no_utf_8(pair: Pair) -> None:
    with foreign(pair, pair.caller) as caller, foreign(pair, pair.callee) as callee:
        assert callee.register().status == 200
        dialog = caller.dial(pair.callee, headers=HEADERS)
        invite = callee.expect("INVITE")
        theirs = callee.answer(invite)
        callee.reply(invite, 180, f"Ringing {MARK}", dialog=theirs, headers=HEADERS)
        caller.expect(180)
        (live,) = pair.product.get("/v1/calls", user=pair.caller)["items"]
        assert live["state"] == "ringing"
        callee.reply(invite, 486, f"Busy {MARK}", dialog=theirs, headers=HEADERS)
        callee.expect("ACK")
        caller.ack(dialog, caller.expect(486))
    cdr = pair.cdr(outcome="busy", sip_status=486)
    assert "l\ufffdger" in cdr["sip_reason"]
    assert {leg["user_agent"] for leg in cdr["legs"]} == {"phone l\ufffdger\ufffd"}
    pair.released()
    assert "Traceback" not in pair.product.log()


def test_a_dialog_named_by_octets_that_are_no_utf_8(pair: Pair) -> None:
    with foreign(pair, pair.caller) as caller, foreign(pair, pair.callee) as callee:
        assert callee.register(call_id=f"{MARK}{token()}").status == 200
        dialog = invite_of(caller, pair.callee)
        invite = callee.expect("INVITE")
        theirs = callee.answer(invite)
        theirs.local = theirs.local.rpartition("=")[0] + f"={MARK}"
        callee.reply(invite, 200, "OK", dialog=theirs, headers=HEADERS, body=audio_sdp(callee.port + 2))
        caller.ack(dialog, caller.expect(200))
        callee.expect("ACK")
        (live,) = pair.product.get("/v1/calls", user=pair.caller)["items"]
        assert live["state"] == "answered"
        callee.request(theirs, "BYE")
        caller.reply(caller.expect("BYE"), 200, "OK")
        callee.expect(200, method="BYE")
    cdr = pair.cdr(outcome="answered")
    assert {leg["sip_call_id"].startswith("l\ufffdger\ufffd") for leg in cdr["legs"]} == {True, False}
    pair.released()
    assert "Traceback" not in pair.product.log()


@pytest.mark.parametrize("where", ["call_id", "tag", "user", "display"])
def test_an_invite_named_by_such_octets_is_answered_and_recorded(pair: Pair, where: str) -> None:
    known = {call["id"] for call in pair.product.get("/v1/cdrs", limit=1000)["items"]}
    with foreign(pair, pair.caller) as caller, foreign(pair, pair.callee) as callee:
        assert callee.register().status == 200
        to = f"sip:{MARK if where == 'user' else pair.callee}@pbx.local"
        name = MARK if where == "display" else ""
        lines = [
            f"INVITE {to} SIP/2.0",
            f"Via: SIP/2.0/UDP {caller.sent_by};branch=z9hG4bK{where}{pair.caller};rport",
            "Max-Forwards: 70",
            f"From: {name} <sip:{pair.caller}@pbx.local>;tag={MARK if where == 'tag' else 'one'}",
            f"To: <{to}>",
            f"Call-ID: {MARK if where == 'call_id' else where}@{pair.caller}",
            "CSeq: 1 INVITE",
            f"Contact: <{caller.contact}>",
            f'Proxy-Authorization: Digest username="{pair.caller}", realm="pbx.local", nonce="{MARK}", uri="{to}", '
            'response="0", algorithm=MD5',
            "Content-Length: 0",
        ]
        caller.send("\r\n".join([*lines, "", ""]).encode())
        answer = caller.receive()
        while answer.status == 100:
            answer = caller.receive()
        assert 400 <= answer.status < 500, answer
        caller.silent(0.1)
        with pair.product.phone(pair.caller) as sound:
            establish(sound, callee).hang_up()
    until(
        lambda: {call["id"] for call in pair.product.get("/v1/cdrs", limit=1000)["items"]} - known,
        timeout_s=5,
        what="the sound call's CDR",
    )
    pair.released()
    assert "Traceback" not in pair.product.log()
