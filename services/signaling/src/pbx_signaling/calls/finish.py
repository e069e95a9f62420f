"""How a call comes to its end: what is written down, who is told, and whose last word is awaited."""

from __future__ import annotations

from pbx_signaling.calls import commands as c
from pbx_signaling.calls import signals as e
from pbx_signaling.calls.ending import (
    EXPIRED,
    LONGEST_CALL,
    MEDIA_TIMEOUT,
    NO_ANSWER,
    Ending,
    Origin,
    Outcome,
    ending_of_loss,
    ending_of_order,
)
from pbx_signaling.calls.hunt import GONE
from pbx_signaling.calls.signals import CALLER, Cause, Deadline, Side
from pbx_signaling.calls.state import State
from pbx_signaling.calls.value import CallValue, Failed, GivenUp, Settled

# --- before an answer


def end(call: CallValue, ending: Ending, now: float, reject: c.Reject) -> None:
    """Ends an unanswered attempt: its slot goes back, its last event is written, its caller is told."""
    call.ending, call.ended, call.content = ending, now, None
    if call.media.slot is not None:
        call.do(c.ReleaseMedia())
    call.do(c.ClearDeadline(Deadline.NO_ANSWER))
    if call.invitation_s:
        call.do(c.ClearDeadline(Deadline.INVITATION))
    if not call.initiated:
        call.initiate()
    call.do(c.Emit(c.Record.ENDED), reject)
    settle(call)


def settle(call: CallValue) -> None:
    """The call is over; it is forgotten when nobody has a last word to say any more, or after a while."""
    call.do(c.ClearDeadline(Deadline.SETUP))
    if call.reserving or not call.hunt.is_over:
        call.do(c.SetDeadline(Deadline.RELEASE, call.policy.cancel_s))
    else:
        call.conclude(Settled())


def failed(call: CallValue, conclusion: Failed, now: float) -> None:
    """Nobody can be reached, or nobody takes the call: the caller gets the best of the refusals."""
    refusal, ending = conclusion.refusal, conclusion.refusal.ending
    reject = c.Reject(
        ending.sip_status,
        ending.sip_reason,
        refusal.cause,
        refusal.retry_after_s,
        warning=refusal.warning,
        headers=refusal.headers,
    )
    end(call, ending, now, reject)


def given_up(call: CallValue, conclusion: GivenUp, now: float) -> None:
    """Stops whatever rings, and ends the attempt."""
    give_up(call, conclusion.ending, now, conclusion.cause)


def give_up(call: CallValue, ending: Ending, now: float, cause: Cause) -> None:
    """Ends an attempt whose phones may ring still; `cause` is what they are told."""
    call.do(*(c.Cancel(stopped.leg, cause) for stopped in call.hunt.stop(cause)))
    end(call, ending, now, c.Reject(ending.sip_status, ending.sip_reason, Cause(q850=ending.q850_cause)))


def cancelled(call: CallValue, signal: e.Cancelled, now: float) -> None:
    """The caller gave up."""
    q850 = signal.cause.q850 or 16
    ending = Ending(Outcome.CANCELLED, Origin.REMOTE, 487, "Request Terminated", q850, "cancelled", Side.CALLER)
    give_up(call, ending, now, signal.cause)


def no_answer(call: CallValue, signal: e.Expired, now: float) -> None:
    """Nobody answered in all the time that there is; where no phone rings, those that refused have said why."""
    verdict = call.hunt.verdict
    if verdict is None:
        give_up(call, NO_ANSWER, now, GONE)
    else:
        call.do(*(c.Cancel(stopped.leg, GONE) for stopped in call.hunt.stop(GONE)))
        failed(call, Failed(verdict), now)


def invitation_over(call: CallValue, signal: e.Expired, now: float) -> None:
    """The time ran out that the caller gave its INVITE."""
    give_up(call, EXPIRED, now, Cause("invitation expired", 19))


def ordered(call: CallValue, signal: e.Ordered, now: float) -> None:
    """The administration, or the end of this process, ends an attempt."""
    ending = ending_of_order(signal, answered=False)
    give_up(call, ending, now, Cause(signal.reason, ending.q850_cause))


# --- after an answer


def hung_up(call: CallValue, signal: e.HungUp, now: float) -> None:
    """A party of an answered call sent a BYE: the other gets one, and the sender counts as who ended the call."""
    side = Side.of(signal.leg)
    ending = Ending(Outcome.ANSWERED, Origin.REMOTE, 200, "OK", signal.cause.q850 or 16, "normal", side)
    hang_up(call, ending, now, signal.cause, gone=signal.leg)


def leg_lost(call: CallValue, signal: e.LegLost, now: float) -> None:
    """A party cannot be reached any more."""
    hang_up(call, ending_of_loss(signal, answered=True), now, Cause(signal.cause, 102))


def media_silent(call: CallValue, signal: e.MediaSilent, now: float) -> None:
    """Neither party sends media any more."""
    call.do(c.Emit(c.Record.MEDIA_TIMEOUT, status=signal.silent_s))
    hang_up(call, MEDIA_TIMEOUT, now, Cause("media timeout", 41))


def ordered_to_hang_up(call: CallValue, signal: e.Ordered, now: float) -> None:
    """The administration, or the end of this process, ends an answered call."""
    ending = ending_of_order(signal, answered=True)
    hang_up(call, ending, now, Cause(signal.reason, ending.q850_cause))


def longest(call: CallValue, signal: e.Expired, now: float) -> None:
    """The call is as long as any may be."""
    hang_up(call, LONGEST_CALL, now, Cause("longest call", 31))


def hang_up(call: CallValue, ending: Ending, now: float, cause: Cause, *, gone: int = -1) -> None:
    """Ends an answered call: BYE where there was none, and the slot back; its relay tells others what flowed."""
    if call.unacknowledged:
        call.do(c.Acknowledge(call.bridge.callee, None))
        call.unacknowledged = False
    call.ending, call.ended = ending, now
    call.bridge.exchanges.clear()
    call.do(*(c.HangUp(leg, cause) for leg in (CALLER, call.bridge.callee) if leg != gone))
    call.do(c.ClearDeadline(Deadline.LONGEST), c.ReleaseMedia(), c.Emit(c.Record.ENDED))
    settle(call)


# --- the last words


def late_media(call: CallValue, signal: e.MediaReady, now: float) -> None:
    """The slot came after the attempt was over."""
    call.media.slot, call.reserving = signal.slot, False
    call.do(c.ReleaseMedia())
    last_word(call)


def no_late_media(call: CallValue, signal: e.MediaUnavailable, now: float) -> None:
    """No slot came, and none is wanted any more."""
    call.reserving = False
    last_word(call)


def last_word(call: CallValue) -> None:
    """Somebody said its last word: the call may be over for good."""
    if call.state is State.CANCELLING and not call.reserving and call.hunt.is_over:
        call.conclude(Settled())


def forgotten(call: CallValue, signal: object, now: float) -> None:
    """Nobody is left, or is waited for."""
    call.do(c.Finish())
