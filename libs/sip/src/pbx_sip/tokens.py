"""Branches, tags and Call-IDs. Each carries the id of the instance that minted it: `<instance>.<random>`.

Any replica can so tell whose a message is, without a look-up. No clock and no randomness in here: entropy is
a function that the composition root passes (`os.urandom`); tests pass `CountingTokens`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from pbx_sip.message.message import BRANCH_COOKIE

_BUFFER: Final = 1024
"""Octets of entropy asked for at a time: 128 tokens. One system call each would cost as much as a whole
message."""
_DIGITS: Final = 16
"""Hexadecimal digits of a tag or branch: 64 bits. Section 19.3 asks for 32 at least."""


class TokenSource(Protocol):
    """Where fresh identifiers come from."""

    def branch(self) -> str:
        """A branch with the cookie of RFC 3261, unique for ever (section 8.1.1.7)."""

    def tag(self) -> str:
        """A tag that cannot be guessed (section 19.3)."""

    def call_id(self) -> str:
        """A Call-ID, unique for ever (section 8.1.1.4)."""


class RandomTokens:
    """Tokens of 64 random bits (Call-IDs: 128), from a function such as `os.urandom`."""

    __slots__ = ("_at", "_branch_prefix", "_buffer", "_entropy", "_prefix")

    def __init__(self, instance: str, entropy: Callable[[int], bytes]) -> None:
        self._prefix = f"{instance}."
        self._branch_prefix = f"{BRANCH_COOKIE}{instance}."
        self._entropy = entropy
        self._buffer = ""
        self._at = 0

    def branch(self) -> str:
        """A fresh branch."""
        return self._branch_prefix + self._random()

    def tag(self) -> str:
        """A fresh tag."""
        return self._prefix + self._random()

    def call_id(self) -> str:
        """A fresh Call-ID."""
        return self._prefix + self._random() + self._random()

    def _random(self) -> str:
        at = self._at
        if at >= len(self._buffer):
            self._buffer, at = self._entropy(_BUFFER).hex(), 0
        self._at = end = at + _DIGITS
        return self._buffer[at:end]


class CountingTokens:
    """The fake: `z9hG4bK<instance>.1`, `<instance>.2`, ... in order of minting."""

    __slots__ = ("_count", "_instance")

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._count = 0

    def branch(self) -> str:
        """The next number as a branch."""
        return BRANCH_COOKIE + self.tag()

    def tag(self) -> str:
        """The next number as a tag."""
        self._count += 1
        return f"{self._instance}.{self._count}"

    def call_id(self) -> str:
        """The next number as a Call-ID."""
        return self.tag()


def instance_of(token: str) -> str:
    """The instance that minted a branch, tag or Call-ID; empty where it cannot be one of ours.

    A peer's token may happen to have that form: the result is a candidate, to be looked up among known
    instances.
    """
    prefix, dot, _ = token.removeprefix(BRANCH_COOKIE).partition(".")
    return prefix if dot else ""
