"""One branch of a call: the attempt to reach one phone, from its invitation to its last word: a state and a table."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pbx_signaling.calls.signals import Target


class Phase(enum.IntEnum):
    """Where a branch stands."""

    WAITING = 0
    """Not invited yet."""
    TRYING = 1
    RINGING = 2
    ANSWERED = 3
    """It answered first."""
    STOPPING = 4
    """Told to stop; its last word is awaited, which may be an answer that crossed our CANCEL."""
    OVER = 5


class Word(enum.IntEnum):
    """What can happen to a branch."""

    INVITE = 0
    RING = 1
    ANSWER = 2
    FAILURE = 3
    STOP = 4


P, W = Phase, Word
TABLE: Final[Mapping[tuple[Phase, Word], Phase]] = {
    (P.WAITING, W.INVITE): P.TRYING,
    (P.WAITING, W.STOP): P.OVER,
    **{(phase, W.RING): P.RINGING for phase in (P.TRYING, P.RINGING)},
    **{(phase, W.ANSWER): P.ANSWERED for phase in (P.TRYING, P.RINGING)},
    **{(phase, W.FAILURE): P.OVER for phase in (P.TRYING, P.RINGING, P.STOPPING)},
    **{(phase, W.STOP): P.STOPPING for phase in (P.TRYING, P.RINGING)},
    (P.STOPPING, W.ANSWER): P.OVER,
}
INVITED: Final = (Phase.TRYING, Phase.RINGING)
MAY_ANSWER: Final = (Phase.WAITING, *INVITED)


@dataclass(slots=True)
class Branch:
    """One phone, from its invitation to its last word."""

    leg: int
    target: Target
    phase: Phase = Phase.WAITING
    early_media: bool = False
    is_heard: bool = False
    """It said something; a phone that is thought to be there and says nothing at all may be gone."""
    is_silent: bool = False
    """It has said nothing for so long that it holds up nobody any more."""
    flows: list[Target] = field(default_factory=list)
    """Other flows to the same phone, for where this one turns out to be broken (RFC 5626 section 5.3)."""

    def take(self, word: Word) -> bool:
        """Lets something happen to it; whether that can happen now."""
        following = TABLE.get((self.phase, word))
        if following is None:
            return False
        self.phase = following
        return True
