"""Branches, tags and Call-IDs. Each carries the id of the instance that minted it: `<instance>.<random>`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pbx_sip.message.message import BRANCH_COOKIE


class TokenSource(Protocol):
    """Where fresh identifiers come from."""

    def branch(self) -> str:
        """A branch with the cookie of RFC 3261."""

    def tag(self) -> str:
        """A tag: at least 32 bits of randomness (section 19.3)."""

    def call_id(self) -> str:
        """A Call-ID, unique for ever."""


class RandomTokens:
    """Tokens of 64 random bits (Call-IDs: 128), from a function such as `os.urandom`."""

    def __init__(self, instance: str, entropy: Callable[[int], bytes]) -> None:
        self._prefix = f"{instance}."
        self._entropy = entropy
        self._buffer = ""
        self._at = 0

    def _random(self) -> str:
        at = self._at
        if at >= len(self._buffer):
            self._buffer, at = self._entropy(512).hex(), 0
        self._at = at + 16
        return self._buffer[at : at + 16]

    def branch(self) -> str:
        """A fresh branch."""
        return f"{BRANCH_COOKIE}{self._prefix}{self._random()}"

    def tag(self) -> str:
        """A fresh tag."""
        return self._prefix + self._random()

    def call_id(self) -> str:
        """A fresh Call-ID."""
        return self._prefix + self._random() + self._random()


def instance_of(token: str) -> str:
    """The instance that minted a tag, branch or Call-ID; empty where it is none of ours."""
    prefix, dot, _ = token.removeprefix(BRANCH_COOKIE).partition(".")
    return prefix if dot else ""
