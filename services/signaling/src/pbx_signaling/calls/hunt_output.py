"""What a hunt wants of its call, in order: frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from pbx_signaling.calls.ending import Refusal
from pbx_signaling.calls.signals import Cause, Target


@dataclass(frozen=True, slots=True)
class Invite:
    """Invite a phone."""

    leg: int
    target: Target
    others_wait: bool
    """Others come after it: it has only its own time to answer."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Tell a phone to stop ringing."""

    leg: int
    cause: Cause


@dataclass(frozen=True, slots=True)
class EndLate:
    """End what a phone answered that was stopped (RFC 3261 section 9.1)."""

    leg: int


@dataclass(frozen=True, slots=True)
class Look:
    """Look the phones of an address-of-record up: a phone sent the call on."""

    aor: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Nobody answers: the best of all refusals."""

    refusal: Refusal


Output = Invite | Stop | EndLate | Look | Lost
