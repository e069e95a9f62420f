"""Whose turn it is in the offer/answer exchange of a dialog (RFC 3264, 6337, 3261 section 14, 3311 section 5).

Only turns are kept here, no session description. `TABLE` maps (turn, what happens) to the next turn; a pair without a
cell breaks the rules: `refusal` is the status that says so to the peer, and for our own side it is a bug.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pbx_sip.errors import LocalError, RemoteError


class Turn(enum.IntEnum):
    """Who owes what."""

    STABLE = 0
    WE_OFFERED = 1
    """The peer owes an answer."""
    THEY_OFFERED = 2
    """We owe an answer."""


class Act(enum.IntEnum):
    """What a session description does, by who sent it."""

    SEND_OFFER = 0
    SEND_ANSWER = 1
    RECEIVE_OFFER = 2
    RECEIVE_ANSWER = 3
    REFUSED = 4
    """The offer under way was refused, or its request failed: everything as before (RFC 3261 section 14.1)."""


TABLE: Final[Mapping[tuple[Turn, Act], Turn]] = {
    (Turn.STABLE, Act.SEND_OFFER): Turn.WE_OFFERED,
    (Turn.STABLE, Act.RECEIVE_OFFER): Turn.THEY_OFFERED,
    (Turn.STABLE, Act.REFUSED): Turn.STABLE,
    (Turn.WE_OFFERED, Act.RECEIVE_ANSWER): Turn.STABLE,
    (Turn.WE_OFFERED, Act.REFUSED): Turn.STABLE,
    (Turn.THEY_OFFERED, Act.SEND_ANSWER): Turn.STABLE,
    (Turn.THEY_OFFERED, Act.REFUSED): Turn.STABLE,
}

REFUSALS: Final[Mapping[tuple[Turn, Act], int]] = {
    (Turn.WE_OFFERED, Act.RECEIVE_OFFER): 491,
    (Turn.THEY_OFFERED, Act.RECEIVE_OFFER): 500,
}
"""Glare: 491, and the peer tries again later; a second offer before the first is answered: 500 with a Retry-After of
0 to 10 seconds (RFC 3261 section 14.2, RFC 3311 section 5.2)."""

GLARE_STEP_S: Final = 0.01
"""Waiting times after a 491 are multiples of 10 ms (section 14.1)."""


@dataclass(slots=True)
class Exchange:
    """The turn of one dialog."""

    turn: Turn = Turn.STABLE

    def receive(self, act: Act) -> None:
        """Something that the peer did. Raises RemoteError with the status to answer; an answer out of turn is 400."""
        self._step(act, RemoteError(f"{act.name} while {self.turn.name}", self.refusal(act) or 400))

    def send(self, act: Act) -> None:
        """Something that we do. Raises LocalError where it is not our turn."""
        self._step(act, LocalError(f"{act.name} while {self.turn.name}"))

    def said_by_peer(self) -> None:
        """A description of the peer's: the answer to our offer, else an offer. One out of turn changes nothing."""
        act = Act.RECEIVE_ANSWER if self.turn is Turn.WE_OFFERED else Act.RECEIVE_OFFER
        self.turn = TABLE.get((self.turn, act), self.turn)

    def refusal(self, act: Act) -> int:
        """The status with which an offer of the peer would be refused now; 0 where it would not."""
        return REFUSALS.get((self.turn, act), 0)

    def _step(self, act: Act, error: Exception) -> None:
        turn = TABLE.get((self.turn, act))
        if turn is None:
            raise error
        self.turn = turn


def glare_wait_s(owns_call_id: bool, share: float) -> float:
    """How long to wait after a 491 before trying again (section 14.1); `share` is a random number from 0 to 1.

    Whoever minted the Call-ID waits 2.1 to 4 s, the other side 0 to 2 s: so they do not meet again.
    """
    low, high = (2.1, 4.0) if owns_call_id else (0.0, 2.0)
    steps = round((low + share * (high - low)) / GLARE_STEP_S)
    return min(high, max(low, steps * GLARE_STEP_S))
