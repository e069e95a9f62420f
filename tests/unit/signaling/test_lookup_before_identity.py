"""Caller and callee are asked for in one breath; where the callee is counts once the caller is known."""

from __future__ import annotations

from pbx_signaling.calls import commands as c
from pbx_signaling.calls import signals as e
from pbx_signaling.calls.ending import Outcome
from pbx_signaling.calls.machine import Call
from pbx_signaling.calls.state import CallPolicy, State
from pbx_signaling.media.branches import CallMedia
from pbx_signaling.media.session import MediaSession

TARGET = e.Target("sip:1008@192.0.2.20:5060", "1008@pbx.local", (), 1, "192.0.2.20", 5060, "udp4", 0, "s1")
WHO, WHERE = e.Authenticated("1004", "Alice"), e.Found(True, [TARGET])


def begun() -> Call:
    call = Call("01C", "1008", "1008@pbx.local", "1004@pbx.local", 0.0, 0, CallMedia(MediaSession(7)), CallPolicy())
    call.start(True, 0.0)
    return call


def received(*signals: e.Signal) -> tuple[Call, list[c.Command]]:
    call = begun()
    call.drain()
    for signal in signals:
        call.receive(signal, 1.0)
    return call, call.drain()


def test_both_are_asked_at_once() -> None:
    asked = [command for command in begun().drain() if not isinstance(command, c.SetDeadline)]
    assert asked == [c.Authenticate(), c.FindTargets("1008@pbx.local")]


def test_the_order_of_the_answers_makes_no_difference() -> None:
    (one, first), (other, second) = received(WHO, WHERE), received(WHERE, WHO)
    assert first == second == [c.Emit(c.Record.INITIATED), c.ReserveMedia([])]
    assert one == other
    assert one.state is State.ALLOCATING
    assert one.found is None


def test_nothing_happens_before_the_caller_is_known() -> None:
    call, commands = received(WHERE)
    assert (call.state, commands) == (State.AUTHENTICATING, [])


def test_a_caller_who_is_refused_learns_nothing_of_the_callee() -> None:
    for where in (WHERE, e.Found(False, []), e.Found(True, []), e.LookupFailed("down")):
        call, commands = received(where, e.Refused(403))
        assert [command.status for command in commands if isinstance(command, c.Reject)] == [403]
        assert call.ending is not None
        assert call.ending.outcome is Outcome.FORBIDDEN
        assert not call.hunt.branches


def test_an_answer_for_a_caller_who_was_refused_is_too_late() -> None:
    call, _ = received(e.Refused(403))
    call.receive(WHERE, 2.0)
    assert call.drain() == []


def test_a_failed_look_up_counts_once_the_caller_is_known() -> None:
    call, commands = received(e.LookupFailed("down", 7))
    assert (call.state, commands) == (State.AUTHENTICATING, [])
    for order in ((e.LookupFailed("down", 7), WHO), (WHO, e.LookupFailed("down", 7))):
        _, commands = received(*order)
        assert [(each.status, each.retry_after_s) for each in commands if isinstance(each, c.Reject)] == [(503, 7)]
