"""Caller identity at the running product: told between trusted peers (here 127.0.7.0/24) alone, hidden on request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.phone import Phone
from support.product import DOMAIN

if TYPE_CHECKING:
    from support.pair import Pair
    from support.wire import Message

pytestmark = pytest.mark.interop

TRUSTED, OTHER = "127.0.7.1", "127.0.0.1"
BOSS = '"Boss" <sip:+4930123@gw.example>'
CLAIMS = (("P-Asserted-Identity", BOSS), ("P-Preferred-Identity", "<sip:chosen@pbx.local>"))
ANONYMOUS = '"Anonymous" <sip:anonymous@anonymous.invalid>'


def phone_at(pair: Pair, user: str, host: str) -> Phone:
    return Phone(pair.product.sip, pair.product.credentials(user), domain=DOMAIN, host=host)


def called(pair: Pair, hosts: tuple[str, str], headers: tuple[tuple[str, str], ...], sender: str = "") -> Message:
    """The INVITE that the callee gets; it refuses the call. `sender` is written into From."""
    with phone_at(pair, pair.caller, hosts[0]) as caller, phone_at(pair, pair.callee, hosts[1]) as callee:
        assert callee.register().status == 200
        if sender:
            caller.name_addr = sender
        dialog = caller.dial(pair.callee, headers=headers)
        invite = callee.expect("INVITE")
        callee.reply(invite, 486, "Busy Here", dialog=callee.answer(invite))
        callee.expect("ACK")
        caller.ack(dialog, caller.expect(486))
    pair.cdr(outcome="busy", caller=pair.caller)
    pair.released()
    return invite


def told(invite: Message) -> tuple[str, list[str], str]:
    assert not invite.get("P-Preferred-Identity")
    return invite.get("From").partition(";tag=")[0], invite.all("P-Asserted-Identity"), invite.get("Privacy")


@pytest.mark.parametrize("calling", [OTHER, TRUSTED])
@pytest.mark.parametrize("answering", [OTHER, TRUSTED])
def test_an_identity_is_believed_and_told_between_trusted_peers_alone(pair: Pair, calling: str, answering: str) -> None:
    own = f"<sip:{pair.caller}@{DOMAIN}>"
    sender, asserted, privacy = told(called(pair, (calling, answering), CLAIMS))
    assert sender == ('"Boss" <sip:+4930123@pbx.local>' if calling == TRUSTED else own)
    assert asserted == ([BOSS if calling == TRUSTED else own] if answering == TRUSTED else [])
    assert not privacy


@pytest.mark.parametrize("answering", [OTHER, TRUSTED])
def test_privacy_hides_the_caller(pair: Pair, answering: str) -> None:
    invite = called(pair, (OTHER, answering), (("Privacy", "id"),))
    own = f"<sip:{pair.caller}@{DOMAIN}>"
    assert told(invite) == (ANONYMOUS, [own], "id") if answering == TRUSTED else (ANONYMOUS, [], "")
    if answering == OTHER:
        assert pair.caller not in invite.get("From") + invite.get("Contact")


def test_an_anonymous_caller_is_known_by_its_credentials(pair: Pair) -> None:
    assert told(called(pair, (OTHER, OTHER), (), ANONYMOUS)) == (ANONYMOUS, [], "")


def test_privacy_that_cannot_be_given_is_refused_where_it_is_critical(pair: Pair) -> None:
    with pair.product.phone(pair.caller) as phone:
        dialog = phone.dial_unchallenged(pair.callee, headers=(("Privacy", "teleport;critical"),))
        phone.ack(dialog, phone.expect(500))
    pair.released()
