"""What signals and commands speak of: sides and legs, bodies, causes, keys, targets. Frozen, without behaviour."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from pbx_sip.swift import swift

Carried = tuple[tuple[str, str], ...]
"""Header fields on their way to the other leg; opaque to call logic."""
CALLER: Final = 0
"""The caller's leg. Legs of the callee are numbered from 1, one for each attempt to reach it."""


class Side(enum.IntEnum):
    """The two sides of a call, numbered as in the relay's contract."""

    CALLER = 1
    CALLEE = 2

    @property
    def other(self) -> Side:
        """The opposite side."""
        return Side.CALLEE if self is Side.CALLER else Side.CALLER

    @classmethod
    def of(cls, leg: int) -> Side:
        """The side to which a leg belongs."""
        return cls.CALLEE if leg else cls.CALLER


class Ask(enum.IntEnum):
    """Requests that one side makes of the other inside a call."""

    MODIFY = 0
    """Change the session, with three steps: re-INVITE."""
    UPDATE = 1
    """Change the session, with two steps (RFC 3311)."""
    CONFIRM_PROGRESS = 2
    """Acknowledge a reliable provisional answer: PRACK (RFC 3262)."""
    INFORM = 3
    """Application data: INFO (RFC 6086)."""
    MESSAGE = 4
    """An instant message within the call (RFC 3428)."""


@swift
@dataclass(frozen=True, slots=True)
class Content:
    """A body: an SDP session description, something opaque, or several parts with a description among them."""

    type: str
    data: bytes
    disposition: str = ""
    span: tuple[int, int] | None = None
    """In a body of several parts: the first octet of the session description, and the one after its last."""

    @property
    def is_sdp(self) -> bool:
        """Whether it holds a session description."""
        return self.span is not None or self.type.partition(";")[0].strip().lower() == "application/sdp"

    @property
    def sdp(self) -> bytes:
        """The session description."""
        return self.data if self.span is None else self.data[slice(*self.span)]

    def with_sdp(self, sdp: bytes) -> Content:
        """The same body with another session description."""
        if self.span is None:
            return Content(self.type, sdp, self.disposition)
        start, end = self.span
        return Content(
            self.type, self.data[:start] + sdp + self.data[end:], self.disposition, (start, start + len(sdp))
        )


@swift
@dataclass(frozen=True, slots=True)
class Cause:
    """Why a call or a leg ends: the Reason headers (RFC 3326), where there were any."""

    text: str = ""
    q850: int = 0
    q850_location: str = ""
    """Where the cause arose, as Q.850 has it ("LN"; RFC 8606)."""
    others: tuple[str, ...] = ()
    """Reasons of other protocols (SIP, Preemption), as values of the header."""


@dataclass(frozen=True, slots=True)
class Pressed:
    """A DTMF key that was pressed, as phones and gateways say it in INFO."""

    digit: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Target:
    """One way to reach the callee: a binding."""

    uri: str
    aor: str
    path: tuple[str, ...]
    transport: int
    host: str
    port: int
    listener: str
    connection: int
    instance: str
    unreachable: bool = False
    """Its phone does not answer any more, so far as is known."""
    q_thousandths: int = 1_000
    """How much the callee prefers it (RFC 3261 section 20.10): the higher the sooner."""
    sip_instance: str = ""
    """Of the phone (RFC 5626 section 4.1): several flows to one have the same; empty where it says none."""
