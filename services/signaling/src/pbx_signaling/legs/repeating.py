"""The positive answer to an INVITE, sent again until its ACK comes (RFC 3261 section 13.3.1.4), over any transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbx_signaling.calls.signals import LegLost
from pbx_signaling.legs.sent import Repeated, Timer
from pbx_sip.dialog.repetition import Due, Repetition

if TYPE_CHECKING:
    from pbx_signaling.legs.leg import Leg
    from pbx_signaling.legs.port import Key
    from pbx_sip.message.message import Response


def begin(leg: Leg, response: Response, key: Key, cseq: int, exchange: int = 0) -> None:
    """A 2xx was sent: it is sent again until `stop`."""
    stop(leg)
    repetition = Repetition.of_answer(leg.sip.now, leg.sip.timers)
    leg.answer = Repeated(response, key, cseq, repetition, None, exchange)
    _watch(leg, leg.answer)


def stop(leg: Leg) -> None:
    """The answer was confirmed, or does not matter any more."""
    answer, leg.answer = leg.answer, None
    if answer is not None and answer.handle is not None:
        leg.sip.unschedule(answer.handle)


def due(leg: Leg) -> None:
    """The moment of the next repetition, or of giving up."""
    answer = leg.answer
    if answer is None:
        return
    match answer.repetition.expire(leg.sip.now):
        case Due.GIVE_UP:
            leg.answer = None
            leg.tell(LegLost(leg.number, "no_ack"))
        case Due.SEND:
            leg.sip.respond(answer.key, answer.response)
            _watch(leg, answer)
        case Due.NOTHING:
            _watch(leg, answer)


def _watch(leg: Leg, answer: Repeated) -> None:
    answer.handle = leg.sip.schedule(leg, answer.repetition.at, Timer.REPEAT_ANSWER)
