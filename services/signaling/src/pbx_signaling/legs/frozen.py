"""Legs as values: what another process needs to go on with them, typed and versioned.

All fields of a leg, those of its usages as `pbx_sip.usage.frozen` has them: messages that may have to be sent again as
bytes, times as seconds of the wall clock. Not among them is what the leg is connected to: its call and its port.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pbx_signaling.calls.signals import Cause, Content, Target
from pbx_signaling.legs.exchange import Question, Waiting
from pbx_sip.errors import LocalError
from pbx_sip.transaction.events import ClientKey, ServerKey
from pbx_sip.usage.frozen import FrozenFlow, FrozenInviteUac, FrozenInviteUas
from pbx_sip.usage.refresh import FrozenRefresh

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class FrozenLeg:
    """What both kinds of legs have."""

    number: int
    flow: FrozenFlow
    call_id: str
    first_hop: str
    secure: bool
    refresh: FrozenRefresh
    asked: tuple[tuple[int, Waiting], ...]
    answering: tuple[tuple[int, int], ...]
    sent: tuple[tuple[ClientKey, Question], ...]
    confirming: tuple[tuple[int, int], ...]
    described: Content | None
    local_tags: tuple[str, ...]
    remote_user_agent: str
    final_status: int
    terminated: bool
    is_over: bool
    waiting_bye: ServerKey | None
    exchanges: int


@dataclass(frozen=True, slots=True)
class FrozenInbound:
    """`caller.InboundLeg`."""

    leg: FrozenLeg
    uas: FrozenInviteUas
    needs_reliable: bool
    takes_reliable: bool
    relayed: tuple[tuple[tuple[str, int], int], ...]
    farewell: Cause | None
    told: tuple[tuple[str, Content], ...]
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class FrozenOutbound:
    """`callee.OutboundLeg`."""

    leg: FrozenLeg
    uac: FrozenInviteUac | None
    is_answered: bool
    """Its session is that of the call; a 2xx that crossed our CANCEL makes one that is not."""
    target: Target | None
    patience_s: float
    relays_prack: bool
    reached: bool
    version: int = VERSION


def check(version: int) -> None:
    """Raises LocalError for a struct that a newer release wrote."""
    if version > VERSION:
        raise LocalError(f"a leg of version {version}, newer than {VERSION}")
