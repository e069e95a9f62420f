"""A call before a phone is invited: the caller proves who it is, the callee is looked up, a slot is taken."""

from __future__ import annotations

from typing import Final

from pbx_signaling.calls import commands as c
from pbx_signaling.calls import signals as e
from pbx_signaling.calls.ending import (
    NO_RELAY,
    Ending,
    Origin,
    Outcome,
    Refusal,
    ending_of_limit,
    ending_of_refusal,
    missing,
)
from pbx_signaling.calls.finish import end, settle
from pbx_signaling.calls.signals import Cause, Deadline
from pbx_signaling.calls.value import CallValue, Failed, Reachable
from pbx_signaling.media.endpoint import SessionRefused

SETUP_TIMEOUT: Final = missing(503, "setup_timeout", Outcome.FAILED, 41, retry_after_s=5)
UNRELAYED: Final = Refusal(0, NO_RELAY, Cause(q850=34), 5)


def begin(call: CallValue, *, authenticate: bool) -> None:
    """Asks who calls, where they have to prove it, and where the callee is."""
    call.do(c.SetDeadline(Deadline.SETUP, call.policy.setup_s))
    if authenticate:
        call.do(c.Authenticate())


def authenticated(call: CallValue, signal: e.Authenticated, now: float) -> None:
    """The caller is who it says: from here on the attempt has a CDR."""
    call.caller, call.caller_name = signal.user, signal.display_name
    if call.invitation_s:
        call.do(c.SetDeadline(Deadline.INVITATION, call.invitation_s))
    call.initiate()
    known, call.found, call.unfound = call.found or call.unfound, None, None
    if known is not None:
        call.conclude(known)


def found_before(call: CallValue, signal: e.Found, now: float) -> None:
    """Where the callee is: it counts once the caller is who it claims to be."""
    call.found = signal


def unfound_before(call: CallValue, signal: e.LookupFailed, now: float) -> None:
    """Nobody can tell where the callee is: likewise."""
    call.unfound = signal


def refused(call: CallValue, signal: e.Refused, now: float) -> None:
    """The caller is not let in; where its nonce was only old, it is asked again and nothing is written."""
    if signal.stale:
        call.do(c.Reject(signal.status, challenge=True, stale=True))
        settle(call)
        return
    call.do(c.Count())
    end(call, ending_of_refusal(signal.status), now, c.Reject(signal.status, retry_after_s=signal.retry_after_s))


def limited(call: CallValue, signal: e.Limited, now: float) -> None:
    """Beyond a limit; floods of such attempts are counted, not written down one by one."""
    call.reserving = False
    if not call.initiated:
        call.do(c.Count())
    reject = c.Reject(signal.status, retry_after_s=signal.retry_after_s, warning=signal.warning)
    end(call, ending_of_limit(signal), now, reject)


def found(call: CallValue, signal: e.Found, now: float) -> None:
    """Where the callee is."""
    refusal = unreachable(signal)
    if refusal is not None:
        call.conclude(Failed(refusal))
        return
    call.hunt.begin(call.aor, signal.targets, call.policy.hunt)
    call.conclude(Reachable())


def unreachable(found: e.Found) -> Refusal | None:
    """Why nobody can be reached there; None: somebody can."""
    if not found.known:
        return missing(404, "user_unknown", Outcome.UNREACHABLE, 1)
    if found.is_own:
        return missing(486, "own_phone", Outcome.BUSY, 17)
    if not found.targets:
        return missing(480, "not_registered", Outcome.UNREACHABLE, 20)
    return None


def allocate(call: CallValue, signal: Reachable, now: float) -> None:
    """Takes the caller's offer in, and a slot for it."""
    content = call.content
    try:
        endpoints = (
            call.media.first_offer(content.sdp, call.policy.barred) if content is not None and content.is_sdp else []
        )
    except SessionRefused as error:
        call.conclude(Failed(bad_session(error)))
        return
    call.reserving = True
    call.do(c.ReserveMedia(endpoints))


def bad_session(error: SessionRefused, leg: int = 0) -> Refusal:
    """A session description that cannot be carried."""
    ending = Ending(Outcome.FAILED, Origin.LOCAL, 488, "", 88, "bad_session")
    return Refusal(leg, ending, Cause(q850=88), warning=str(error), rank=12)


def no_media(call: CallValue, signal: e.MediaUnavailable, now: float) -> None:
    """No relay has a slot."""
    call.reserving = False
    call.conclude(Failed(UNRELAYED))


def no_service(call: CallValue, signal: e.ServiceFailed, now: float) -> None:
    """The registrar cannot be asked."""
    call.conclude(Failed(unavailable(signal)))


def unavailable(signal: e.ServiceFailed) -> Refusal:
    """What it means that the registrar cannot be asked."""
    return missing(503, "service_unavailable", Outcome.FAILED, 41, retry_after_s=signal.retry_after_s or 5)


def late(call: CallValue, signal: e.Expired, now: float) -> None:
    """Credentials, look-up and slot took too long together."""
    call.conclude(Failed(SETUP_TIMEOUT))
