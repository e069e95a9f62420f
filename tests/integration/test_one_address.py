"""Several signaling processes at one address: a call is right whichever of them the kernel gives a message."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from support import procfs, replicas
from support.call import callee_holds
from support.phone import Dialog, Phone
from support.product import DOMAIN, Product, Settings, accounts
from support.replicas import Wanderer, phone_at, total, wanderer
from support.waiting import until
from support.wire import Message, audio_sdp

USERS = 24
"""Nobody is called under two addresses: another process hears within a second that a phone has moved."""
ACCOUNT_CALLS = 3
TRUNK = "127.0.7.1"
UNSTEERED = {"PBX_SIP_STEERING": "0", "PBX_ACCOUNT_CALLS": str(ACCOUNT_CALLS)}
"""The kernel looks at the source alone, as where it may not run the program."""


@pytest.fixture(scope="module", params=[2, 4])
def unsteered(request: pytest.FixtureRequest) -> Iterator[Product]:
    settings = Settings(accounts(USERS), replicas=request.param, environment=UNSTEERED)
    with Product(settings) as running:
        replicas.know_each_other(running)
        yield running


@pytest.fixture(scope="module")
def steered() -> Iterator[Product]:
    with Product(Settings(accounts(USERS), replicas=2, environment={"PBX_SIP_TRUSTED": TRUNK})) as running:
        replicas.know_each_other(running)
        yield running


def last_of(product: Product) -> int:
    return product.settings.replicas - 1


def ring(caller: Phone, callee: Phone) -> tuple[Dialog, Message, Dialog]:
    """A call that rings: the caller's dialog, the callee's INVITE and dialog."""
    dialog = caller.dial(callee.user)
    invite = callee.expect("INVITE")
    theirs = callee.answer(invite)
    callee.reply(invite, 180, "Ringing", dialog=theirs)
    assert caller.expect(180)
    return dialog, invite, theirs


def answer(caller: Phone, callee: Phone) -> tuple[Dialog, Dialog]:
    """A call that was answered."""
    dialog, invite, theirs = ring(caller, callee)
    callee.reply(invite, 200, "OK", dialog=theirs, body=audio_sdp(41_000))
    caller.ack(dialog, caller.expect(200))
    callee.expect("ACK")
    return dialog, theirs


def was_cancelled(caller: Phone, dialog: Dialog) -> None:
    """Both answers come, in any order: a phone that hears at two ports may read the second one first."""
    answers = [caller.receive() for _ in range(2)]
    assert {(answer.status, answer.method) for answer in answers} == {(200, "CANCEL"), (487, "INVITE")}
    caller.ack(dialog, next(answer for answer in answers if answer.status == 487))


def wander(*phones: Phone) -> None:
    """From now on they send from their other port, whose process is another one."""
    for phone in phones:
        assert isinstance(phone, Wanderer)
        phone.strays = True


def misdirected(product: Product) -> float:
    return total(product, "pbx_signaling_misdirected_total")


def test_a_whole_call_whose_every_message_comes_to_the_wrong_process(unsteered: Product) -> None:
    last, before = last_of(unsteered), misdirected(unsteered)
    with wanderer(unsteered, "2000", 0, last) as caller, wanderer(unsteered, "2001", last, 0) as callee:
        assert callee.register().status == 200
        dialog, invite, theirs = ring(caller, callee)
        wander(caller)
        callee.reply(invite, 200, "OK", dialog=theirs, body=audio_sdp(41_000))
        caller.ack(dialog, caller.expect(200))
        callee.expect("ACK")
        callee_holds(caller, dialog, callee, theirs)
        caller.request(dialog, "INFO", body="x", headers=(("Content-Type", "text/plain"),))
        info = callee.expect("INFO")
        callee.reply(info, 200, "OK")
        assert caller.expect(200)
        caller.request(dialog, "BYE")
        callee.reply(callee.expect("BYE"), 200, "OK")
        assert caller.expect(200)
    assert unsteered.cdr(caller="2000")["outcome"] == "answered"
    assert misdirected(unsteered) - before >= 8
    unsteered.assert_all_released()


def test_a_cancel_that_comes_to_another_process_finds_its_invite(unsteered: Product) -> None:
    last = last_of(unsteered)
    for index in range(last + 1):
        following = (index + 1) % (last + 1)
        with (
            wanderer(unsteered, "2002", index, following) as caller,
            phone_at(unsteered, f"{2018 + index}", last) as callee,
        ):
            assert callee.register().status == 200
            dialog, invite, theirs = ring(caller, callee)
            wander(caller)
            caller.cancel(dialog)
            cancel = callee.expect("CANCEL")
            callee.reply(cancel, 200, "OK")
            callee.reply(invite, 487, "Request Terminated", dialog=theirs)
            callee.expect("ACK")
            was_cancelled(caller, dialog)
            caller.silent(0.8)  # the ACK found the transaction: 487 is not repeated, after 0.5 s it would be
    outcomes = [cdr["outcome"] for cdr in unsteered.cdrs_of(last + 1, caller="2002")]
    assert outcomes == ["cancelled"] * (last + 1)
    unsteered.assert_all_released()


def test_an_invite_that_is_repeated_to_another_process_makes_no_second_call(unsteered: Product) -> None:
    last = last_of(unsteered)
    with wanderer(unsteered, "2004", 0, last) as caller, phone_at(unsteered, "2005", last) as callee:
        assert callee.register().status == 200
        dialog, invite, theirs = ring(caller, callee)
        assert dialog.invite is not None
        caller.stray(dialog.invite.raw)
        callee.silent(0.5)
        assert len(unsteered.calls()) == 1
        callee.reply(invite, 486, "Busy Here", dialog=theirs)
        callee.expect("ACK")
        caller.ack(dialog, caller.expect(486))
    assert len(unsteered.cdrs_of(1, caller="2004")) == 1
    unsteered.assert_all_released()


def test_the_calls_of_an_account_are_counted_over_all_processes(unsteered: Product) -> None:
    last = last_of(unsteered)
    with (
        phone_at(unsteered, "2013", 0) as one,
        phone_at(unsteered, "2013", last) as other,
        phone_at(unsteered, "2014", 0) as callee,
    ):
        assert callee.register().status == 200
        made = [(caller, *answer(caller, callee)) for caller in (one, other, one)]
        assert len(made) == ACCOUNT_CALLS
        for caller in (one, other):
            dialog = caller.dial("2014")
            refused = caller.expect(486)
            assert "account has 3 calls" in refused.get("warning")
            caller.ack(dialog, refused)
        for caller, _, theirs in made:
            callee.request(theirs, "BYE")
            caller.reply(caller.expect("BYE"), 200, "OK")
            assert callee.expect(200)
        _, theirs = answer(other, callee)
        callee.request(theirs, "BYE")
        other.reply(other.expect("BYE"), 200, "OK")
        assert callee.expect(200)
    unsteered.assert_all_released()


def test_a_cancel_of_nothing_is_answered_once(unsteered: Product) -> None:
    with phone_at(unsteered, "2004", 0) as phone:
        dialog = Dialog("none@x", "<sip:2004@x>;tag=1", "<sip:2005@x>", "sip:2005@x", invite_branch="z9hG4bKnone")
        phone.cancel(dialog)
        assert phone.expect(481)
        phone.silent(0.3)


def test_every_request_of_a_callee_finds_its_call(unsteered: Product) -> None:
    last = last_of(unsteered)
    with phone_at(unsteered, "2004", last) as caller, wanderer(unsteered, "2015", 0, last) as callee:
        assert callee.register().status == 200
        _, theirs = answer(caller, callee)
        for strays in (False, True):
            callee.strays = strays
            callee.request(theirs, "UPDATE")
            assert callee.expect(200)
        callee.request(theirs, "BYE")
        caller.reply(caller.expect("BYE"), 200, "OK")
        assert callee.expect(200)
    unsteered.assert_all_released()


def test_phones_over_connections_to_different_processes(unsteered: Product) -> None:
    last = last_of(unsteered)
    with phone_at(unsteered, "2006", 0, "tcp") as caller, phone_at(unsteered, "2007", last, "tcp") as callee:
        assert callee.register().status == 200
        dialog, invite, theirs = ring(caller, callee)
        caller.cancel(dialog)
        cancel = callee.expect("CANCEL")
        callee.reply(cancel, 200, "OK")
        callee.reply(invite, 487, "Request Terminated", dialog=theirs)
        callee.expect("ACK")
        was_cancelled(caller, dialog)
        dialog, theirs = answer(caller, callee)
        callee.request(theirs, "BYE")
        caller.reply(caller.expect("BYE"), 200, "OK")
        assert callee.expect(200)
        dialog, _, _ = ring(caller, callee)
        callee.close()
        caller.ack(dialog, caller.expect(480))
    unsteered.assert_all_released()


def test_a_cancel_over_another_connection_finds_its_invite(unsteered: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    last = last_of(unsteered)
    with (
        phone_at(unsteered, "2008", 0, "tcp") as caller,
        phone_at(unsteered, "2008", last, "tcp") as again,
        phone_at(unsteered, "2009", last) as callee,
    ):
        assert callee.register().status == 200
        dialog, invite, theirs = ring(caller, callee)
        monkeypatch.setattr(caller, "send", again.send)
        caller.cancel(dialog)
        monkeypatch.undo()
        cancel = callee.expect("CANCEL")
        callee.reply(cancel, 200, "OK")
        callee.reply(invite, 487, "Request Terminated", dialog=theirs)
        callee.expect("ACK")
        assert again.expect(200, method="CANCEL")
        caller.ack(dialog, caller.expect(487))
    unsteered.assert_all_released()


def test_calls_of_all_processes_are_listed_and_any_can_be_ended(unsteered: Product) -> None:
    last = last_of(unsteered)
    with (
        phone_at(unsteered, "2010", 0) as one,
        phone_at(unsteered, "2011", last) as other,
        phone_at(unsteered, "2012", last) as callee,
    ):
        assert callee.register().status == 200
        for caller in (one, other):
            answer(caller, callee)
        found = until(lambda: len(calls := unsteered.calls()) == 2 and calls, timeout_s=10, what="two live calls")
        assert len({call["instance"] for call in found}) == 2
        for call in found:
            unsteered.hang_up(call["call_id"])
        for _ in range(2):
            callee.reply(callee.expect("BYE"), 200, "OK")
        for caller in (one, other):
            caller.reply(caller.expect("BYE"), 200, "OK")
    unsteered.assert_all_released()


def test_the_kernel_gives_each_message_to_the_process_that_it_belongs_to(steered: Product) -> None:
    before = misdirected(steered)
    with phone_at(steered, "2000", 0) as caller, phone_at(steered, "2001", 1) as callee:
        assert callee.register().status == 200
        for _ in range(3):
            _, theirs = answer(caller, callee)
            callee.request(theirs, "BYE")
            caller.reply(caller.expect("BYE"), 200, "OK")
            assert callee.expect(200)
    assert misdirected(steered) == before
    steered.assert_all_released()


def test_calls_that_all_come_from_one_port_of_a_trunk_are_shared_out(steered: Product) -> None:
    server, account = steered.sip, steered.credentials("2008")
    with Phone(server, account, domain=DOMAIN, host=TRUNK) as trunk, phone_at(steered, "2009", 0) as callee:
        assert callee.register().status == 200
        for _ in range(12):
            dialog, invite, theirs = ring(trunk, callee)
            callee.reply(invite, 486, "Busy Here", dialog=theirs)
            callee.expect("ACK")
            trunk.ack(dialog, trunk.expect(486))
    assert len({cdr["instance"] for cdr in steered.cdrs_of(12, callee="2009")}) == 2
    steered.assert_all_released()


def test_a_process_that_is_killed_takes_its_own_calls_alone(steered: Product) -> None:
    with (
        phone_at(steered, "2002", 0) as kept,
        phone_at(steered, "2003", 1) as lost,
        phone_at(steered, "2004", 0) as callee,
        phone_at(steered, "2005", 1) as newcomer,
    ):
        assert callee.register().status == 200
        _, theirs = answer(kept, callee)
        answer(lost, callee)
        os.kill(replicas.pid_of(steered, "signaling-2"), signal.SIGKILL)
        # What comes for the process that is away waits for it, and is answered when it is back.
        attempt = newcomer.dial_unchallenged("2004")
        newcomer.answer_challenge(attempt, newcomer.expect(407, timeout_s=20))
        invite = callee.expect("INVITE", timeout_s=20)
        callee.reply(invite, 486, "Busy Here", dialog=callee.answer(invite))
        callee.expect("ACK")
        newcomer.ack(attempt, newcomer.expect(486))
        callee.request(theirs, "BYE")
        kept.reply(kept.expect("BYE"), 200, "OK")
        assert callee.expect(200)
    until(
        lambda: replicas.peers_of(steered, "signaling-1") == 1, timeout_s=30, what="the process that was started anew"
    )
    replicas.know_each_other(steered)
    (cdr,) = steered.cdrs_of(1, 60, caller="2003")
    assert (cdr["origin"], cdr["cause"]) == ("node_lost", "node_lost"), "the same instance is there, in another life"
    (cdr,) = steered.cdrs_of(1, 15, caller="2002")
    assert cdr["outcome"] == "answered"


def test_a_process_that_is_told_to_end_leaves_new_calls_to_the_others(steered: Product) -> None:
    with phone_at(steered, "2006", 0) as callee, phone_at(steered, "2007", 1) as caller:
        assert callee.register().status == 200
        answer(caller, callee)
        leaving = replicas.pid_of(steered, "signaling-2")
        os.kill(leaving, signal.SIGTERM)
        callee.expect("BYE", timeout_s=10)  # and no answer yet: it goes on leaving
        caller.expect("BYE")
        attempt = caller.dial("2006")
        invite = callee.expect("INVITE")
        callee.reply(invite, 486, "Busy Here", dialog=callee.answer(invite))
        callee.expect("ACK")
        caller.ack(attempt, caller.expect(486))
    until(lambda: not procfs.is_alive(leaving), timeout_s=30, what="its end")
    replicas.know_each_other(steered)
