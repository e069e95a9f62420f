"""What a leg remembers with what it has sent: a request that waits for its response, a response that is repeated."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbx_signaling.calls.signals import Ask

if TYPE_CHECKING:
    from pbx_signaling.calls.commands import Pass
    from pbx_signaling.legs.leg import Leg
    from pbx_signaling.legs.port import Key
    from pbx_sip.dialog.dialog import Dialog
    from pbx_sip.dialog.repetition import Repetition
    from pbx_sip.message.message import Response


class Purpose(enum.IntEnum):
    """Why a request was sent."""

    INVITE = 0
    ASK = 1
    BYE = 2
    REFRESH = 3
    """Keep the session of this leg alive (RFC 4028); the call does not hear of it."""


class Timer(enum.IntEnum):
    """Deadlines of a leg."""

    REPEAT_ANSWER = 0
    REPEAT_PROGRESS = 1
    SESSION = 2


@dataclass(slots=True)
class Sent:
    """What is remembered with a request that was sent: the owner of its transaction."""

    leg: Leg
    purpose: Purpose
    dialog: Dialog | None = None
    exchange: int = 0
    ask: Ask = Ask.MODIFY
    cseq: int = 0
    command: Pass | None = None
    """What it carries out, where it may have to be sent again."""
    patience_s: float = 0.0
    """How long a first response is waited for, where not as long as always: its peer is thought to be gone."""


@dataclass(slots=True)
class Repeated:
    """A response that is sent again and again until it is confirmed."""

    response: Response
    key: Key
    cseq: int
    repetition: Repetition
    handle: object = None
    exchange: int = 0
    """The exchange answered; 0: the INVITE that began the call."""
