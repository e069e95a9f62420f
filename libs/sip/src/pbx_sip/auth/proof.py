"""What a digest response proves, step by step (RFC 7616, RFC 8760). Pure: who asks brings account, keys and time.

The nonce decides first, without a look at anything else: one that is forged, was sent to another source or is too old
makes the response stale, so the phone is asked again and its user is not (RFC 7616 section 3.3). Algorithms and
qualities of protection that were not offered are refused: else the weakest that is known would be as good as the
weakest that is offered (RFC 8760 section 3). Then the account's H(A1). That a nonce's count is fresh is asked last, and
only of right responses. Deliberately not checked: that the digest's uri is the Request-URI (RFC 7616 section 3.4.6);
proxies and phones differ in it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pbx_sip.auth.digest import HASHES, QUALITIES, STRONGEST_FIRST, Credentials, account_of, ha1, verify
from pbx_sip.auth.nonce import NonceMinter, NonceVerdict
from pbx_sip.errors import SipError

SIGNATURE_DIGITS: Final = 32
"""The end of a nonce, which signs the rest and need not be remembered."""


class Fault(enum.IntEnum):
    """Why a response is not looked at further."""

    MALFORMED = 1
    """No digest response that can be read."""
    STALE = 2
    """Its nonce is not one of ours, was not sent to its source, or is too old."""
    WEAKER = 3
    """An algorithm or quality of protection that was not offered."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What challenges offer, and responses may therefore use."""

    algorithms: tuple[str, ...] = STRONGEST_FIRST
    qop: tuple[str, ...] = ("auth", "auth-int")
    """"none" among them: a response without qop is taken too (RFC 2069)."""

    def covers(self, credentials: Credentials) -> bool:
        """Whether credentials use what was offered, and nothing weaker."""
        return credentials.algorithm in self.algorithms and (credentials.quality or "none") in self.qop


EVERYTHING: Final = Offer()


@dataclass(frozen=True, slots=True)
class Secrets:
    """What is kept of an account's password."""

    user: str
    ha1: Mapping[str, str] = field(repr=False)
    """Algorithm to H(A1) for the user name `user`."""
    ha1_of_aor: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The same for the user name `user@domain`: H(A1) is a hash over it."""

    def of(self, credentials: Credentials) -> str:
        """H(A1) for credentials; empty where there is none for their algorithm."""
        hashes = self.ha1 if credentials.username == self.user else self.ha1_of_aor
        return hashes.get(credentials.algorithm, "")


def read(
    authorization: str, nonces: NonceMinter, offer: Offer, nonce_source: str | None, now_s: float
) -> Credentials | Fault:
    """The credentials in a value of Authorization, where their nonce is good and they use what was offered.

    `nonce_source`: to whom the nonce must have been sent; None: to anybody. `now_s`: seconds since the Unix epoch.
    """
    try:
        credentials = Credentials.parse(authorization)
    except SipError:
        return Fault.MALFORMED
    if credentials.algorithm not in HASHES or credentials.quality not in QUALITIES:
        return Fault.MALFORMED
    if nonces.check(credentials.nonce, now_s, nonce_source) is not NonceVerdict.VALID:
        return Fault.STALE
    return credentials if offer.covers(credentials) else Fault.WEAKER


def account_tried(credentials: Credentials) -> str:
    """The address-of-record of the account that credentials name, its domain in lower case."""
    user, _, domain = account_of(credentials.username, credentials.realm).rpartition("@")
    return f"{user}@{domain.lower()}"


def proves(credentials: Credentials, secrets: Secrets | None, method: str, body: bytes) -> bool:
    """Whether credentials are right for an account; without one they are not, after as much work."""
    hashed = (NOBODY if secrets is None else secrets).of(credentials)
    right = verify(credentials, hashed, method, body)
    return right and bool(hashed) and secrets is not None


def count_of(credentials: Credentials) -> int:
    """The nonce count; 0 without qop, where there is none."""
    return int(credentials.nc, 16) if credentials.qop else 0


def name_of_count(credentials: Credentials) -> str:
    """Names a nonce and its count among all that replicas remember together; bounded in length.

    Without qop there is no count, and the nonce serves once (RFC 2069).
    """
    return credentials.nonce[:-SIGNATURE_DIGITS] + (credentials.nc.lower() if credentials.qop else "-")


_NOBODYS: Final = {algorithm: ha1(algorithm, "nobody", "invalid", "no password") for algorithm in STRONGEST_FIRST}
NOBODY: Final = Secrets("nobody", _NOBODYS, _NOBODYS)
"""An unknown user costs as much work as a known one, so that time does not tell them apart."""
