"""The agent and its usages: what its simulations do not reach."""

from __future__ import annotations

from typing import Any

import pytest

from pbx_sip.errors import LocalError
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Message, Request, Response
from pbx_sip.message.parse import parse
from pbx_sip.message.serialize import serialize
from pbx_sip.tokens import CountingTokens
from pbx_sip.transaction.events import FailureCause, Transmit
from pbx_sip.usage import agent as ag
from pbx_sip.usage import invite_client, invite_server, output
from pbx_sip.usage.invite_client import InviteUac
from pbx_sip.usage.invite_server import InviteUas
from pbx_sip.usage.origin import at_address
from pbx_sip.usage.within import ASKED_MAX, InDialog
from support.sip_messages import UDP, request, response

INVITE = Request(
    "INVITE",
    "sip:bob@example.com",
    Headers(
        [
            *(("Max-Forwards", "70"), ("From", "<sip:alice@a>;tag=ours"), ("To", "<sip:bob@example.com>")),
            *(("Call-ID", "c1"), ("CSeq", "1 INVITE")),
        ]
    ),
)


class Rig:
    """An agent, and what it said."""

    def __init__(self) -> None:
        self.agent = ag.Agent(at_address(CountingTokens("e"), "192.0.2.9:5060", "<sip:e@192.0.2.9>"))
        self.now = 0.0

    def take(self) -> tuple[list[Message], list[Any]]:
        """Messages sent, and other events."""
        self.agent.carry_out(self.now)
        events = self.agent.drain()
        sent = [parse(event.data) for event in events if isinstance(event, Transmit)]
        said = [event for event in events if not isinstance(event, Transmit)]
        return sent, [event.what if isinstance(event, ag.Happened) else event for event in said]

    def receive(self, message: Message) -> tuple[list[Message], list[Any]]:
        """A message comes."""
        self.agent.receive(serialize(message), UDP, self.now)
        return self.take()

    def status_of(self, message: Message) -> int:
        """The status of the one response to a message that tells the user nothing."""
        [answer], said = self.receive(message)
        assert isinstance(answer, Response)
        assert said == []
        return answer.status

    def invite(self) -> tuple[InviteUac, Request]:
        """Our INVITE as sent."""
        usage = self.agent.invite(Request("INVITE", INVITE.uri, INVITE.headers.copy()), UDP, self.now)
        [sent], _ = self.take()
        assert isinstance(sent, Request)
        return usage, sent

    def invited(self, **extra: Any) -> InviteUas:
        """The peer's INVITE, as it was told."""
        [trying], [event] = self.receive(request(**extra))
        assert isinstance(trying, Response)
        assert trying.status == 100
        assert isinstance(event, ag.Invited)
        return event.usage

    def answered(self, **extra: Any) -> InDialog:
        """A call of the peer's that was answered."""
        usage = self.invited(**extra)
        usage.answer(self.now)
        self.take()
        assert usage.session is not None
        return usage.session

    def run_out(self) -> list[Any]:
        """Lets everything that waits happen; no transaction may remain."""
        events: list[Any] = []
        while (due := self.agent.next_timeout) is not None:
            self.now = due
            self.agent.handle_timeout(due)
            events += self.take()[1]
        assert self.agent.layer.active == 0
        return events


def prack(rack: str, to_tag: str, cseq: int = 2) -> Request:
    """A PRACK of the peer."""
    return request("PRACK", branch=f"z9hG4bKp{cseq}", to_tag=to_tag, cseq=cseq, extra=(("RAck", rack),))


def test_bytes_that_are_no_message_are_counted() -> None:
    rig = Rig()
    rig.agent.receive(b"\x00\x01", UDP, 0.0)
    assert rig.take() == ([], [])
    assert rig.agent.rejected == 1


def test_messages_that_break_rules_are_answered_or_dropped() -> None:
    rig = Rig()
    broken = request("OPTIONS")
    broken.headers.set("CSeq", "1 BYE")
    assert rig.status_of(broken) == 400
    broken.method = "ACK"
    assert rig.receive(broken) == ([], [])
    headless = response(request(), 200)
    headless.headers.remove("CSeq")
    assert rig.receive(headless) == ([], [])
    assert rig.agent.rejected == 3


def test_contact_of_the_caller_is_kept_and_silence_is_told() -> None:
    rig = Rig()
    options = Request("OPTIONS", INVITE.uri, INVITE.headers.copy())
    options.headers.set("CSeq", "1 OPTIONS")
    options.headers.append("Contact", "<sip:own>")
    rig.agent.request(options, UDP, 0.0)
    [sent], _ = rig.take()
    assert sent.headers.all("Contact") == ["<sip:own>"]
    [failed] = rig.run_out()
    assert isinstance(failed, ag.Failed)
    assert failed.cause is FailureCause.TIMEOUT


def test_a_request_outside_of_a_dialog_is_the_users_to_answer() -> None:
    rig = Rig()
    _, [event] = rig.receive(request("OPTIONS"))
    rig.agent.respond(event, 200, 0.0)
    [answer], _ = rig.take()
    assert isinstance(answer, Response)
    assert answer.to_tag
    rig.run_out()


def test_a_second_reliable_response_waits_for_the_first() -> None:
    rig = Rig()
    usage = rig.invited()
    first, second = usage.progress(183, 0.0, reliable=True), usage.progress(180, 0.0, reliable=True)
    [progress], _ = rig.take()
    assert (progress.headers.first("RSeq"), first, second) == ("1", 1, 2)
    tag = usage.fork().dialog.local_tag
    sent, said = rig.receive(prack("1 1 INVITE", tag))
    assert [message.headers.first("RSeq") for message in sent] == ["2"]
    assert [type(what) for what in said] == [output.ProgressConfirmed, output.Asked]
    usage.refuse(486, 0.0)
    rig.run_out()


def test_no_more_unconfirmed_progress_than_the_limit() -> None:
    rig = Rig()
    usage = rig.invited()
    numbers = [usage.progress(183, 0.0, reliable=True) for _ in range(invite_server.PROGRESS_MAX + 1)]
    assert numbers[-2:] == [invite_server.PROGRESS_MAX, 0]
    usage.refuse(486, 0.0)
    rig.take()
    rig.run_out()


def test_progress_that_is_repeated_and_never_confirmed() -> None:
    rig = Rig()
    usage = rig.invited()
    usage.progress(183, 0.0, reliable=True)
    rig.take()
    repeated, said = 0, list[Any]()
    while not said:
        assert rig.agent.next_timeout is not None
        rig.now = rig.agent.next_timeout
        rig.agent.handle_timeout(rig.now)
        sent, said = rig.take()
        repeated += len(sent)
    assert (repeated, said) == (6, [output.Unconfirmed(output.Waits.PROGRESS)])
    usage.refuse(504, rig.now)
    rig.take()
    rig.run_out()
    assert rig.agent.usages == []


@pytest.mark.parametrize(("rack", "status"), [("nonsense", 400), ("2 1 INVITE", 481), ("1 2 INVITE", 481)])
def test_pracks_that_confirm_nothing(rack: str, status: int) -> None:
    rig = Rig()
    usage = rig.invited()
    usage.progress(183, 0.0, reliable=True)
    rig.take()
    tag = usage.fork().dialog.local_tag
    assert rig.status_of(prack(rack, tag)) == status
    _, [confirmed, asked] = rig.receive(prack("1 1 INVITE", tag, 3))
    assert confirmed == output.ProgressConfirmed("", 1)
    usage.fork().reply(asked.key, 200, 0.0)
    usage.refuse(486, 0.0)
    rig.take()
    rig.run_out()


def test_a_prack_that_crosses_the_answer_is_right() -> None:
    rig = Rig()
    usage = rig.invited()
    usage.progress(183, 0.0, reliable=True)
    usage.answer(0.0)
    rig.take()
    assert rig.status_of(prack("1 1 INVITE", usage.fork().dialog.local_tag)) == 200


def test_requests_out_of_order_and_out_of_dialog() -> None:
    rig = Rig()
    tag = rig.answered(cseq=5).dialog.local_tag
    assert rig.status_of(request("INFO", branch="z9hG4bKi", to_tag=tag, cseq=4)) == 500
    assert rig.status_of(request("INFO", branch="z9hG4bKj", to_tag="nobody", cseq=9)) == 481
    assert rig.status_of(request("INFO", branch="z9hG4bKk", to_tag=tag, from_tag="other", cseq=9)) == 481


def test_a_peer_cannot_pile_up_requests() -> None:
    rig = Rig()
    tag = rig.answered().dialog.local_tag
    for number in range(ASKED_MAX):
        rig.receive(request("INFO", branch=f"z9hG4bKi{number}", to_tag=tag, cseq=2 + number))
    assert rig.status_of(request("INFO", branch="z9hG4bKlast", to_tag=tag, cseq=99)) == 500


def test_a_reinvite_before_the_first_is_answered_is_refused() -> None:
    rig = Rig()
    usage = rig.invited()
    usage.progress(180, 0.0)
    rig.take()
    tag = usage.fork().dialog.local_tag
    assert rig.status_of(request("INVITE", branch="z9hG4bKr", to_tag=tag, cseq=2)) == 500
    usage.refuse(486, 0.0)
    rig.take()
    _, ours = rig.invite()
    rig.receive(response(ours, 180))
    theirs = request("INVITE", branch="z9hG4bKt", call_id="c1", from_tag="bob-1", to_tag="ours", cseq=1)
    assert rig.status_of(theirs) == 491
    rig.run_out()


def test_a_reinvite_is_answered_cancelled_and_crossed_by_another() -> None:
    rig = Rig()
    session = rig.answered()
    tag = session.dialog.local_tag
    again = request("INVITE", branch="z9hG4bKr", to_tag=tag, cseq=2)
    assert rig.status_of(again) == 491  # the first 200 has no ACK yet
    rig.receive(request("ACK", branch="z9hG4bKk", to_tag=tag))
    again = request("INVITE", branch="z9hG4bKs", to_tag=tag, cseq=3)
    _, [asked] = rig.receive(again)
    assert rig.status_of(request("INVITE", branch="z9hG4bKu", to_tag=tag, cseq=4)) == 500
    cancel = request("CANCEL", branch="z9hG4bKs", to_tag=tag, cseq=3)
    sent, _ = rig.receive(cancel)
    assert [message.status for message in sent if isinstance(message, Response)] == [200, 487]
    assert session.reply(asked.key, 200, 0.0) is None
    key = session.send("INVITE", 0.0)
    rig.take()
    assert rig.status_of(request("INVITE", branch="z9hG4bKv", to_tag=tag, cseq=5)) == 491
    session.cancel(key)
    rig.take()


def test_acks_that_confirm_nothing_are_dropped() -> None:
    rig = Rig()
    tag = rig.answered().dialog.local_tag
    assert rig.receive(request("ACK", branch="z9hG4bKk1", to_tag="nobody")) == ([], [])
    assert rig.receive(request("ACK", branch="z9hG4bKk2", to_tag=tag, cseq=7)) == ([], [])
    [], [acknowledged] = rig.receive(request("ACK", branch="z9hG4bKk3", to_tag=tag))
    assert isinstance(acknowledged, output.Acknowledged)
    assert rig.receive(request("ACK", branch="z9hG4bKk3", to_tag=tag)) == ([], [])


def test_repeated_and_early_reliable_responses_are_dropped() -> None:
    rig = Rig()
    usage, invite = rig.invite()
    reliable = [response(invite, 183, RSeq=str(number), Require="100rel") for number in (4, 4, 6, 5)]
    told = [len(rig.receive(message)[1]) for message in reliable]
    assert told == [1, 0, 0, 1]
    rig.receive(response(invite, 486))
    assert usage.forks == {}
    rig.run_out()
    assert rig.agent.usages == []


def test_no_more_early_dialogs_than_the_limit() -> None:
    rig = Rig()
    usage, invite = rig.invite()
    for number in range(invite_client.FORKS_MAX + 5):
        rig.receive(response(invite, 180, f"fork-{number}"))
    assert len(usage.forks) == invite_client.FORKS_MAX
    _, [answered] = rig.receive(response(invite, 200, "one-more"))
    assert answered.fork == "one-more"
    assert usage.session is not None
    assert usage.session.dialog.remote_tag == "one-more"


def test_a_second_fork_that_answers_is_confirmed_and_ended() -> None:
    rig = Rig()
    usage, invite = rig.invite()
    rig.receive(response(invite, 180, "second"))
    rig.receive(response(invite, 200, "first"))
    assert usage.session is not None
    usage.session.acknowledge(1)
    rig.take()
    sent, said = rig.receive(response(invite, 200, "second"))
    assert [message.method for message in sent if isinstance(message, Request)] == ["ACK", "BYE"]
    assert said == []
    sent, _ = rig.receive(response(invite, 200, "second"))
    assert [message.method for message in sent if isinstance(message, Request)] == ["ACK"]


def test_a_2xx_that_comes_after_its_transaction_is_confirmed_again() -> None:
    rig = Rig()
    usage, invite = rig.invite()
    rig.receive(response(invite, 200))
    assert usage.session is not None
    usage.session.acknowledge(1)
    rig.take()
    rig.run_out()
    [ack], said = rig.receive(response(invite, 200))
    assert isinstance(ack, Request)
    assert (ack.method, said) == ("ACK", [])
    _, [stray] = rig.receive(response(invite, 200, "other"))
    assert isinstance(stray, ag.Stray)


def test_a_cancel_for_nothing_is_not_told() -> None:
    rig = Rig()
    assert rig.status_of(request("CANCEL")) == 481
    rig.run_out()


def test_an_invite_that_nobody_answers_fails_with_its_early_dialogs() -> None:
    rig = Rig()
    usage, invite = rig.invite()
    rig.receive(response(invite, 180))
    assert usage.forks
    said = rig.run_out()
    assert isinstance(said[-1], output.GaveUp)
    assert usage.forks == {}
    with pytest.raises(LocalError, match="refused"):
        Rig().invite()[0].again(0.0, ())


def test_a_refusal_or_an_answer_that_is_never_confirmed() -> None:
    rig = Rig()
    rig.invited().refuse(486, 0.0)
    rig.take()
    assert rig.run_out() == []
    session = rig.answered(branch="z9hG4bKsecond", call_id="c9")
    assert rig.run_out() == [output.Unconfirmed(output.Waits.ANSWER)]
    session.send("BYE", rig.now)
    rig.take()
    rig.run_out()
    assert rig.agent.usages == []
    with pytest.raises(LocalError, match="ended"):
        session.send("INFO", rig.now)
