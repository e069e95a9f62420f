"""The transaction layer: matching, limits, CANCEL, ACK, merged requests, and that nothing stays behind."""

from __future__ import annotations

from typing import Any

import pytest

from pbx_sip.address import Flow, HostPort
from pbx_sip.errors import LocalError
from pbx_sip.message.message import Message, Request, Response
from pbx_sip.message.parse import parse
from pbx_sip.message.serialize import serialize
from pbx_sip.transaction import events as tx
from pbx_sip.transaction.events import FailureCause
from pbx_sip.transaction.layer import RETRY_AFTER_S, TransactionLayer
from support.sip_messages import TCP, UDP, request, response, without_note

OWNER = object()
FAR = 1e6


def taken(layer: TransactionLayer, kind: type | None = None) -> list[Any]:
    """What the layer says, of one kind."""
    return [output for output in layer.drain() if kind is None or type(output) is kind]


def sent(layer: TransactionLayer) -> list[Message]:
    """What the layer sends, parsed."""
    return [parse(output.data) for output in taken(layer, tx.Transmit)]


def received(layer: TransactionLayer, message: Request, flow: Flow = UDP, now: float = 0.0) -> tx.RequestReceived:
    """Feeds a request, and answers the event that it must cause."""
    layer.receive(without_note(message), flow, now)
    [event] = taken(layer, tx.RequestReceived)
    assert isinstance(event, tx.RequestReceived)
    return event


def run_out(layer: TransactionLayer) -> list[Any]:
    """Lets every timer fire, and answers what was said; nothing may remain."""
    said = []
    for _ in range(100):
        if layer.next_timeout is None:
            break
        layer.handle_timeout(layer.next_timeout)
        said += layer.drain()
    assert layer.active == 0
    assert layer._merge == {}
    assert layer._merge_of == {}
    assert len(layer._deadlines) == 0
    return said


# --- client side


def test_unanswered_invite_is_repeated_and_fails() -> None:
    layer = TransactionLayer()
    key = layer.request(request(), UDP, 0.0, OWNER)
    times = [0.0] * len(taken(layer, tx.Transmit))
    while (due := layer.next_timeout) is not None:
        layer.handle_timeout(due)
        outputs = layer.drain()
        times += [due] * sum(type(output) is tx.Transmit for output in outputs)
    assert times == pytest.approx([0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5])
    assert outputs == [tx.TransactionFailed(key, OWNER, FailureCause.TIMEOUT)]
    assert layer.retransmissions == 6
    assert layer.active == 0


def test_unanswered_request_is_repeated_ten_times() -> None:
    layer = TransactionLayer()
    layer.request(request("BYE"), UDP, 100.0, OWNER)
    layer.drain()
    times = []
    while (due := layer.next_timeout) is not None:
        layer.handle_timeout(due)
        times += [due - 100.0] * len(taken(layer, tx.Transmit))
    assert times == pytest.approx([0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5])


def test_nothing_is_repeated_over_a_connection() -> None:
    layer = TransactionLayer()
    layer.request(request(), TCP, 0.0, OWNER)
    assert len(sent(layer)) == 1
    assert layer.next_timeout == 32.0
    assert [type(output) for output in run_out(layer)] == [tx.TransactionFailed]


def test_a_jump_past_every_deadline_ends_everything() -> None:
    layer = TransactionLayer()
    for number in range(50):
        layer.request(request(branch=f"z9hG4bKi{number}"), UDP, 0.0, OWNER)
        layer.request(request("OPTIONS", branch=f"z9hG4bKo{number}"), UDP, 0.0, OWNER)
        received(layer, request("INVITE", branch=f"z9hG4bKs{number}", call_id=str(number)))
        received(layer, request("BYE", branch=f"z9hG4bKb{number}", to_tag="t"))
    layer.drain()
    layer.handle_timeout(FAR)
    kinds = [type(output) for output in layer.drain()]
    assert kinds.count(tx.TransactionFailed) == 150
    for number in range(50):
        key = (f"z9hG4bKs{number}", "INVITE", "192.0.2.1:5060")
        layer.respond(key, response(request("INVITE", branch=f"z9hG4bKs{number}"), 486), FAR)
    layer.handle_timeout(2 * FAR)
    layer.drain()
    assert layer.active == 0
    assert layer.next_timeout is None


def test_final_response_is_delivered_once_but_a_2xx_each_time() -> None:
    layer = TransactionLayer()
    invite, bye = request(), request("BYE", branch="z9hG4bKb1")
    ikey, bkey = layer.request(invite, UDP, 0.0, OWNER), layer.request(bye, UDP, 0.0, OWNER)
    taken(layer)
    other = UDP._replace(remote=HostPort("192.0.2.99", 5060))
    for _ in range(3):
        layer.receive(response(invite, 200), other, 1.0)
        layer.receive(response(bye, 200), UDP, 1.0)
    outputs = taken(layer)
    assert [output.key for output in outputs] == [ikey, bkey, ikey, ikey]
    assert all(output.owner is OWNER for output in outputs)
    assert outputs[0].flow == other
    run_out(layer)


def test_refusal_is_confirmed_each_time_and_delivered_once() -> None:
    layer = TransactionLayer()
    invite = request()
    layer.request(invite, UDP, 0.0, OWNER)
    taken(layer)
    refusal = response(invite, 486)
    for _ in range(3):
        layer.receive(refusal, UDP, 1.0)
    outputs = layer.drain()
    assert [type(output) for output in outputs].count(tx.ResponseReceived) == 1
    acks = [parse(output.data) for output in outputs if type(output) is tx.Transmit]
    assert [ack.method for ack in acks if isinstance(ack, Request)] == ["ACK"] * 3
    assert acks[0].branch == invite.branch
    run_out(layer)


def test_response_without_transaction_is_stray() -> None:
    layer = TransactionLayer()
    layer.receive(response(request(), 200), UDP, 0.0)
    [stray] = layer.drain()
    assert isinstance(stray, tx.StrayResponse)
    layer.request(request(), UDP, 0.0, OWNER)
    layer.drain()
    # Same branch, other method: "the method parameter of the CSeq header field matches" (section 17.1.3).
    layer.receive(response(request("CANCEL"), 200), UDP, 0.0)
    assert [type(output) for output in layer.drain()] == [tx.StrayResponse]
    run_out(layer)


def test_awaiting_counts_what_has_no_final_response() -> None:
    layer = TransactionLayer()
    invite, bye = request(), request("BYE", branch="z9hG4bKb1")
    layer.request(invite, UDP, 0.0, OWNER)
    layer.request(bye, UDP, 0.0, OWNER)
    layer.receive(response(invite, 180), UDP, 0.0)
    assert layer.awaiting == 2
    layer.receive(response(invite, 486), UDP, 0.0)
    layer.receive(response(bye, 200), UDP, 0.0)
    assert (layer.awaiting, layer.active) == (0, 2)
    layer.drain()
    run_out(layer)


def test_late_2xx_is_stray() -> None:
    layer = TransactionLayer()
    invite = request()
    layer.request(invite, UDP, 0.0, OWNER)
    layer.receive(response(invite, 200), UDP, 0.0)
    run_out(layer)
    layer.receive(response(invite, 200), UDP, 40.0)
    assert [type(output) for output in layer.drain()] == [tx.StrayResponse]


def test_requests_that_cannot_have_a_transaction_are_our_fault() -> None:
    layer = TransactionLayer()
    layer.request(request(), UDP, 0.0, OWNER)
    for wrong in (request(), request("ACK"), request(branch="")):
        with pytest.raises(LocalError):
            layer.request(wrong, UDP, 0.0, OWNER)
    run_out(layer)


# --- CANCEL


def test_cancel_and_its_487() -> None:
    layer = TransactionLayer()
    invite = request()
    key = layer.request(invite, UDP, 0.0, OWNER)
    layer.receive(response(invite, 180), UDP, 0.1)
    layer.drain()
    layer.cancel(key, 1.0, [("Reason", "SIP;cause=200")])
    layer.cancel(key, 1.0)
    [cancel] = sent(layer)
    assert isinstance(cancel, Request)
    assert (cancel.method, cancel.branch, cancel.first("Reason")) == ("CANCEL", invite.branch, "SIP;cause=200")
    layer.receive(response(cancel, 200), UDP, 1.1)
    assert layer.drain() == []  # nobody wants to hear of it
    layer.receive(response(invite, 487), UDP, 1.1)
    [delivered] = taken(layer, tx.ResponseReceived)
    assert delivered.response.status == 487
    run_out(layer)


def test_cancel_waits_for_a_provisional_response() -> None:
    layer = TransactionLayer()
    invite = request()
    key = layer.request(invite, UDP, 0.0, OWNER)
    layer.drain()
    layer.cancel(key, 0.1)
    assert layer.drain() == []
    layer.receive(response(invite, 100), UDP, 0.2)
    assert [message.method for message in sent(layer) if isinstance(message, Request)] == ["CANCEL"]
    run_out(layer)


def test_cancelled_invite_without_an_answer_fails_after_32_s() -> None:
    layer = TransactionLayer()
    invite = request()
    key = layer.request(invite, UDP, 0.0, OWNER)
    layer.receive(response(invite, 180), UDP, 0.0)
    layer.cancel(key, 10.0)
    said = run_out(layer)
    assert [output for output in said if type(output) is tx.TransactionFailed] == [
        tx.TransactionFailed(key, OWNER, FailureCause.TIMEOUT)
    ]


def test_an_invite_that_rings_for_ever_is_cancelled_by_timer_c() -> None:
    layer = TransactionLayer()
    invite = request()
    key = layer.request(invite, UDP, 0.0, OWNER)
    layer.receive(response(invite, 180), UDP, 0.0)
    layer.receive(response(invite, 180), UDP, 500.0)
    layer.handle_timeout(1000.0)
    layer.drain()
    assert layer.next_timeout == 1100.0
    layer.handle_timeout(1100.0)
    assert [message.method for message in sent(layer) if isinstance(message, Request)] == ["CANCEL"]
    said = run_out(layer)
    assert said[-1] == tx.TransactionFailed(key, OWNER, FailureCause.TIMEOUT)


def test_cancel_of_what_is_over_or_no_invite_does_nothing() -> None:
    layer = TransactionLayer()
    invite = request()
    key = layer.request(invite, UDP, 0.0, OWNER)
    layer.receive(response(invite, 200), UDP, 0.0)
    other = layer.request(request("OPTIONS", branch="z9hG4bKo"), UDP, 0.0, OWNER)
    layer.drain()
    for what in (key, other, ("z9hG4bKnone", "INVITE")):
        layer.cancel(what, 0.0)
    assert layer.drain() == []
    run_out(layer)


def test_cancel_received_is_answered_and_told_with_the_owner() -> None:
    layer = TransactionLayer()
    event = received(layer, request())
    layer.own(event.key, OWNER)
    layer.receive(request("CANCEL"), UDP, 1.0)
    outputs = layer.drain()
    [answer] = [parse(output.data) for output in outputs if type(output) is tx.Transmit]
    assert isinstance(answer, Response)
    assert (answer.status, answer.cseq_method) == (200, "CANCEL")
    assert answer.to_tag
    [told] = [output for output in outputs if type(output) is tx.CancelReceived]
    assert (told.invite_key, told.invite_owner) == (event.key, OWNER)
    layer.receive(request("CANCEL"), UDP, 1.2)
    assert [message.status for message in sent(layer) if isinstance(message, Response)] == [200]
    layer.respond(event.key, response(event.request, 487), 1.3)
    run_out(layer)


def test_cancel_for_nothing_is_answered_481() -> None:
    layer = TransactionLayer()
    layer.receive(request("CANCEL"), UDP, 0.0)
    outputs = layer.drain()
    [answer] = [parse(output.data) for output in outputs if type(output) is tx.Transmit]
    assert isinstance(answer, Response)
    assert answer.status == 481
    assert len(outputs) == 1
    assert layer.active == 0, "a flood of them costs no memory"
    run_out(layer)


# --- server side


def test_repetition_of_a_request_gets_the_last_response_and_is_not_told() -> None:
    layer = TransactionLayer()
    event = received(layer, request())
    layer.receive(request(), UDP, 0.1)
    assert layer.drain() == []
    layer.respond(event.key, response(event.request, 180), 0.2)
    layer.receive(request(), UDP, 0.3)
    assert [message.status for message in sent(layer) if isinstance(message, Response)] == [180, 180]
    layer.respond(event.key, response(event.request, 200), 0.4)
    layer.receive(request(), UDP, 0.5)
    assert [message.status for message in sent(layer) if isinstance(message, Response)] == [200]  # RFC 6026: absorbed
    run_out(layer)


def test_the_user_repeats_a_2xx_through_the_transaction_until_timer_l() -> None:
    layer = TransactionLayer()
    event = received(layer, request())
    answer = response(event.request, 200)
    for now in (0.0, 0.5, 1.5):
        layer.respond(event.key, answer, now)
    assert len(sent(layer)) == 3
    assert run_out(layer) == [tx.ServerTransactionEnded(event.key)]
    layer.respond(event.key, answer, 33.0)
    assert layer.drain() == []


def test_ack_for_a_2xx_is_told_and_that_for_a_refusal_is_absorbed() -> None:
    layer = TransactionLayer()
    first, second = received(layer, request()), received(layer, request(branch="z9hG4bKb2", call_id="call-2"))
    layer.respond(first.key, response(first.request, 200), 0.0)
    layer.respond(second.key, response(second.request, 486), 0.0)
    layer.drain()
    layer.receive(request("ACK", branch="z9hG4bKnew"), UDP, 0.1)
    layer.receive(request("ACK"), UDP, 0.1)  # a 2xx confirmed with the branch of its INVITE: seen in the field
    layer.receive(request("ACK", branch="z9hG4bKb2", call_id="call-2"), UDP, 0.1)
    assert [type(output) for output in layer.drain()] == [tx.AckReceived, tx.AckReceived]
    run_out(layer)


def test_refusal_without_ack_fails() -> None:
    layer = TransactionLayer()
    event = received(layer, request())
    layer.own(event.key, OWNER)
    layer.respond(event.key, response(event.request, 486), 0.0)
    said = run_out(layer)
    assert [output for output in said if type(output) is not tx.Transmit] == [
        tx.TransactionFailed(event.key, OWNER, FailureCause.TIMEOUT),
        tx.ServerTransactionEnded(event.key),
    ]
    assert layer.retransmissions == 10


def test_request_that_nobody_answers_is_forgotten() -> None:
    layer = TransactionLayer()
    event = received(layer, request("OPTIONS"))
    assert run_out(layer) == [
        tx.TransactionFailed(event.key, None, FailureCause.TIMEOUT),
        tx.ServerTransactionEnded(event.key),
    ]


def test_unknown_keys_are_ignored() -> None:
    layer = TransactionLayer()
    layer.respond(("z9hG4bKx", "INVITE", "h"), response(request(), 200), 0.0)
    layer.own(("z9hG4bKx", "INVITE", "h"), OWNER)
    assert layer.drain() == []


# --- merged requests, limits, transport


def test_the_same_request_over_another_way_is_merged() -> None:
    layer = TransactionLayer()
    event = received(layer, request(branch="z9hG4bKway1"))
    layer.receive(request(branch="z9hG4bKway2"), UDP, 0.0)
    [answer] = sent(layer)
    assert isinstance(answer, Response)
    assert (answer.status, layer.merged) == (482, 1)
    layer.respond(event.key, response(event.request, 486), 0.0)
    run_out(layer)
    received(layer, request(branch="z9hG4bKway3"), now=50.0)  # later it is a new one


def test_credentials_with_the_cseq_of_the_challenged_request_are_let_through() -> None:
    layer = TransactionLayer()
    event = received(layer, request("REGISTER", branch="z9hG4bK1"))
    layer.respond(event.key, response(event.request, 401), 0.0)
    layer.drain()
    received(layer, request("REGISTER", branch="z9hG4bK2"))
    run_out(layer)


def test_requests_inside_a_dialog_are_never_merged() -> None:
    layer = TransactionLayer()
    received(layer, request("INFO", branch="z9hG4bK1", to_tag="t"))
    received(layer, request("INFO", branch="z9hG4bK2", to_tag="t"))
    run_out(layer)


def test_limit_refuses_new_work_and_lets_calls_end() -> None:
    layer = TransactionLayer(limit=8)
    for number in range(8):
        received(layer, request(branch=f"z9hG4bK{number}", call_id=str(number)))
    layer.receive(request(branch="z9hG4bKmore", call_id="more"), UDP, 0.0)
    [refusal] = sent(layer)
    assert isinstance(refusal, Response)
    assert (refusal.status, refusal.first("Retry-After")) == (503, str(RETRY_AFTER_S))
    layer.receive(request("CANCEL", branch="z9hG4bKnone"), UDP, 0.0)
    assert [message.status for message in sent(layer) if isinstance(message, Response)] == [481]
    received(layer, request("BYE", branch="z9hG4bKbye", to_tag="t"))
    layer.receive(request("BYE", branch="z9hG4bKbye2", to_tag="t"), UDP, 0.0)
    assert [message.status for message in sent(layer) if isinstance(message, Response)] == [503]
    layer.receive(request("CANCEL", branch="z9hG4bK3", call_id="3"), UDP, 0.0)
    assert [type(output) for output in layer.drain()] == [tx.Transmit, tx.CancelReceived]
    assert (layer.refused, layer.active) == (2, 10)
    assert (layer.active_client, layer.active_server) == (0, 10)
    for number in range(8):
        key = (f"z9hG4bK{number}", "INVITE", "192.0.2.1:5060")
        layer.respond(key, response(request(branch=f"z9hG4bK{number}"), 503), 0.0)
    run_out(layer)


def test_a_broken_flow_fails_what_is_on_it() -> None:
    layer = TransactionLayer()
    other = TCP._replace(connection=8)
    event = received(layer, request(branch="z9hG4bKs"), TCP)
    layer.own(event.key, OWNER)
    broken = layer.request(request(branch="z9hG4bKc1"), TCP, 0.0, OWNER)
    layer.request(request(branch="z9hG4bKc2"), other, 0.0, OWNER)
    layer.drain()
    layer.transport_failed(TCP, 0.1)
    failed = taken(layer, tx.TransactionFailed)
    assert {output.key for output in failed} == {event.key, broken}
    assert {output.cause for output in failed} == {FailureCause.TRANSPORT}
    assert layer.active == 1
    run_out(layer)


def test_transmit_is_outside_of_any_transaction() -> None:
    layer = TransactionLayer()
    layer.transmit(request("ACK"), UDP)
    assert [type(output) for output in layer.drain()] == [tx.Transmit]
    assert layer.active == 0


def test_what_is_sent_tells_for_whom() -> None:
    """Also what is sent again, an ACK for a refusal, and a CANCEL, of which nobody hears anything else."""
    layer = TransactionLayer()
    layer.transmit(request("ACK"), UDP, OWNER)
    key = layer.request(request(), UDP, 0.0, OWNER)
    layer.handle_timeout(0.5)
    layer.receive(response(request(), 180), UDP, 0.6)
    layer.cancel(key, 0.7)
    layer.receive(response(request(), 487), UDP, 0.8)
    sent = [output for output in layer.drain() if type(output) is tx.Transmit]
    assert [output.data.split()[0] for output in sent] == [b"ACK", b"INVITE", b"INVITE", b"CANCEL", b"ACK"]
    assert {output.owner for output in sent} == {OWNER}
    layer.receive(request("INVITE", branch="z9hG4bKin"), UDP, 1.0)
    [received] = taken(layer, tx.RequestReceived)
    layer.own(received.key, OWNER)
    layer.respond(received.key, response(received.request, 486), 1.0)
    assert [output.owner for output in layer.drain() if type(output) is tx.Transmit] == [OWNER]
    run_out(layer)


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
def test_an_answer_tells_for_whom_also_where_its_transaction_keeps_no_owner(method: str) -> None:
    layer = TransactionLayer()
    layer.receive(request(method, branch="z9hG4bKin"), UDP, 1.0)
    [received] = taken(layer, tx.RequestReceived)
    for _ in range(2):  # a 2xx to an INVITE is repeated by its user
        layer.respond(received.key, response(received.request, 200), 1.0, OWNER)
    sent = [output for output in layer.drain() if type(output) is tx.Transmit]
    assert [output.owner for output in sent] == [OWNER] * (2 if method == "INVITE" else 1)
    run_out(layer)


def test_repr_counts() -> None:
    layer = TransactionLayer()
    layer.request(request(), UDP, 0.0, OWNER)
    assert repr(layer).startswith("<TransactionLayer 1 client, 0 server")


def to_tags(layer: TransactionLayer) -> list[tuple[int, str, str]]:
    return [(each.status, each.cseq_method, each.to_tag) for each in sent(layer) if isinstance(each, Response)]


@pytest.mark.parametrize("ringing", [False, True])
def test_the_200_to_a_cancel_has_the_tag_of_the_487(ringing: bool) -> None:
    """RFC 3261 section 9.2."""
    layer = TransactionLayer()
    event = received(layer, request())
    layer.respond(event.key, response(event.request, 100), 0.0)
    if ringing:
        layer.respond(event.key, response(event.request, 180, "rings"), 0.1)
    layer.drain()
    layer.receive(request("CANCEL"), UDP, 1.0)
    layer.respond(event.key, response(event.request, 487, "rings" if ringing else "other"), 1.0)
    [ok, gone] = to_tags(layer)
    assert (ok[:2], gone[:2]) == ((200, "CANCEL"), (487, "INVITE"))
    assert ok[2] == gone[2] != ""
    run_out(layer)


def test_a_2xx_that_was_faster_than_the_cancel_keeps_its_dialog() -> None:
    layer = TransactionLayer()
    event = received(layer, request())
    layer.receive(request("CANCEL"), UDP, 1.0)
    layer.respond(event.key, response(event.request, 200, "dialog"), 1.0)
    assert to_tags(layer)[-1] == (200, "INVITE", "dialog")
    run_out(layer)


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
def test_who_is_thought_to_be_gone_is_waited_for_shortly(method: str) -> None:
    layer = TransactionLayer()
    layer.request(request(method), UDP, 0.0, OWNER, 4.0)
    layer.handle_timeout(3.9)
    assert not taken(layer, tx.TransactionFailed)
    layer.handle_timeout(4.1)
    [failed] = taken(layer, tx.TransactionFailed)
    assert failed.cause is FailureCause.TIMEOUT
    run_out(layer)


def test_who_answers_in_time_is_waited_for_as_always() -> None:
    layer = TransactionLayer()
    layer.request(request(), UDP, 0.0, OWNER, 4.0)
    layer.receive(response(request(), 180), UDP, 3.0)
    layer.handle_timeout(60.0)
    assert not taken(layer, tx.TransactionFailed)


def test_what_is_given_up_fails_at_once_and_what_is_answered_is_not() -> None:
    layer = TransactionLayer()
    key = layer.request(request(), TCP, 0.0, OWNER)
    layer.give_up(key, 1.0)
    [failed] = taken(layer, tx.TransactionFailed)
    assert failed.cause is FailureCause.TRANSPORT
    layer.give_up(key, 1.0)
    assert not taken(layer)
    run_out(layer)


def test_answers_go_to_the_port_of_sent_by_with_or_without_a_transaction() -> None:
    source = Flow(UDP.transport, HostPort("192.0.2.1", 40000), "udp")
    layer = TransactionLayer()

    def admit(of: Request, flow: Flow) -> bytes | None:
        return serialize(response(of, 401)) if of.method == "REGISTER" else None

    for method in ("REGISTER", "OPTIONS", "CANCEL"):
        layer.receive(request(method, branch=f"z9hG4bK{method}"), source, 0.0, admit)
        for output in layer.drain():
            if type(output) is tx.RequestReceived:
                assert output.flow == source, "where it came from stays known"
                layer.respond(output.key, response(output.request, 200), 0.0)
                [output] = layer.drain()
            assert isinstance(output, tx.Transmit)
            assert output.flow.remote == HostPort("192.0.2.1", 5060), method
    run_out(layer)
