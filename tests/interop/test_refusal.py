"""What the product refuses by itself, in SIP's own terms, and what it answers outside of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.wire import Message, audio_sdp, render, token

if TYPE_CHECKING:
    from support.pair import Pair
    from support.phone import Phone

pytestmark = pytest.mark.interop


def send(phone: Phone, method: str, to: str, *, tag: str = "") -> Message:
    """A bare request; the first answer that is no 100."""
    uri = phone.address_of(to)
    lines = [
        ("Via", f"SIP/2.0/UDP {phone.host}:{phone.port};branch=z9hG4bK{token()};rport"),
        ("From", f"<{phone.address_of(phone.user)}>;tag={token()}"),
        ("To", f"<{uri}>" + (f";tag={tag}" if tag else "")),
        ("Call-ID", f"{token()}@{phone.host}"),
        ("CSeq", f"1 {method}"),
        ("Contact", f"<{phone.contact}>"),
        ("Max-Forwards", "70"),
    ]
    phone.send(render(f"{method} {uri} SIP/2.0", lines))
    while (answer := phone.receive()).status == 100:
        pass
    return answer


def test_options_is_answered_as_keep_alive(pair: Pair) -> None:
    caller = pair.calling().outside("OPTIONS", to_domain=True).recv(200, Allow="INVITE.*BYE", Accept="application/sdp")
    pair.play(caller)


def test_too_many_hops(pair: Pair) -> None:
    pair.play(pair.calling().outside("INVITE", max_forwards=0).recv(483).reject_ack())


def test_an_extension_that_nobody_knows(pair: Pair) -> None:
    caller = pair.calling().outside("INVITE", headers="Require: nothing-like-it\n")
    pair.play(caller.recv(420, Unsupported="nothing-like-it").reject_ack())


@pytest.mark.parametrize(("method", "status"), [("PUBLISH", 405), ("SUBSCRIBE", 405), ("JUGGLE", 501)])
def test_methods_not_served(pair: Pair, method: str, status: int) -> None:
    pair.play(pair.calling().outside(method).recv(status, Allow="INVITE"))


@pytest.mark.parametrize("method", ["BYE", "INVITE", "UPDATE", "INFO", "PRACK", "CANCEL"])
def test_no_such_dialog_or_transaction(pair: Pair, method: str) -> None:
    with pair.product.phone(pair.caller) as phone:
        assert send(phone, method, pair.callee, tag="" if method == "CANCEL" else "no-such-tag").status == 481


def test_a_merged_request(pair: Pair) -> None:
    caller, callee = pair.phones()
    with caller, callee:
        dialog = caller.dial(pair.callee)
        invite = callee.expect("INVITE")
        # The same request by another way: same Call-ID, CSeq and From tag, another branch (RFC 3261 section 8.2.2.2).
        assert dialog.invite is not None
        credentials = tuple(("Proxy-Authorization", value) for value in dialog.invite.all("proxy-authorization"))
        first = dialog.invite_branch
        caller.invite(dialog, dialog.invite.body, headers=credentials)
        caller.ack(dialog, caller.expect(482))
        dialog.invite_branch = first
        caller.cancel(dialog)
        caller.expect(200, method="CANCEL")
        caller.ack(dialog, caller.expect(487))
        callee.reply(invite, 180, "Ringing", dialog=callee.answer(invite))
        callee.reply(callee.expect("CANCEL"), 200, "OK")
        callee.reply(invite, 487, "Request Terminated", dialog=callee.answer(invite))
        callee.expect("ACK")
    pair.released()


def test_a_body_that_is_no_session_description(pair: Pair) -> None:
    caller, callee = pair.phones()
    with caller, callee:
        dialog = caller.dial(pair.callee, "What am I?", headers=(("Content-Type", "text/x-riddle"),))
        refused = caller.expect(415)
        assert "application/sdp" in refused.get("accept")
        caller.ack(dialog, refused)
    pair.released()


@pytest.mark.parametrize(
    "body",
    [
        "this is not SDP\r\n",
        audio_sdp(4000).replace("m=audio 4000", "m=audio seventy"),
        audio_sdp(4000).replace("c=IN IP4 127.0.0.1\r\n", ""),
        audio_sdp(4000).replace("127.0.0.1", "999.1.1.1"),
    ],
)
def test_broken_session_descriptions(pair: Pair, body: str) -> None:
    caller, callee = pair.phones()
    with caller, callee:
        dialog = caller.dial(pair.callee, body)
        refused = caller.receive()
        while refused.status == 100:
            refused = caller.receive()
        assert refused.status in (400, 488), refused
        caller.ack(dialog, refused)
        callee.silent(0.3)
    pair.cdr(sip_status=refused.status)
    pair.released()
