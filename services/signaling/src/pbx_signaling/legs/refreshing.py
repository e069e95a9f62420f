"""The part of a leg that keeps its session alive (RFC 4028): agreeing, refreshing, noticing that nobody does.

The call hears of it only when the session is lost, or when the answer to a refresh moved the peer's media.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbx_signaling.border import wire
from pbx_signaling.calls.signals import CALLER, Ask, LegLost, Refreshed
from pbx_signaling.legs import body, session
from pbx_signaling.legs.sent import Purpose, Sent, Timer
from pbx_sip.dialog.offer_answer import glare_wait_s
from pbx_sip.dialog.session_timer import Duty
from pbx_sip.message.message import Request, Response, response_to

if TYPE_CHECKING:
    from pbx_signaling.legs.leg import Leg
    from pbx_signaling.legs.port import Key
    from pbx_signaling.legs.session import Session
    from pbx_sip.dialog.dialog import Dialog


def grant(leg: Leg, request: Request, response: Response) -> None:
    """Agrees to the session timer that the peer asks for, in our 2xx."""
    keep(leg, session.grant(request, response, leg.sip.sessions, leg.session, leg.sip.now))


def granted(leg: Leg, response: Response) -> None:
    """Takes over what the peer's 2xx agrees to."""
    policy = leg.sip.sessions if leg.session is None else leg.session.policy
    keep(leg, session.granted(response, policy, leg.session, leg.sip.now))


def keep(leg: Leg, agreed: Session | None) -> None:
    """Replaces the leg's timer; None: there is none any more."""
    old = leg.session
    if old is not None and old.handle is not None:
        leg.sip.unschedule(old.handle)
    leg.session = agreed
    if agreed is not None:
        agreed.handle = leg.sip.schedule(leg, agreed.timer.next_timeout, Timer.SESSION)


def due(leg: Leg) -> None:
    """Its deadline passed: refreshes, or tells that the session is over."""
    kept, dialog = leg.session, leg.dialog
    if kept is None or dialog is None:
        return
    kept.handle = None
    duty = kept.timer.due(leg.sip.now)
    if duty is Duty.END:
        leg.tell(LegLost(leg.number, "session_expired"))
    elif duty is Duty.REFRESH:
        _refresh(leg, kept, dialog)
    else:
        kept.handle = leg.sip.schedule(leg, kept.timer.next_timeout, Timer.SESSION)


def _refresh(leg: Leg, kept: Session, dialog: Dialog) -> None:
    """Sends our refresh; where the session is just being changed, later."""
    if _is_modifying(leg):
        _later(leg, kept, session.BUSY_S)
        return
    request = leg.request(dialog, "UPDATE" if kept.allows_update else "INVITE")
    cseq = dialog.local_cseq
    if not kept.allows_update:
        body.put_content(request, leg.sent_session)
        leg.confirming[cseq] = (dialog, 0, None)
    _later(leg, kept, kept.timer.ends_at - leg.sip.now)
    sent = Sent(leg, Purpose.REFRESH, dialog, cseq=cseq)
    leg.sip.send(request, leg.flow_of(dialog), sent)


def _later(leg: Leg, kept: Session, after_s: float) -> None:
    if kept.handle is not None:
        leg.sip.unschedule(kept.handle)
    at = min(leg.sip.now + after_s, kept.timer.ends_at)
    kept.handle = leg.sip.schedule(leg, at, Timer.SESSION)


def _is_modifying(leg: Leg) -> bool:
    """Whether a change of the session is under way in this dialog, by either side, or an answer unconfirmed."""
    return bool(leg.asked) or leg.answer is not None or leg.confirming_offer


def responded(leg: Leg, sent: Sent, response: Response) -> None:
    """An answer to our refresh."""
    status, dialog = response.status, sent.dialog
    if status < 200 or dialog is None:
        return
    is_new = _settle(leg, sent, response, dialog)
    kept = leg.session
    if leg.terminated or kept is None or not is_new:
        return
    if status < 300:
        dialog.refresh_target(response)
        granted(leg, response)
        content = body.content_of(response)
        if content is not None:
            leg.tell(Refreshed(leg.number, content))
    elif status in (408, 481):
        leg.tell(LegLost(leg.number, "dialog_gone"))
    else:
        _refused(leg, kept, response)


def _settle(leg: Leg, sent: Sent, response: Response, dialog: Dialog) -> bool:
    """Confirms the 2xx to a re-INVITE of ours; False where it is repeated."""
    waiting = leg.confirming.get(sent.cseq)
    if waiting is None or response.status >= 300:
        leg.confirming.pop(sent.cseq, None)
        return True
    if waiting[2] is None:
        leg.send_ack(dialog, sent.cseq, 0, None)
        return True
    leg.sip.send_ack(waiting[2], leg.flow_of(dialog))
    return False


def _refused(leg: Leg, kept: Session, response: Response) -> None:
    """The session goes on until its end; what can be mended is tried before (section 10, RFC 3261 section 14.1)."""
    if response.status == 422:
        kept.policy = kept.policy.raised(response) or kept.policy
        after = 0.0
    elif response.status in (405, 501) and kept.allows_update:
        kept.allows_update, after = False, 0.0
    elif response.status == 491:
        after = glare_wait_s(leg.number != CALLER, wire.chance())  # of the callee's leg, the Call-ID is ours
    else:
        after = max(session.RETRY_S, float(wire.seconds(response.first("Retry-After"))))
    _later(leg, kept, max(after, 0.1))


def asked_again(leg: Leg, sent: Sent, response: Response) -> bool:
    """Sends what the other side asked once more, with the interval that a 422 wants (section 7.3)."""
    kept = leg.session
    raised = kept.policy.raised(response) if kept is not None else None
    withdrawn = sent.ask is Ask.MODIFY and sent.exchange != leg.modifying[0]
    if kept is None or raised is None or sent.command is None or withdrawn:
        return False
    kept.policy = raised
    leg.pass_(sent.command)
    return True


def by_peer(leg: Leg, key: Key, request: Request, dialog: Dialog) -> None:
    """An UPDATE without a session description: it refreshes session and target of this leg alone."""
    response = response_to(request, 200)
    response.headers.append("Contact", leg.sip.contact(leg.flow, leg.secure))
    response.headers.append("Allow", wire.ALLOW)
    dialog.refresh_target(request)
    if dialog is leg.dialog:
        grant(leg, request, response)
    leg.sip.respond(key, response)
