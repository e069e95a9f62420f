"""How calls end: outcomes, origins and the mapping between SIP statuses and Q.850 causes (RFC 3398 section 8.2.6)."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Final

from pbx_signaling.calls import refusal
from pbx_signaling.calls.signals import Carried, Cause, LegLost, Limited, Ordered, Rejected, Side
from pbx_sip.swift import swift


class Outcome(enum.IntEnum):
    """How an attempt went, numbered as in the events' contract."""

    ANSWERED = 1
    CANCELLED = 2
    BUSY = 3
    REJECTED = 4
    NO_ANSWER = 5
    UNREACHABLE = 6
    FORBIDDEN = 7
    FAILED = 8


class Origin(enum.IntEnum):
    """Where the end of a call came from, numbered as in the events' contract."""

    REMOTE = 1
    TIMER = 2
    ADMIN = 3
    MEDIA_TIMEOUT = 4
    NODE_LOST = 5
    DRAIN = 6
    LOCAL = 7


@swift
@dataclass(frozen=True, slots=True)
class Ending:
    """All that the last event of a call says about why it ended."""

    outcome: Outcome
    origin: Origin
    sip_status: int
    sip_reason: str
    q850_cause: int
    word: str
    """For people and filters: "normal", "no_answer", "user_unknown", ..."""
    by: Side | None = None
    hangup_reason: str = ""
    """The reason that an administrator who ended the call gave; empty where none ended it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one attempt came to nothing, and what its caller would be told of it."""

    leg: int
    """The phone's; 0: there was none."""
    ending: Ending
    cause: Cause
    retry_after_s: int = 0
    headers: Carried = ()
    warning: str = ""
    rank: int = 30
    """Among several the lowest is told (RFC 3261 section 16.7 item 6)."""
    is_unreached: bool = False
    """The phone did not hear of it: another flow may lead there."""

    @property
    def is_final(self) -> bool:
        """Whether it speaks for all phones: a 6xx (RFC 3261 section 21.6)."""
        return self.rank == 0


NO_ANSWER: Final = Ending(Outcome.NO_ANSWER, Origin.TIMER, 480, "Temporarily Unavailable", 19, "no_answer")
NO_RELAY: Final = Ending(Outcome.FAILED, Origin.LOCAL, 503, "", 34, "no_relay")
EXPIRED: Final = Ending(Outcome.NO_ANSWER, Origin.TIMER, 487, "Request Terminated", 19, "expired")
"""The time ran out that the caller gave its INVITE (RFC 3261 section 13.3.1)."""
MEDIA_TIMEOUT: Final = Ending(Outcome.ANSWERED, Origin.MEDIA_TIMEOUT, 200, "OK", 41, "media_timeout")
LONGEST_CALL: Final = Ending(Outcome.ANSWERED, Origin.TIMER, 200, "OK", 31, "longest_call")

REASONS: Final = {200: "OK", 480: "Temporarily Unavailable", 503: "Service Unavailable", 504: "Server Time-out"}
"""Reason phrases of the statuses that an end of our own has."""

Q850: Final = {
    400: 41,
    401: 21,
    402: 21,
    403: 21,
    404: 1,
    405: 63,
    406: 79,
    407: 21,
    408: 102,
    410: 22,
    413: 127,
    414: 127,
    415: 79,
    416: 127,
    420: 127,
    421: 127,
    423: 127,
    480: 18,
    481: 41,
    482: 25,
    483: 25,
    484: 28,
    485: 1,
    486: 17,
    487: 16,
    488: 88,
    500: 41,
    501: 79,
    502: 38,
    503: 41,
    504: 102,
    505: 127,
    513: 127,
    600: 17,
    603: 21,
    604: 1,
    606: 88,
}
"""SIP status to Q.850 cause (RFC 3398 section 8.2.6.1; 487 is normal clearing of an abandoned call)."""

_OUTCOMES: Final = {
    404: (Outcome.UNREACHABLE, "user_unknown"),
    408: (Outcome.NO_ANSWER, "no_response"),
    410: (Outcome.UNREACHABLE, "gone"),
    480: (Outcome.NO_ANSWER, "unavailable"),
    486: (Outcome.BUSY, "busy"),
    487: (Outcome.CANCELLED, "terminated"),
    600: (Outcome.BUSY, "busy"),
    603: (Outcome.REJECTED, "declined"),
    604: (Outcome.UNREACHABLE, "user_unknown"),
    607: (Outcome.REJECTED, "unwanted"),
    608: (Outcome.REJECTED, "rejected"),
}


def ending_of_rejection(rejected: Rejected) -> Ending:
    """What a refusal of the callee means; the status is the one to give to the caller."""
    status = refusal.outside(rejected.status, rejected.headers)
    outcome, word = _OUTCOMES.get(status, (Outcome.FAILED, "refused"))
    if rejected.status < 400:
        # The caller could do nothing with a 3xx of ours: where it points is behind us.
        status, outcome, word = 480, Outcome.UNREACHABLE, "redirected"
    if rejected.local and rejected.status == 503:
        # Its phone cannot be reached: no reason to tell the caller that we are out of service (RFC 3261 16.7 item 6).
        status, outcome, word = 480, Outcome.UNREACHABLE, "transport"
    elif rejected.local:
        word = "no_response"
    reason = rejected.reason if status == rejected.status else ""
    origin = Origin.TIMER if rejected.local else Origin.REMOTE
    side = None if rejected.local else Side.CALLEE
    return Ending(outcome, origin, status, reason, rejected.cause.q850 or Q850.get(status, 31), word, side)


def refusal_of(rejected: Rejected) -> Refusal:
    """What a phone's refusal is worth among those of others."""
    return Refusal(
        rejected.leg,
        ending_of_rejection(rejected),
        rejected.cause,
        rejected.retry_after_s,
        rejected.headers,
        rank=_rank(rejected),
        is_unreached=rejected.local or rejected.status == 430,
    )


def missing(status: int, word: str, outcome: Outcome, q850: int, *, retry_after_s: int = 0, leg: int = 0) -> Refusal:
    """A refusal on our own account."""
    ending = Ending(outcome, Origin.LOCAL, status, "", q850, word)
    return Refusal(leg, ending, Cause(q850=q850), retry_after_s)


def _rank(rejected: Rejected) -> int:
    """The order in which refusals are preferred: a 6xx, else the lowest class; what the caller can act on first.

    A 3xx that is not followed and a challenge say nothing to the caller (`refusal.outside`), a phone that was not there
    says least.
    """
    status = rejected.status
    if rejected.local:
        return 70 if status == 503 else 40
    if status >= 500:
        return 0 if status >= 600 else 60
    if status < 400:
        return 50
    told = refusal.outside(status, rejected.headers)
    return _RANKS.get(told, 30) if told == status else 35


_RANKS: Final = {415: 10, 484: 10, 486: 11, 488: 12}
"""What the caller can change, then what a person would like to know; all other 4xx are alike."""


def ending_of_refusal(status: int) -> Ending:
    """What our own refusal of the caller's credentials means."""
    return Ending(Outcome.FORBIDDEN, Origin.LOCAL, status, "", Q850.get(status, 21), "authentication")


def ending_of_limit(limited: Limited) -> Ending:
    """What it means that a call would be one too many: for its caller, for its callee, or for a time (503)."""
    outcome = Outcome.FAILED if limited.status == 503 else Outcome.FORBIDDEN
    if limited.word == "callee_ringing":
        outcome = Outcome.BUSY
    return Ending(outcome, Origin.LOCAL, limited.status, "", Q850.get(limited.status, 21), limited.word)


def ending_of_order(order: Ordered, *, answered: bool) -> Ending:
    """What an order of the administration, or of a shutdown, means for a call."""
    ending = _ending_of_order(order.drain, answered=answered)
    return ending if order.drain else replace(ending, hangup_reason=order.reason)


def _ending_of_order(drain: bool, *, answered: bool) -> Ending:
    origin, word = (Origin.DRAIN, "shutdown") if drain else (Origin.ADMIN, "admin")
    if answered:
        return Ending(Outcome.ANSWERED, origin, 200, "OK", 31, word)
    status, q850 = (503, 41) if drain else (480, 31)
    return Ending(Outcome.FAILED, origin, status, REASONS[status], q850, word)


def ending_of_loss(lost: LegLost, *, answered: bool) -> Ending:
    """What it means that a side did not do in time what it must."""
    outcome, status = (Outcome.ANSWERED, 200) if answered else (Outcome.FAILED, 504)
    return Ending(outcome, Origin.TIMER, status, REASONS[status], 102, lost.cause, Side.of(lost.leg))
