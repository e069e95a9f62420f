"""What a refusal of one side means for the other: which status crosses, which becomes another, where a hunt goes on.

A status that only makes sense with a header field (a challenge, Allow, Unsupported, ...), or about what we wrote and
the other side did not, would make its phone repeat itself, ask for a password, or leave us. Pure, and the same for
calls and messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

ACCEPTS: Final = ("Accept", "Accept-Encoding", "Accept-Language")
"""What makes a 415 complete (RFC 3261 section 21.4.13): it is about the body, which is the other side's own."""

_OUTSIDE: Final = {
    401: 403,  # a challenge of the callee's: the caller has no credentials there
    407: 403,
    405: 500,  # the callee takes no INVITE or no MESSAGE at all
    415: 488,
    420: 500,  # about what we wrote: the caller's Require was met, or refused, here
    421: 480,  # the callee wants an extension that nobody offered
    423: 500,
    469: 500,
    489: 500,
    494: 403,  # security mechanisms are agreed hop by hop (RFC 3329)
    503: 480,  # one phone is out of service; the caller would leave the whole PBX (RFC 3261 16.7 item 6, 21.5.4)
}
_INSIDE: Final = {401: 403, 407: 403, 415: 488, 420: 500, 421: 500, 422: 500, 423: 500, 489: 500, 494: 403, 503: 500}
_OF_SESSION: Final = {405, 415, 420, 421, 422, 423}
"""To an offer inside a call all of them say: not with this; the session stays as it was (RFC 3261 section 14.1)."""


def tries_next(status: int, *, local: bool) -> bool:
    """Whether the next target is tried: the last one cannot be reached, or is not able to answer (RFC 3261 16.7)."""
    return local or status in (408, 430, 503)


def outside(status: int, explanation: Iterable[tuple[str, str]] = ()) -> int:
    """The status for who began a call, or sent a message, that another refused; `explanation`: what crosses with it."""
    if status < 400:
        return 480  # a 3xx of ours: where it points is behind us
    if status == 415 and _is_explained(explanation):
        return status
    return _OUTSIDE.get(status, status)


def inside(status: int, *, is_offer: bool, explanation: Iterable[tuple[str, str]] = ()) -> int:
    """The status for who asked something inside a call that the other side refused; `is_offer`: to change the session.

    Chosen among those that end neither dialog nor usage where the refusal did not (RFC 5057 section 5).
    """
    if status < 300:
        return status
    if is_offer and (status < 400 or status in _OF_SESSION):
        return 488
    if status < 400:
        return 500
    if status == 415 and _is_explained(explanation):
        return status
    return _INSIDE.get(status, status)


def _is_explained(headers: Iterable[tuple[str, str]]) -> bool:
    return any(name in ACCEPTS for name, _ in headers)
