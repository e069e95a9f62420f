"""What a leg remembers of requests that one side of a call makes of the other."""

from __future__ import annotations

from dataclasses import dataclass

from pbx_sip.transaction.events import ServerKey


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request of the peer that waits for the other side's answer."""

    key: ServerKey
    fork: str
    """The branch of the call in whose dialog it came."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request of ours that waits for the peer's response."""

    exchange: int
    """For which of the other side's it is made; 0: to refresh the session of this leg (RFC 4028)."""
    stands_for: str = ""
    """The method by which the other side asked: a re-INVITE may stand for an UPDATE."""
    withdrawn: bool = False
    """The other side does not want it any more."""

    @property
    def refreshes(self) -> bool:
        """Whether the call does not hear of it."""
        return self.exchange == 0
