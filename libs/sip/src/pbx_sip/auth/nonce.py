"""Stateless nonces: time, salt and source, signed. Any replica with the key can tell its own from forged and old ones.

    nonce = hex(time in seconds, 8 digits) hex(salt, 6 digits) hex(binding, 10 digits) hex(signature, 32 digits)

The binding is a keyed digest of time, salt and the source to which the nonce was sent; the signature covers all before
it. So who never received a packet at an address has no nonce that is good for it, and credentials with a nonce that is
not good can be answered with another challenge before anything is looked up, counted or stored. The binding stands
inside what releases before it took for salt: they and this one take each other's nonces while a cluster is updated.

What a nonce alone cannot tell, that its count was used before, the registrar keeps in Redis.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections.abc import Callable
from typing import Final

LIFETIME_S: Final = 300
"""How long a nonce is good. Long enough for a phone's re-use of it, short enough for a table of counts."""
LENGTH: Final = 8 + 6 + 10 + 32
_SALT: Final = 3
"""Octets: two nonces of one second and one source are seldom the same; where they are, a phone is asked once more."""
_BINDING: Final = 5
"""Octets: a nonce of one's own is good for a given other source once in 10^12; it would buy a count of failures."""


class NonceVerdict(enum.IntEnum):
    """What a nonce is worth."""

    VALID = 0
    STALE = 1
    """Ours, sent to this source, too old."""
    FORGED = 2
    """Not one of ours: too short, or its signature is wrong."""
    FOREIGN = 3
    """Not sent to this source: made up, from before a change of the key, or another source's."""


class NonceMinter:
    """Mints and checks nonces. Times are seconds since the Unix epoch."""

    def __init__(self, key: bytes, entropy: Callable[[int], bytes], lifetime_s: int = LIFETIME_S) -> None:
        if len(key) < 16:
            raise ValueError("the nonce key needs at least 16 octets")
        self._key = key
        self._binding_key = hmac.digest(key, b"binding", "sha256")
        self._entropy = entropy
        self.lifetime_s = lifetime_s

    def mint(self, now: float, source: str) -> str:
        """A fresh nonce for a source (`pbx_sip.address.network_of`, or any name that check is given too)."""
        text = f"{int(now) & 0xFFFFFFFF:08x}{self._entropy(8)[-_SALT:].hex()}"
        text += self._binding(text, source)
        return text + self._signature(text)

    def check(self, nonce: str, now: float, source: str | None) -> NonceVerdict:
        """Whether a nonce is ours, was sent to this source (None: to any), and is young enough."""
        if len(nonce) != LENGTH or not nonce.isascii():
            return NonceVerdict.FORGED
        text = nonce[:24]
        # The binding first: it is the cheaper digest, and most of what a flood brings fails it.
        if source is not None and not hmac.compare_digest(self._binding(text[:14], source), text[14:]):
            return NonceVerdict.FOREIGN
        if not hmac.compare_digest(self._signature(text), nonce[24:]):
            return NonceVerdict.FORGED
        age = int(now) - int(text[:8], 16)
        return NonceVerdict.VALID if -self.lifetime_s <= age <= self.lifetime_s else NonceVerdict.STALE

    def _binding(self, text: str, source: str) -> str:
        octets = f"{text} {source}".encode("utf-8", "replace")
        return hashlib.blake2b(octets, key=self._binding_key, digest_size=_BINDING).hexdigest()

    def _signature(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), "sha256").hex()[:32]
