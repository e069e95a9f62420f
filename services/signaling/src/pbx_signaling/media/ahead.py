"""Slots of one relay that it granted ahead of calls, so that an INVITE waits for no answer of a relay. Pure.

Asked for again when half of them are used; few enough that idle instances withhold little, enough for the calls that
come in the time of an answer. They are worth nothing once the stream breaks or the relay drains.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from typing import Final

from pbx_signaling.media.stream import Slot

AHEAD: Final = 48
"""Slots held of one relay: with 3 ms for an answer enough for thousands of calls a second; the relay bounds it too."""
LOW: Final = AHEAD // 2
"""At so many more are asked for: one question for two dozen calls."""
PORTS_PER_SLOT: Final = 8


def slot_of(relay: str, number: int, hosts: Iterable[str]) -> Slot:
    """A granted slot by its number: slot N has the ports 8N to 8N+7, in the order that the contract says."""
    first = number * PORTS_PER_SLOT
    named = tuple(hosts)
    return Slot(
        relay=relay,
        index=number,
        host4=next((host for host in named if ":" not in host), ""),
        host6=next((host for host in named if ":" in host), ""),
        ports={
            (side, medium): (first + 4 * (side - 1) + 2 * (medium - 1), first + 4 * (side - 1) + 2 * (medium - 1) + 1)
            for side in (1, 2)
            for medium in (1, 2)
        },
    )


class Ahead:
    """The slots of one relay that are held ahead."""

    def __init__(self) -> None:
        self._slots: deque[Slot] = deque()
        self._may_ask = True

    def __len__(self) -> int:
        return len(self._slots)

    def __repr__(self) -> str:
        return f"<Ahead {len(self)} slots>"

    def take(self, shunned: Collection[int] = ()) -> Slot | None:
        """The slot held longest whose number is not among `shunned`; None where there is none."""
        for slot in self._slots:
            if slot.index not in shunned:
                self._slots.remove(slot)
                return slot
        return None

    def missing(self) -> int:
        """How many to ask for now: 0 while enough are held, or an answer is awaited."""
        if not self._may_ask or len(self._slots) > LOW:
            return 0
        self._may_ask = False
        return AHEAD - len(self._slots)

    def add(self, slots: Iterable[Slot]) -> None:
        """They were granted; where none was, nothing is asked until `may_ask`."""
        before = len(self._slots)
        self._slots.extend(slots)
        self._may_ask = len(self._slots) > before

    def may_ask(self) -> None:
        """Something changed at the relay: it may have some now."""
        self._may_ask = True

    def clear(self) -> list[int]:
        """Hold none any more; their numbers."""
        numbers = [slot.index for slot in self._slots]
        self._slots.clear()
        return numbers
