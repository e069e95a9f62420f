"""What happens to a call while phones ring: the hunt's outputs carried out, progress passed on, the answer taken."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from pbx_signaling.calls import commands as c
from pbx_signaling.calls import signals as e
from pbx_signaling.calls.bridge import fork_name
from pbx_signaling.calls.ending import NO_ANSWER, NO_RELAY, Ending, Origin, Outcome, Refusal, ending_of_loss, refusal_of
from pbx_signaling.calls.finish import last_word
from pbx_signaling.calls.hunt import GONE, SILENT_S
from pbx_signaling.calls.hunt_output import EndLate, Invite, Look, Lost, Output, Stop
from pbx_signaling.calls.session import carried, carry
from pbx_signaling.calls.setup import SETUP_TIMEOUT, bad_session, unavailable, unreachable
from pbx_signaling.calls.signals import CALLER, Cause, Deadline, Side
from pbx_signaling.calls.state import State
from pbx_signaling.calls.value import CallValue, Failed, GivenUp, Joined, Rings
from pbx_signaling.media.endpoint import SessionRefused

LATE = Cause("call completion elsewhere", 16)
"""To a phone whose answer crossed the CANCEL."""
UNRELAYED = Cause("media relay lost", 34)
"""To phones that were told of a slot which is none."""


def follow(call: CallValue, outputs: Iterable[Output]) -> None:
    """Carries out what the hunt wants."""
    for output in outputs:
        match output:
            case Invite():
                _invite(call, output)
            case Stop(leg=leg, cause=cause):
                call.do(c.Cancel(leg, cause))
                _silence(call, leg)
            case EndLate(leg=leg):
                call.do(c.Acknowledge(leg, None), c.HangUp(leg, LATE))
                gone(call, leg)
            case Look(aor=aor):
                call.do(c.SetDeadline(Deadline.SETUP, call.policy.setup_s), c.FindTargets(aor))
            case Lost(refusal=refusal):
                call.conclude(Failed(refusal))
            case _:
                assert_never(output)


def _invite(call: CallValue, output: Invite) -> None:
    content = call.content
    has_offer = content is not None and content.is_sdp
    offer = call.media.invite(
        output.leg, output.target.host, content.sdp if content is not None and has_offer else None, call.policy.barred
    )
    if content is not None and offer is not None:
        content = content.with_sdp(offer)
    if call.hunt.legs > 1:
        call.do(c.SetDeadline(Deadline.SILENCE, SILENT_S, output.leg))
    if output.others_wait:
        call.do(c.SetDeadline(Deadline.BRANCH, call.policy.branch_s, output.leg))
    call.do(c.Dial(output.leg, output.target, content, call.headers), c.Emit(c.Record.DIALING, leg=output.leg))


def _silence(call: CallValue, leg: int) -> None:
    """A phone does not ring any more: its early media is not heard, what it was asked is not answered."""
    endpoints = call.media.drop(leg)
    if call.state is not State.CANCELLING:  # there the slot is given back already
        call.tell_relay(endpoints)
    for number, exchange in call.bridge.without(leg).items():
        if exchange.by == CALLER:
            call.do(c.Reply(CALLER, number, 487))


def gone(call: CallValue, leg: int) -> None:
    """A phone said its last word."""
    _silence(call, leg)
    if call.hunt.forget(leg):
        call.do(c.Forget(leg))
    last_word(call)


def media_ready(call: CallValue, signal: e.MediaReady, now: float) -> None:
    """There is a slot: the first phones are invited."""
    call.media.slot, call.reserving = signal.slot, False
    call.do(c.ClearDeadline(Deadline.SETUP), c.SetDeadline(Deadline.NO_ANSWER, call.policy.no_answer_s))
    follow(call, call.hunt.advance(call.policy.hunt))


def media_lost(call: CallValue, signal: e.MediaLost, now: float) -> None:
    """Its relay does not have the call on a slot of which phones were told: they are invited anew with another one.

    Once, and while the caller was not told of the slot too; else the attempt is over, where it is certain. After the
    answer silence ends the call.
    """
    if signal.slot != call.media.slot:
        return
    if call.moved or call.media.followed or call.hunt.sought:
        if signal.is_certain:
            call.conclude(GivenUp(NO_RELAY, UNRELAYED))
        return
    call.moved = call.reserving = True
    call.media.slot = None
    follow(call, call.hunt.again(UNRELAYED))
    call.do(c.ReserveMedia(call.media.of_caller))


def media_moved(call: CallValue, signal: e.MediaReady, now: float) -> None:
    """There is another slot: the phones that rang are invited with its ports."""
    call.media.slot, call.reserving = signal.slot, False
    follow(call, call.hunt.advance(call.policy.hunt))


def media_nowhere(call: CallValue, signal: e.MediaUnavailable, now: float) -> None:
    """No other relay has a slot."""
    call.reserving = False
    call.conclude(GivenUp(NO_RELAY, UNRELAYED))


# --- a call that was sent on


def found_more(call: CallValue, signal: e.Found, now: float) -> None:
    """The phones of a user to whom a phone sent the call on: ringing begins anew."""
    if not call.hunt.sought:
        return
    refusal = unreachable(signal)
    if refusal is not None:
        found_none(call, refusal)
        return
    call.do(c.ClearDeadline(Deadline.SETUP), c.SetDeadline(Deadline.NO_ANSWER, call.policy.no_answer_s))
    follow(call, call.hunt.found(signal.targets, call.policy.hunt))


def found_none(call: CallValue, refusal: Refusal) -> None:
    """That user has none."""
    if call.hunt.sought:
        call.do(c.ClearDeadline(Deadline.SETUP))
        follow(call, call.hunt.missed(refusal, call.policy.hunt))


def not_looked_up(call: CallValue, signal: e.LookupFailed, now: float) -> None:
    """The registrar cannot be asked where that user is."""
    found_none(call, unavailable(signal))


def looked_up_late(call: CallValue, signal: e.Expired, now: float) -> None:
    """It did not answer in time."""
    found_none(call, SETUP_TIMEOUT)


# --- what a phone says


def heard(call: CallValue, signal: e.Heard, now: float) -> None:
    """A phone has the INVITE."""
    call.hunt.hear(signal.leg)


def silent(call: CallValue, signal: e.Expired, now: float) -> None:
    """A phone has said nothing at all for a while."""
    follow(call, call.hunt.silent(signal.leg, call.policy.hunt))


def progress(call: CallValue, signal: e.Progress, now: float) -> None:
    """A phone rings, or sends early media."""
    leg, branch = signal.leg, call.hunt.branch(signal.leg)
    if branch is None or not call.hunt.is_ringing(leg):
        return
    call.hunt.hear(leg)
    may_offer, fork = call.invited_without_offer, signal.fork
    content = carried(call, signal.content, leg, Side.CALLEE, provisional=True, may_offer=may_offer, fork=fork)
    if signal.status != 183 and call.hunt.ring(leg):
        call.do(c.Emit(c.Record.RINGING, status=signal.status, leg=leg))
        call.conclude(Rings())
    if content is not None and not branch.early_media:
        branch.early_media = True
        call.do(c.Emit(c.Record.EARLY_MEDIA, status=signal.status, leg=leg))
    name = fork_name(leg, fork)
    call.do(c.Ring(signal.status, signal.reason, content, name, signal.reliable, signal.headers))


def answered(call: CallValue, signal: e.Answered, now: float) -> None:
    """A phone answered: the first one has the call."""
    leg = signal.leg
    if not call.hunt.is_ringing(leg):
        answered_late(call, signal, now)
        return
    may_offer = call.invited_without_offer
    try:
        content = carry(
            call, signal.content, leg, Side.CALLEE, provisional=False, may_offer=may_offer, fork=signal.fork
        )
    except SessionRefused as error:
        call.do(c.Acknowledge(leg, None), c.HangUp(leg, Cause("session refused", 88)))
        _clear(call, leg)
        outputs = call.hunt.failed(leg, bad_session(error, leg), call.policy.hunt)
        gone(call, leg)
        follow(call, outputs)
        return
    call.conclude(Joined(signal, content))


def joined(call: CallValue, conclusion: Joined, now: float) -> None:
    """The caller and the phone that answered talk; all others stop ringing."""
    signal, content = conclusion.answered, conclusion.content
    leg, may_offer = signal.leg, call.invited_without_offer
    outputs = call.hunt.answered(leg)
    settles = content is None or not content.is_sdp
    call.tell_relay(call.media.choose(leg, signal.fork, settles=settles))
    call.unacknowledged = may_offer
    if not may_offer:
        # RFC 3261 section 13.2.2.4. An INVITE without an offer is answered in its ACK, and by the caller.
        call.do(c.Acknowledge(leg, None))
    call.answered, call.content, call.bridge.callee = now, None, leg
    if call.invitation_s:
        call.do(c.ClearDeadline(Deadline.INVITATION))
    for other in call.hunt.branches:
        _clear(call, other)
    call.do(
        c.ClearDeadline(Deadline.SETUP),
        c.ClearDeadline(Deadline.NO_ANSWER),
        c.SetDeadline(Deadline.LONGEST, call.policy.longest_s),
        c.Emit(c.Record.ANSWERED),
        c.Answer(content, fork_name(leg, signal.fork), signal.headers),
    )
    follow(call, outputs)
    for other in list(call.hunt.branches):
        if call.hunt.forget(other):
            call.do(c.Forget(other))


def answered_late(call: CallValue, signal: e.Answered, now: float) -> None:
    """The answer crossed our CANCEL (RFC 3261 section 9.1): it is confirmed, then ended."""
    follow(call, call.hunt.answered(signal.leg))


def rejected(call: CallValue, signal: e.Rejected, now: float) -> None:
    """A phone refused, could not be reached, or sent the call on."""
    _clear(call, signal.leg)
    outputs = call.hunt.failed(signal.leg, refusal_of(signal), call.policy.hunt, signal.users)
    gone(call, signal.leg)
    follow(call, outputs)


def lost_word(call: CallValue, signal: e.LegLost | e.HungUp, now: float) -> None:
    """A phone that was stopped is not there any more."""
    if call.bridge.has(signal.leg):
        return
    call.hunt.failed(signal.leg, Refusal(signal.leg, NO_ANSWER, Cause()), call.policy.hunt)
    gone(call, signal.leg)


def branch_over(call: CallValue, signal: e.Expired, now: float) -> None:
    """A phone rang for as long as one does while others wait."""
    if call.hunt.groups:
        _leave(call, signal.leg, Refusal(signal.leg, NO_ANSWER, Cause(q850=19)), GONE)


def left(call: CallValue, signal: e.HungUp, now: float) -> None:
    """A BYE before the answer: of the caller it ends the attempt, of a phone its own (RFC 3261 section 15)."""
    q850 = signal.cause.q850 or 16
    side = Side.of(signal.leg)
    ending = Ending(Outcome.CANCELLED, Origin.REMOTE, 487, "Request Terminated", q850, "cancelled", side)
    _left(call, signal.leg, ending, signal.cause)


def unconfirmed(call: CallValue, signal: e.LegLost, now: float) -> None:
    """The caller never confirmed a reliable provisional response: a 5xx for its INVITE (RFC 3262 section 3)."""
    _left(call, signal.leg, ending_of_loss(signal, answered=False), Cause(signal.cause, 102))


def _left(call: CallValue, leg: int, ending: Ending, cause: Cause) -> None:
    if leg == CALLER:
        call.conclude(GivenUp(ending, cause))
    else:
        _leave(call, leg, Refusal(leg, ending, Cause(q850=ending.q850_cause)), cause)


def _leave(call: CallValue, leg: int, refusal: Refusal, cause: Cause) -> None:
    """A phone is not waited for any longer."""
    _clear(call, leg)
    follow(call, call.hunt.gave_up(leg, refusal, cause, call.policy.hunt))


def _clear(call: CallValue, leg: int) -> None:
    """Forgets the phone's own times, where it has some."""
    if call.hunt.legs > 1:
        call.do(c.ClearDeadline(Deadline.BRANCH, leg), c.ClearDeadline(Deadline.SILENCE, leg))
