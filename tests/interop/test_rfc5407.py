"""The races of RFC 5407, section by section, over each transport; PBX_TRANSPORTS names those."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from support.call import Call, establish
from support.phone import Dialog, Phone
from support.wire import Message, audio_sdp

if TYPE_CHECKING:
    from support.pair import Pair
    from support.product import Product

pytestmark = pytest.mark.interop

TRANSPORTS = os.environ.get("PBX_TRANSPORTS", "udp,tcp,tls,ws,udp6").split(",")
QUIET_S = 0.4


@dataclass
class Race:
    """A caller and a registered callee on one transport."""

    caller: Phone
    callee: Phone

    def ringing(self) -> tuple[Dialog, Dialog, Message]:
        """The caller hears ringing; the callee's INVITE."""
        dialog = self.caller.dial(self.callee.user)
        invite = self.callee.expect("INVITE")
        theirs = self.callee.answer(invite)
        self.callee.reply(invite, 180, "Ringing", dialog=theirs)
        dialog.learn(self.caller.expect(180))
        return dialog, theirs, invite

    def answered(self) -> tuple[Dialog, Dialog, Message]:
        """The caller has the 200 and has not confirmed it: the callee's moratorium."""
        dialog, theirs, invite = self.ringing()
        self.callee.reply(invite, 200, "OK", dialog=theirs, body=sdp(self.callee))
        ok = self.caller.expect(200)
        dialog.learn(ok)
        return dialog, theirs, ok

    def up(self) -> Call:
        """An established call."""
        return establish(self.caller, self.callee)

    def takes_bye(self, phone: Phone, *first: str) -> None:
        """A phone gets a BYE, after these requests, and answers it."""
        for method in first:
            phone.expect(method)
        phone.reply(phone.expect("BYE"), 200, "OK")


def sdp(phone: Phone, version: int = 1) -> str:
    return audio_sdp(phone.port % 60_000 + 2, host=phone.host, version=version)


@pytest.fixture(params=TRANSPORTS)
def race(request: pytest.FixtureRequest, product: Product, pair: Pair) -> Iterator[Race]:
    kind = request.param
    with product.phone_on(kind, pair.caller) as caller, product.phone_on(kind, pair.callee) as callee:
        assert callee.register().status == 200
        yield Race(caller, callee)
    pair.released()


def every(phone: Phone, count: int) -> list[Message]:
    """The next messages but for 100, in any order."""
    found: list[Message] = []
    while len(found) < count:
        message = phone.receive()
        if message.status != 100:
            found.append(message)
    return found


def test_3_1_1_the_invite_again_in_the_moratorium(race: Race) -> None:
    dialog, theirs, ok = race.answered()
    assert dialog.invite is not None
    race.caller.send(dialog.invite.raw)
    race.caller.ack(dialog, ok)
    race.callee.expect("ACK")
    race.callee.silent(QUIET_S)
    race.callee.request(theirs, "BYE")
    race.takes_bye(race.caller)
    race.callee.expect(200, method="BYE")


def test_3_1_2_cancel_crosses_the_200(race: Race, pair: Pair) -> None:
    dialog, _, invite = race.ringing()
    theirs = race.callee.answer(invite)
    race.callee.reply(invite, 200, "OK", dialog=theirs, body=sdp(race.callee))
    dialog.remote, target = f"<{race.caller.address_of(race.callee.user)}>", dialog.target
    dialog.target = race.caller.address_of(race.callee.user)
    race.caller.cancel(dialog)
    dialog.target = target
    messages = every(race.caller, 2)
    by_method = {message.method: message for message in messages}
    assert by_method["CANCEL"].status in (200, 481), messages
    final = by_method["INVITE"]
    race.caller.ack(dialog, final)
    if final.status == 200:
        race.callee.expect("ACK")
        race.caller.request(dialog, "BYE")
        race.takes_bye(race.callee)
        race.caller.expect(200, method="BYE")
    else:
        assert final.status == 487
        met = [message.method for message in every(race.callee, 2)]
        assert met in (["ACK", "BYE"], ["CANCEL", "ACK"]), met


def test_3_1_3_bye_in_the_early_state(race: Race) -> None:
    dialog, theirs, invite = race.ringing()
    race.caller.request(dialog, "BYE")
    cancel = race.callee.expect("CANCEL")
    race.callee.reply(cancel, 200, "OK")
    race.callee.reply(invite, 487, "Request Terminated", dialog=theirs)
    race.callee.expect("ACK")
    finals = {message.method: message for message in every(race.caller, 2)}
    assert finals["BYE"].status == 200
    assert finals["INVITE"].status == 487
    dialog.cseq -= 1
    race.caller.ack(dialog, finals["INVITE"])


def test_3_1_4_a_re_invite_in_the_moratorium(race: Race) -> None:
    dialog, _, ok = race.answered()
    first = dialog.cseq
    race.caller.request(dialog, "INVITE", body=sdp(race.caller, 2))
    refused = race.caller.expect(491)
    race.caller.ack(dialog, refused)
    dialog.cseq = first
    race.caller.ack(dialog, ok)
    race.callee.expect("ACK")
    dialog.cseq = first + 1
    race.caller.request(dialog, "BYE")
    race.takes_bye(race.callee)
    race.caller.expect(200, method="BYE")


def test_3_1_6_bye_in_the_moratorium(race: Race) -> None:
    dialog, _, _ = race.answered()
    race.caller.request(dialog, "BYE")
    race.takes_bye(race.callee, "ACK")
    race.caller.expect(200, method="BYE")


def test_3_1_6_bye_of_the_callee_crosses_the_ack(race: Race) -> None:
    dialog, theirs, ok = race.answered()
    race.callee.request(theirs, "BYE")
    race.caller.ack(dialog, ok)
    race.takes_bye(race.caller)
    assert {message.method for message in every(race.callee, 2)} == {"ACK", "BYE"}


def test_3_2_1_byes_cross(race: Race) -> None:
    call = race.up()
    race.caller.request(call.caller_dialog, "BYE")
    race.callee.request(call.callee_dialog, "BYE")
    # Whichever came first is passed on; the other finds a dialog that ends (200) or has ended (481).
    for phone in (race.callee, race.caller):
        while not (message := every(phone, 1)[0]).status:
            phone.reply(message, 200, "OK")
        assert message.status in (200, 481)
    for phone in (race.callee, race.caller):
        with contextlib.suppress(TimeoutError):
            phone.reply(phone.receive(QUIET_S), 200, "OK")


def test_3_2_2_a_re_invite_meets_a_bye(race: Race) -> None:
    call = race.up()
    race.callee.request(call.callee_dialog, "BYE")
    race.caller.request(call.caller_dialog, "INVITE", body=sdp(race.caller, 2))
    met = every(race.caller, 2)
    finals = [message.status for message in met if message.status]
    assert finals[0] in (481, 487), met
    race.caller.ack(call.caller_dialog, next(message for message in met if message.status))
    race.caller.reply(next(message for message in met if not message.status), 200, "OK")
    for message in every(race.callee, 1):
        if message.method == "INVITE":
            race.callee.reply(message, 481, "Call/Transaction Does Not Exist")
            race.callee.expect(200, method="BYE")
        else:
            assert message.status == 200


def test_3_2_3_the_200_of_a_re_invite_comes_after_a_bye(race: Race) -> None:
    call = race.up()
    race.caller.request(call.caller_dialog, "INVITE", body=sdp(race.caller, 2))
    again = race.callee.expect("INVITE")
    invite_cseq = call.caller_dialog.cseq
    race.caller.request(call.caller_dialog, "BYE")
    race.callee.reply(race.callee.expect("BYE"), 200, "OK")
    race.callee.reply(again, 200, "OK", dialog=call.callee_dialog, body=sdp(race.callee, 2))
    race.callee.expect("ACK")
    statuses = {message.method: message.status for message in every(race.caller, 2)}
    assert statuses["BYE"] == 200
    assert statuses["INVITE"] in (200, 487)
    call.caller_dialog.cseq = invite_cseq


def test_3_3_1_re_invites_cross(race: Race) -> None:
    call = race.up()
    race.caller.request(call.caller_dialog, "INVITE", body=sdp(race.caller, 2))
    relayed = race.callee.expect("INVITE")
    race.callee.request(call.callee_dialog, "INVITE", body=sdp(race.callee, 2))
    refused = race.callee.expect(491)
    race.callee.ack(call.callee_dialog, refused)
    race.callee.reply(relayed, 491, "Request Pending", dialog=call.callee_dialog)
    race.callee.expect("ACK")
    race.caller.ack(call.caller_dialog, race.caller.expect(491))
    race.callee.request(call.callee_dialog, "INVITE", body=sdp(race.callee, 3))
    again = race.caller.expect("INVITE")
    race.caller.reply(again, 200, "OK", dialog=call.caller_dialog, body=sdp(race.caller, 3))
    race.callee.ack(call.callee_dialog, race.callee.expect(200))
    race.caller.expect("ACK")
    call.hang_up()


def test_3_3_2_update_and_re_invite_cross(race: Race) -> None:
    call = race.up()
    race.caller.request(call.caller_dialog, "UPDATE", body=sdp(race.caller, 2))
    update = race.callee.expect("UPDATE")
    race.callee.request(call.callee_dialog, "INVITE", body=sdp(race.callee, 2))
    race.callee.ack(call.callee_dialog, race.callee.expect(491))
    race.callee.reply(update, 491, "Request Pending", dialog=call.callee_dialog)
    race.caller.expect(491)
    call.hang_up()


def test_3_3_3_a_request_meets_a_dialog_that_is_gone(race: Race) -> None:
    call = race.up()
    call.hang_up()
    time.sleep(QUIET_S)  # real time: the call's legs are forgotten
    race.caller.request(call.caller_dialog, "INFO")
    race.caller.expect(481)


def test_a_call_of_their_own_afterwards(race: Race) -> None:
    race.up().hang_up(by_callee=True)
