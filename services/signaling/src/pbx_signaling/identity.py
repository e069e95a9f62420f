"""Identifiers that this instance mints. Each carries the instance's id, so that any replica can tell whose it is."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from pbx_signaling import ulid

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbx_sip.tokens import TokenSource


class Identity:
    """Mints call ids, tags, branches and Call-IDs, and knows how monotonic time maps to the wall clock."""

    def __init__(
        self,
        tokens: TokenSource,
        instance: str,
        wall_offset_s: Callable[[], float],
        chance: Callable[[], float] = random.random,  # noqa: S311  # not a secret
    ) -> None:
        """`chance`: a random number from 0 to 1 that spreads retries; nothing is decided by it."""
        self.chance = chance
        self.instance = instance
        self.tokens = tokens
        self._wall_offset_s = wall_offset_s
        self._sessions = 0

    def wall_ms(self, now: float) -> int:
        """Monotonic seconds as milliseconds since the Unix epoch."""
        return int((now + self._wall_offset_s()) * 1000)

    def call_id(self, now: float) -> str:
        """A fresh id for a call: a ULID, in the order of time."""
        return ulid.new(self.wall_ms(now))

    def session_id(self) -> int:
        """A number for o= of the SDP that we send; below 2^31, as some phones want it."""
        self._sessions = (self._sessions + 1) & 0x3FFFFFFF
        return 0x40000000 | self._sessions

    def branch(self) -> str:
        """A fresh branch."""
        return self.tokens.branch()

    def tag(self) -> str:
        """A fresh tag."""
        return self.tokens.tag()

    def sip_call_id(self) -> str:
        """A fresh Call-ID."""
        return self.tokens.call_id()
