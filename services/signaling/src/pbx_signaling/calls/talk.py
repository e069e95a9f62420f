"""What two legs ask of each other: offers and answers, hold, keys, text; before an answer each phone for itself."""

from __future__ import annotations

from pbx_signaling.calls import commands as c
from pbx_signaling.calls import refusal
from pbx_signaling.calls import signals as e
from pbx_signaling.calls.bridge import MAX_EXCHANGES, OFFERING, Exchange, fork_name, fork_of
from pbx_signaling.calls.session import carried, carry
from pbx_signaling.calls.signals import CALLER, Ask, Content, Side
from pbx_signaling.calls.state import State
from pbx_signaling.calls.value import CallValue
from pbx_signaling.media.endpoint import SessionRefused


def acknowledged(call: CallValue, signal: e.Acknowledged, now: float) -> None:
    """The caller confirmed the answer."""
    leg = call.bridge.callee
    content = carried(call, signal.content, leg, Side.CALLER, may_offer=False)
    _settle_offer(call, leg, Side.CALLER)
    call.unacknowledged = False
    call.do(c.Acknowledge(leg, content))


def asked(call: CallValue, signal: e.Asked, now: float) -> None:
    """A leg asks something of the other."""
    leg, number = signal.leg, signal.exchange
    other, fork = _other(call, signal)
    phone = leg or other
    if phone not in call.media.legs:
        call.do(c.Reply(leg, number, 481))
        return
    if len(call.bridge.exchanges) >= MAX_EXCHANGES:
        call.do(c.Reply(leg, number, 500, retry_after_s=2))
        return
    if call.state is State.ANSWERED and leg != CALLER and signal.ask in (Ask.MODIFY, Ask.UPDATE):
        # The callee is confirmed, the caller may not have heard its answer yet: as glare (RFC 3261 section 14.2).
        call.do(c.Reply(leg, number, 491))
        return
    content, offered = signal.content, False
    if content is not None and content.is_sdp and signal.ask in OFFERING:
        try:
            content, offered = _offer_inside(call, content, signal, phone), True
        except SessionRefused as error:
            call.do(c.Reply(leg, number, error.status))
            return
    pressed = signal.pressed
    if pressed is not None and call.bridge.take_digit():
        side = Side.of(leg)
        call.do(c.Emit(c.Record.DTMF, side=side, digit=pressed.digit, duration_ms=pressed.duration_ms))
    call.bridge.exchanges[number] = Exchange(leg, other, signal.ask, offered)
    call.do(c.Pass(other, number, signal.ask, content, fork, signal.package, signal.confirms, signal.headers))


def _other(call: CallValue, signal: e.Asked) -> tuple[int, str]:
    """Whom a leg asks, and in which of its early dialogs."""
    if call.bridge.callee:
        _, tag = fork_of(signal.fork) if signal.leg == CALLER else (0, signal.fork)
        return call.bridge.other(signal.leg), tag
    if signal.leg == CALLER:
        return fork_of(signal.fork)
    return CALLER, fork_name(signal.leg, signal.fork)


def _offer_inside(call: CallValue, content: Content, signal: e.Asked, phone: int) -> Content:
    side, session = Side.of(signal.leg), call.media.legs[phone]
    if signal.ask is Ask.CONFIRM_PROGRESS and session.owes_answer(side):
        return carry(call, content, phone, side) or content
    return content.with_sdp(session.offer(side, content.sdp, call.policy.barred))


def replied(call: CallValue, signal: e.Replied, now: float) -> None:
    """A leg answered what it was asked."""
    exchange = call.bridge.exchanges.get(signal.exchange)
    if exchange is None or exchange.to != signal.leg:
        return
    content, final = signal.content, signal.status >= 200
    session = call.media.legs[exchange.phone]
    asker = Side.of(exchange.by)
    if final and exchange.ask is not Ask.MODIFY:
        del call.bridge.exchanges[signal.exchange]
    if signal.status >= 300:
        call.bridge.exchanges.pop(signal.exchange, None)
        if exchange.offered:
            session.rollback(asker)
    elif content is not None and content.is_sdp and exchange.ask in OFFERING:
        may_offer = exchange.ask is Ask.MODIFY and not exchange.offered
        try:
            content = carry(
                call, content, exchange.phone, Side.of(signal.leg), provisional=not final, may_offer=may_offer
            )
        except SessionRefused as error:
            if final and exchange.offered:
                _refuse_answer(call, signal, exchange, error)
                return
            content = None
        _note_hold(call, exchange.phone, asker)
    if final and signal.status < 300 and exchange.offered and exchange.ask is not Ask.CONFIRM_PROGRESS:
        session.abandon(asker)
    status = refusal.inside(signal.status, is_offer=exchange.offered, explanation=signal.headers)
    reason = signal.reason if status == signal.status else ""
    rest = content, signal.retry_after_s, signal.headers
    call.do(c.Reply(exchange.by, signal.exchange, status, reason, *rest))


def _refuse_answer(call: CallValue, signal: e.Replied, exchange: Exchange, error: SessionRefused) -> None:
    """An offer was accepted with an answer that cannot be read: for its maker it was refused (RFC 3261 14.2)."""
    call.bridge.exchanges.pop(signal.exchange, None)
    call.media.legs[exchange.phone].rollback(Side.of(exchange.by))
    if exchange.ask is Ask.MODIFY:
        call.do(c.Confirm(signal.leg, signal.exchange, None))
    call.do(c.Reply(exchange.by, signal.exchange, error.status))


def withdrawn(call: CallValue, signal: e.Withdrawn, now: float) -> None:
    """The asker of MODIFY cancelled it."""
    exchange = call.bridge.exchanges.get(signal.exchange)
    if exchange is not None and exchange.by == signal.leg:
        call.do(c.Withdraw(exchange.to, signal.exchange, signal.cause))


def confirmed(call: CallValue, signal: e.Confirmed, now: float) -> None:
    """The asker of MODIFY confirmed the positive answer."""
    exchange = call.bridge.exchanges.pop(signal.exchange, None)
    if exchange is None:
        return
    side = Side.of(signal.leg)
    content = carried(call, signal.content, exchange.phone, side, may_offer=False)
    _settle_offer(call, exchange.phone, side)
    if content is not None:
        _note_hold(call, exchange.phone, side)
    call.do(c.Confirm(exchange.to, signal.exchange, content))


def refreshed(call: CallValue, signal: e.Refreshed, now: float) -> None:
    """An answer that should say what the last one said; where it does not, the relay follows it."""
    carried(call, signal.content, call.bridge.callee, Side.of(signal.leg), may_offer=False)


def _settle_offer(call: CallValue, phone: int, by: Side) -> None:
    """An ACK came: what it should have answered and did not is never answered."""
    if not call.bridge.is_offering:
        call.media.legs[phone].abandon(by.other)


def _note_hold(call: CallValue, phone: int, by: Side) -> None:
    """Tells of hold and resume after an exchange in which `by` changed the session.

    Its peer answers within what was offered: that is no hold of its own. But one that takes all that it is offered
    does not hold any more, and one that does not holds.
    """
    session = call.media.legs[phone]
    holds = session.holds(by)
    _note(call, by, holds)
    if not holds and (by.other in call.bridge.held) != session.holds(by.other) and session.is_open(by):
        _note(call, by.other, session.holds(by.other))


def _note(call: CallValue, by: Side, holds: bool) -> None:
    if call.bridge.note_hold(by, holds):
        call.do(c.Emit(c.Record.HELD if holds else c.Record.RESUMED, side=by))
