"""Two parties joined: what they have asked of each other, who holds, which keys were pressed.

A party is a leg. The caller's is there from the first INVITE, the callee's from its answer on; before it, each phone
that rings talks to the caller on its own. Who the parties are is a field and not a place in the code, so that another
may take a party's place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pbx_signaling.calls.signals import CALLER, Ask, Side

OFFERING: Final = (Ask.MODIFY, Ask.UPDATE, Ask.CONFIRM_PROGRESS)
"""Requests inside a call whose session description is an offer or an answer; in others it is anybody's text."""
MAX_EXCHANGES: Final = 16
"""Requests under way inside one call. Threat: a phone that asks without end while the other does not answer."""
MAX_DIGITS: Final = 1_024
"""DTMF digits of one call that become events. Threat: a phone that sends INFO without end fills the event stream."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request of one leg to another that is under way."""

    by: int
    """The leg that asks."""
    to: int
    """The leg that is asked."""
    ask: Ask
    offered: bool
    """It carried a session description, which is an offer (in CONFIRM_PROGRESS perhaps an answer)."""

    @property
    def phone(self) -> int:
        """The callee's leg in it: that whose session it is about."""
        return self.by or self.to


@dataclass(slots=True)
class Bridge:
    """The parties of one call and what is under way between them."""

    caller: int = CALLER
    callee: int = 0
    """The leg of the phone that answered; 0: none has."""
    exchanges: dict[int, Exchange] = field(default_factory=dict)
    """By the number that the asking leg gave it."""
    held: list[Side] = field(default_factory=list)
    """The sides that hold the other; each of them takes back its own hold."""
    digits: int = 0
    """DTMF digits that were told of."""

    def other(self, leg: int) -> int:
        """The party at the other end of an answered call."""
        return self.callee if leg == self.caller else self.caller

    def has(self, leg: int) -> bool:
        """Whether a leg is one of the parties."""
        return leg == self.caller or (leg == self.callee and leg != CALLER)

    @property
    def is_offering(self) -> bool:
        """Whether an offer is under way."""
        return any(exchange.offered for exchange in self.exchanges.values())

    def note_hold(self, side: Side, holds: bool) -> bool:
        """Notes whether a side holds the other; whether that is news."""
        if holds == (side in self.held):
            return False
        self.held = [each for each in self.held if each is not side] + ([side] if holds else [])
        return True

    def take_digit(self) -> bool:
        """Whether one more digit is told of."""
        if self.digits >= MAX_DIGITS:
            return False
        self.digits += 1
        return True

    def without(self, leg: int) -> dict[int, Exchange]:
        """Ends the exchanges with a leg that is gone; answers them."""
        gone = {number: each for number, each in self.exchanges.items() if leg in (each.by, each.to)}
        for number in gone:
            del self.exchanges[number]
        return gone


def fork_name(leg: int, tag: str) -> str:
    """How an early dialog of a phone is called towards the caller, whose leg takes it as it is."""
    return f"{leg}/{tag}"


def fork_of(name: str) -> tuple[int, str]:
    """The leg and its own name of an early dialog."""
    leg, _, tag = name.partition("/")
    return (int(leg) if leg.isdecimal() else 0), tag
