"""Stateless nonces: time and salt, signed. Any replica with the key can tell its own from forged and from old ones.

    nonce = hex(time in seconds, 8 digits) hex(salt, 16 digits) hex(HMAC-SHA-256 of both, 32 digits)

What a nonce alone cannot tell, that its count was used before, the registrar keeps in Redis.
"""

from __future__ import annotations

import enum
import hmac
from collections.abc import Callable
from typing import Final

LIFETIME_S: Final = 300
"""How long a nonce is good. Long enough for a phone's re-use of it, short enough for a table of counts."""
LENGTH: Final = 8 + 16 + 32


class NonceVerdict(enum.IntEnum):
    """What a nonce is worth."""

    VALID = 0
    STALE = 1
    FORGED = 2


class NonceMinter:
    """Mints and checks nonces. Times are seconds since the Unix epoch."""

    def __init__(self, key: bytes, entropy: Callable[[int], bytes], lifetime_s: int = LIFETIME_S) -> None:
        if len(key) < 16:
            raise ValueError("the nonce key needs at least 16 octets")
        self._key = key
        self._entropy = entropy
        self.lifetime_s = lifetime_s

    def mint(self, now: float) -> str:
        """A fresh nonce."""
        text = f"{int(now) & 0xFFFFFFFF:08x}{self._entropy(8).hex()}"
        return text + self._signature(text)

    def check(self, nonce: str, now: float) -> NonceVerdict:
        """Whether a nonce is ours, and young enough."""
        if len(nonce) != LENGTH or not nonce.isascii():
            return NonceVerdict.FORGED
        text = nonce[:24]
        if not hmac.compare_digest(self._signature(text), nonce[24:]):
            return NonceVerdict.FORGED
        age = int(now) - int(text[:8], 16)
        return NonceVerdict.VALID if -self.lifetime_s <= age <= self.lifetime_s else NonceVerdict.STALE

    def _signature(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), "sha256").hex()[:32]
