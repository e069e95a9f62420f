"""Reliable provisional responses (RFC 3262): numbering and confirming at either side. No message is built here.

The server side sends one at a time, repeats it by `Repetition`, and takes a PRACK by its RAck. The client side tells
what is new from what is repeated or comes too early.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pbx_sip.dialog.repetition import Due, Repetition
from pbx_sip.errors import ParseError
from pbx_sip.transaction.timers import DEFAULT, Timers

MAX_RSEQ: Final = 2**32 - 1
MAX_FIRST_RSEQ: Final = 2**31 - 1
"""The first RSeq of a transaction is chosen between 1 and this (section 3)."""


class RAck(NamedTuple):
    """What a PRACK confirms (section 7.2)."""

    rseq: int
    cseq: int
    method: str

    @classmethod
    def parse(cls, value: str) -> RAck:
        """Reads `RAck: response-num LWS CSeq-num LWS Method`. Raises ParseError."""
        words = value.split()
        if len(words) != 3 or not all(word.isascii() and word.isdigit() and len(word) <= 10 for word in words[:2]):
            raise ParseError("RAck is not two numbers and a method")
        return cls(int(words[0]), int(words[1]), words[2])

    def __str__(self) -> str:
        """As on the wire."""
        return f"{self.rseq} {self.cseq} {self.method}"


class Arrival(enum.IntEnum):
    """What a client makes of a reliable provisional response."""

    NEW = 0
    """Deliver it and send a PRACK."""
    REPEATED = 1
    """Drop it: "retransmissions ... MUST NOT be delivered"; the PRACK has a transaction of its own."""
    EARLY = 2
    """One before it was lost; drop it, it will come again."""


def arrival(last_rseq: int, rseq: int) -> Arrival:
    """Judges the RSeq of a reliable response in a dialog whose last one was `last_rseq` (0: none; section 4)."""
    if last_rseq == 0 or rseq == last_rseq + 1:
        return Arrival.NEW
    return Arrival.REPEATED if rseq <= last_rseq else Arrival.EARLY


class Confirmed(enum.IntEnum):
    """What a server makes of a PRACK."""

    MATCHED = 0
    """200."""
    UNKNOWN = 1
    """481: it confirms nothing that waits (section 3)."""


@dataclass(slots=True)
class ReliableSender:
    """The server side of one INVITE: what waits for its PRACK, and what waits behind it."""

    cseq: int
    """Of the INVITE."""
    next_rseq: int
    """Between 1 and MAX_FIRST_RSEQ at first, by the caller's choice at random."""
    timers: Timers = DEFAULT
    queue: list[int] = field(default_factory=list)
    """RSeq numbers handed out that are not confirmed; the first has been sent."""
    repetition: Repetition | None = None

    @property
    def waiting(self) -> int:
        """The RSeq that is sent and not confirmed; 0 where none is."""
        return self.queue[0] if self.queue else 0

    @property
    def next_timeout(self) -> float | None:
        """When `expire` is due."""
        return None if self.repetition is None else self.repetition.at

    def send(self, now: float) -> tuple[int, bool]:
        """Numbers a response: its RSeq, and whether to send it now or when `confirm` says so.

        "the UAS MUST NOT send a second reliable provisional response until the first is acknowledged" (section 3).
        """
        rseq = self.next_rseq
        self.next_rseq = rseq + 1
        self.queue.append(rseq)
        if len(self.queue) > 1:
            return rseq, False
        self.repetition = Repetition.of_progress(now, self.timers)
        return rseq, True

    def confirm(self, rack: RAck, now: float) -> tuple[Confirmed, int]:
        """Takes a PRACK in: the verdict, and the RSeq of the response to send next (0: none)."""
        if not self.queue or rack != (self.queue[0], self.cseq, "INVITE"):
            return Confirmed.UNKNOWN, 0
        del self.queue[0]
        self.repetition = Repetition.of_progress(now, self.timers) if self.queue else None
        return Confirmed.MATCHED, self.waiting

    def expire(self, now: float) -> Due:
        """Whether to repeat the response that waits, or to refuse the INVITE with a 5xx (section 3)."""
        return Due.NOTHING if self.repetition is None else self.repetition.expire(now)

    def stop(self) -> None:
        """A final response was sent: nothing is repeated any more."""
        self.queue.clear()
        self.repetition = None
