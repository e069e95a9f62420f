"""The endpoint facade: what its simulations do not reach."""

from __future__ import annotations

from typing import Any

import pytest

from pbx_sip import endpoint as ep
from pbx_sip import endpoint_events as ev
from pbx_sip.endpoint import Endpoint
from pbx_sip.errors import LocalError
from pbx_sip.message.message import Message, Request, Response
from pbx_sip.message.parse import parse
from pbx_sip.message.serialize import serialize
from pbx_sip.tokens import CountingTokens
from pbx_sip.transaction.events import Transmit
from support.sip_messages import UDP, request, response

INVITE = ep.new_request(
    "INVITE",
    "sip:bob@example.com",
    (("From", "<sip:alice@a>;tag=ours"), ("To", "<sip:bob@example.com>"), ("Call-ID", "c1"), ("CSeq", "1 INVITE")),
)


class Rig:
    """An endpoint, and what it said."""

    def __init__(self) -> None:
        self.endpoint = Endpoint(CountingTokens("e"), "192.0.2.9:5060", "<sip:e@192.0.2.9>")
        self.now = 0.0

    def take(self) -> tuple[list[Message], list[Any]]:
        """Messages sent, and other events."""
        events = self.endpoint.drain()
        sent = [parse(event.data) for event in events if isinstance(event, Transmit)]
        return sent, [event for event in events if not isinstance(event, Transmit)]

    def receive(self, message: Message) -> tuple[list[Message], list[Any]]:
        """A message comes."""
        self.endpoint.receive(serialize(message), UDP, self.now)
        return self.take()

    def invite(self) -> Request:
        """Our INVITE as sent."""
        copy = Request("INVITE", INVITE.uri, INVITE.headers.copy())
        self.endpoint.send_request(copy, UDP, self.now)
        [sent], _ = self.take()
        assert isinstance(sent, Request)
        return sent

    def invited(self, **extra: Any) -> ev.Received:
        """The peer's INVITE, as it was told."""
        [trying], [event] = self.receive(request(**extra))
        assert isinstance(trying, Response)
        assert trying.status == 100
        assert isinstance(event, ev.Received)
        return event

    def run_out(self) -> list[Any]:
        """Lets everything that waits happen; nothing may remain."""
        events: list[Any] = []
        while (due := self.endpoint.next_timeout) is not None:
            self.now = due
            self.endpoint.handle_timeout(due)
            events += self.take()[1]
        assert self.endpoint.layer.active == 0
        assert self.endpoint._answering == {}
        return events


def prack(rack: str, to_tag: str, cseq: int = 2) -> Request:
    """A PRACK of the peer."""
    return request("PRACK", branch=f"z9hG4bKp{cseq}", to_tag=to_tag, cseq=cseq, extra=(("RAck", rack),))


def test_bytes_that_are_no_message_are_counted() -> None:
    rig = Rig()
    rig.endpoint.receive(b"\x00\x01", UDP, 0.0)
    assert rig.take() == ([], [])
    assert rig.endpoint.rejected == 1


def test_messages_that_break_rules_are_answered_or_dropped() -> None:
    rig = Rig()
    broken = request("OPTIONS")
    broken.headers.set("CSeq", "1 BYE")
    [answer], _ = rig.receive(broken)
    assert isinstance(answer, Response)
    assert answer.status == 400
    broken.method = "ACK"
    assert rig.receive(broken) == ([], [])
    headless = response(request(), 200)
    headless.headers.remove("CSeq")
    assert rig.receive(headless) == ([], [])
    assert rig.endpoint.rejected == 3


def test_contact_of_the_caller_is_kept() -> None:
    rig = Rig()
    copy = Request("OPTIONS", INVITE.uri, INVITE.headers.copy())
    copy.headers.set("CSeq", "1 OPTIONS")
    copy.headers.append("Contact", "<sip:own>")
    rig.endpoint.send_request(copy, UDP, 0.0)
    [sent], _ = rig.take()
    assert sent.headers.all("Contact") == ["<sip:own>"]
    [failed] = rig.run_out()
    assert isinstance(failed, ev.Failed)


def test_a_second_reliable_response_waits_for_the_first() -> None:
    rig = Rig()
    event = rig.invited()
    rig.endpoint.send_response(event, 183, 0.0, rseq=10)
    with pytest.raises(LocalError):
        rig.endpoint.send_response(event, 180, 0.0, rseq=10)
    rig.endpoint.send_response(event, 486, 0.0)
    rig.run_out()


def test_progress_that_is_repeated_and_never_confirmed() -> None:
    rig = Rig()
    event = rig.invited()
    live = rig.endpoint.send_response(event, 183, 0.0, rseq=10)
    rig.take()
    repeated = 0
    while not (said := rig.take()[1]):
        assert rig.endpoint.next_timeout is not None
        rig.now = rig.endpoint.next_timeout
        rig.endpoint.handle_timeout(rig.now)
        repeated += sum(isinstance(e, Transmit) for e in rig.endpoint._output)
    assert repeated == 6
    assert said == [ev.Unconfirmed(live, ev.Waits.PROGRESS)]
    rig.endpoint.send_response(event, 504, rig.now)
    assert rig.endpoint.dialogs == {}
    rig.run_out()


@pytest.mark.parametrize(("rack", "status"), [("nonsense", 400), ("11 1 INVITE", 481), ("10 2 INVITE", 481)])
def test_pracks_that_confirm_nothing(rack: str, status: int) -> None:
    rig = Rig()
    event = rig.invited()
    live = rig.endpoint.send_response(event, 183, 0.0, rseq=10)
    assert live is not None
    rig.take()
    [answer], said = rig.receive(prack(rack, live.dialog.local_tag))
    assert isinstance(answer, Response)
    assert (answer.status, said) == (status, [])
    [], [confirmed] = rig.receive(prack("10 1 INVITE", live.dialog.local_tag, 3))
    rig.endpoint.send_response(confirmed, 200, 0.0)
    rig.endpoint.send_response(event, 486, 0.0)
    rig.run_out()


def test_requests_out_of_order_and_out_of_dialog() -> None:
    rig = Rig()
    event = rig.invited(cseq=5)
    live = rig.endpoint.send_response(event, 200, 0.0)
    assert live is not None
    rig.take()
    [late], said = rig.receive(request("INFO", branch="z9hG4bKi", to_tag=live.dialog.local_tag, cseq=4))
    [foreign], _ = rig.receive(request("INFO", branch="z9hG4bKj", to_tag="nobody", cseq=9))
    assert isinstance(late, Response)
    assert isinstance(foreign, Response)
    assert (late.status, foreign.status, said) == (500, 481, [])
    rig.endpoint.forget(live)
    rig.run_out()


def test_a_reinvite_before_the_first_is_answered_is_refused() -> None:
    rig = Rig()
    event = rig.invited()
    live = rig.endpoint.send_response(event, 180, 0.0)
    assert live is not None
    rig.take()
    again = request("INVITE", branch="z9hG4bKr", to_tag=live.dialog.local_tag, cseq=2)
    [refusal], said = rig.receive(again)
    assert isinstance(refusal, Response)
    assert (refusal.status, said) == (500, [])
    rig.endpoint.send_response(event, 486, 0.0)
    rig.run_out()
    ours = rig.invite()
    rig.receive(response(ours, 180))
    theirs = request("INVITE", branch="z9hG4bKt", call_id="c1", from_tag="bob-1", to_tag="ours", cseq=1)
    [refusal], said = rig.receive(theirs)
    assert isinstance(refusal, Response)
    assert (refusal.status, said) == (491, [])
    rig.run_out()


def test_acks_that_confirm_nothing_are_dropped() -> None:
    rig = Rig()
    event = rig.invited()
    live = rig.endpoint.send_response(event, 200, 0.0)
    assert live is not None
    rig.take()
    tag = live.dialog.local_tag
    assert rig.receive(request("ACK", branch="z9hG4bKk1", to_tag="nobody")) == ([], [])
    assert rig.receive(request("ACK", branch="z9hG4bKk2", to_tag=tag, cseq=7)) == ([], [])
    [], [acknowledged] = rig.receive(request("ACK", branch="z9hG4bKk3", to_tag=tag))
    assert isinstance(acknowledged, ev.Acknowledged)
    assert rig.receive(request("ACK", branch="z9hG4bKk3", to_tag=tag)) == ([], [])
    rig.endpoint.forget(live)
    rig.run_out()


def test_repeated_and_early_reliable_responses_are_dropped() -> None:
    rig = Rig()
    invite = rig.invite()
    reliable = [response(invite, 183, RSeq=str(number), Require="100rel") for number in (4, 4, 6, 5)]
    told = [len(rig.receive(message)[1]) for message in reliable]
    assert told == [1, 0, 0, 1]
    rig.receive(response(invite, 486))
    assert rig.endpoint.dialogs == {}
    rig.run_out()


def test_no_more_early_dialogs_than_the_limit() -> None:
    rig = Rig()
    invite = rig.invite()
    for number in range(ep.MAX_FORKS + 5):
        rig.receive(response(invite, 180, f"fork-{number}"))
    assert len(rig.endpoint.dialogs) == ep.MAX_FORKS
    _, [answered] = rig.receive(response(invite, 200, "one-more"))
    assert answered.live.dialog.remote_tag == "one-more"
    assert list(rig.endpoint.dialogs.values()) == [answered.live]
    rig.endpoint.forget(answered.live)
    rig.run_out()


def test_a_2xx_that_comes_after_its_transaction_is_confirmed_again() -> None:
    rig = Rig()
    invite = rig.invite()
    _, [answered] = rig.receive(response(invite, 200))
    rig.endpoint.send_ack(answered.live, 1, 0.0)
    rig.run_out()
    rig.take()
    [ack], said = rig.receive(response(invite, 200))
    assert isinstance(ack, Request)
    assert (ack.method, said) == ("ACK", [])
    _, [stray] = rig.receive(response(invite, 200, "other"))
    assert isinstance(stray, ev.Stray)
    rig.endpoint.forget(answered.live)


def test_a_cancel_for_nothing_is_not_told() -> None:
    rig = Rig()
    [answer], said = rig.receive(request("CANCEL"))
    assert isinstance(answer, Response)
    assert (answer.status, said) == (481, [])
    rig.run_out()


def test_an_invite_that_nobody_answers_fails_with_its_early_dialogs() -> None:
    rig = Rig()
    invite = rig.invite()
    rig.receive(response(invite, 180))
    assert rig.endpoint.dialogs
    said = rig.run_out()
    assert isinstance(said[-1], ev.Failed)
    assert rig.endpoint.dialogs == {}


def test_a_refusal_that_is_never_confirmed_fails() -> None:
    rig = Rig()
    rig.endpoint.send_response(rig.invited(), 486, 0.0)
    rig.take()
    [failed] = rig.run_out()
    assert failed.request is None


def test_an_answer_that_is_never_confirmed() -> None:
    rig = Rig()
    live = rig.endpoint.send_response(rig.invited(), 200, 0.0)
    assert live is not None
    said = rig.run_out()
    assert said == [ev.Unconfirmed(live, ev.Waits.ANSWER)]
    rig.endpoint.send_within(live, "BYE", rig.now)
    assert rig.endpoint.dialogs == {}
    rig.run_out()
