"""Session descriptions on their way through a call: turned into what the other side gets, and told to the relay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbx_signaling.media.endpoint import SessionRefused

if TYPE_CHECKING:
    from pbx_signaling.calls.signals import Content, Side
    from pbx_signaling.calls.value import CallValue


def carry(
    call: CallValue,
    content: Content | None,
    leg: int,
    side: Side,
    *,
    provisional: bool = False,
    may_offer: bool = True,
    fork: str = "",
) -> Content | None:
    """What the other side gets of what `side` sent in the exchange with the callee's `leg`. Raises SessionRefused."""
    if content is None or not content.is_sdp:
        return content
    data, endpoints = call.media.carry(
        leg, side, content.sdp, call.policy.barred, provisional=provisional, may_offer=may_offer, fork=fork
    )
    call.tell_relay(endpoints)
    return content.with_sdp(data)


def carried(
    call: CallValue,
    content: Content | None,
    leg: int,
    side: Side,
    *,
    provisional: bool = False,
    may_offer: bool = True,
    fork: str = "",
) -> Content | None:
    """As `carry`, where a session description that cannot be read is left out instead."""
    try:
        return carry(call, content, leg, side, provisional=provisional, may_offer=may_offer, fork=fork)
    except SessionRefused:
        return None
