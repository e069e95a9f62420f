"""Stateless nonces: time, salt and source, signed. Any replica with the key can tell its own from forged and old ones.

    nonce = hex(time in seconds, 8 digits) hex(salt, 6 digits) hex(binding, 10 digits) hex(signature, 32 digits)

The binding is a keyed digest of time, salt and the source to which the nonce was sent; the signature covers all before
it. So who never received a packet at an address has no nonce that is good for it, and credentials with a nonce that is
not good can be answered with another challenge before anything is looked up, counted or stored. The binding stands
inside what releases before it took for salt: they and this one take each other's nonces while a cluster is updated.

The salt counts the nonces of a second from a random start. So a minter tells its own nonces from those of another
replica by two numbers for each second, and remembers no nonce (`NonceMinter.is_own`).

What a nonce alone cannot tell, that its count was used before, is kept where it was minted (`counts`) and in Redis.
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
"""Octets: a minter's nonces of one second differ as long as they are fewer than 16.7 million. Those of two replicas for
one source are the same as seldom as a stranger's is taken for one's own (see `NonceMinter.is_own`)."""
_SALTS: Final = 1 << 8 * _SALT
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
        self._first: dict[int, int] = {}
        """Second to its first salt. At most one entry for each second that counts."""
        self._count: dict[int, int] = {}
        """Second to how many salts of it were used."""

    def mint(self, now: float, source: str) -> str:
        """A fresh nonce for a source (`pbx_sip.address.network_of`, or any name that check is given too)."""
        second = int(now) & 0xFFFFFFFF
        text = f"{second:08x}{self._salt(second):06x}"
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

    def is_own(self, nonce: str) -> bool:
        """Whether this minter made a nonce that `check` found VALID.

        Another replica's is taken for one's own once in 16.7 million for each nonce minted here in that second.
        """
        second = int(nonce[:8], 16)
        return (int(nonce[8:14], 16) - self._first.get(second, 0)) % _SALTS < self._count.get(second, 0)

    def _salt(self, second: int) -> int:
        count = self._count.get(second)
        if count is None:
            if len(self._count) > 2 * self.lifetime_s:  # a nonce is good on both sides of now
                oldest = next(iter(self._count))
                del self._count[oldest], self._first[oldest]
            self._first[second] = int.from_bytes(self._entropy(8)[-_SALT:])
            count = 0
        self._count[second] = min(count + 1, _SALTS)
        return (self._first[second] + count) % _SALTS

    def _binding(self, text: str, source: str) -> str:
        octets = f"{text} {source}".encode("utf-8", "replace")
        return hashlib.blake2b(octets, key=self._binding_key, digest_size=_BINDING).hexdigest()

    def _signature(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), "sha256").hex()[:32]
