"""The verdict on a digest response (RFC 8760): nonce, account, hash, nonce count, failures before.

Nonces are stateless and signed; that a nonce count is used once is kept in Redis, for all replicas. Failures are
counted per source and per account in memory: a source is held back only after it failed, never for a first request.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pbx_registrar.accounts.cache import AccountCache
from pbx_registrar.accounts.model import Account
from pbx_registrar.storage.base import BindingStore
from pbx_sip.auth.digest import Credentials, verify
from pbx_sip.auth.nonce import NonceMinter, NonceVerdict
from pbx_sip.errors import RemoteError

FAILURES_MAX: Final = 20
"""Wrong answers of one source, or for one account, before it is held back. A phone with a wrong password retries every
half minute or so; a guesser tries thousands."""
HELD_BACK_S: Final = 60.0
SOURCES_MAX: Final = 50_000
"""Sources and accounts whose failures are remembered. Threat: spoofed sources; the oldest go."""


class Verdict(enum.IntEnum):
    """Numbered as in the contract."""

    ACCEPTED = 1
    STALE = 2
    REJECTED = 3
    MALFORMED = 4
    THROTTLED = 5
    FORBIDDEN = 6


@dataclass(frozen=True, slots=True)
class Claim:
    """What is to be verified."""

    method: str
    authorization: str
    aor: str
    source_host: str
    body: bytes = b""

    def __repr__(self) -> str:
        """Without the credentials."""
        return f"<Claim {self.method} of {self.aor} from {self.source_host}>"


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict, and who it is."""

    verdict: Verdict
    account: Account | None = None
    retry_after_s: int = 0


class Failures:
    """Failures of sources and accounts, with the time since which they count."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, float]] = {}

    def add(self, who: str, now: float) -> int:
        """Counts a failure; how many there are within the period."""
        count, since = self._counts.pop(who, (0, now))
        if now - since > HELD_BACK_S:
            count, since = 0, now
        while len(self._counts) >= SOURCES_MAX:
            del self._counts[next(iter(self._counts))]
        self._counts[who] = (count + 1, since)
        return count + 1

    def held_back_s(self, who: str, now: float) -> int:
        """Seconds for which it is held back; 0: not at all."""
        count, since = self._counts.get(who, (0, 0.0))
        left = since + HELD_BACK_S - now
        return int(left) + 1 if count >= FAILURES_MAX and left > 0 else 0

    def clear(self, who: str) -> None:
        """It succeeded."""
        self._counts.pop(who, None)


class Authenticator:
    """Verifies claims. `on_failure(claim, user, count)` hears of each refusal."""

    def __init__(
        self, domain: str, nonces: NonceMinter, accounts: AccountCache, store: BindingStore, clock: Callable[[], float]
    ) -> None:
        self._domain = domain
        self._nonces = nonces
        self._accounts = accounts
        self._store = store
        self._clock = clock
        self._failures = Failures()
        self.on_failure: Callable[[Claim, str], None] = lambda claim, user: None

    async def verify(self, claim: Claim) -> Answer:
        """The verdict. Raises ServiceError where Redis or SQL is out of reach."""
        now = self._clock()
        try:
            credentials = Credentials.parse(claim.authorization)
        except RemoteError:
            return Answer(Verdict.MALFORMED)
        source, target = f"s:{claim.source_host}", f"a:{claim.source_host} {credentials.username}"
        held = max(self._failures.held_back_s(source, now), self._failures.held_back_s(target, now))
        if held:
            return Answer(Verdict.THROTTLED, retry_after_s=held)
        nonce = self._nonces.check(credentials.nonce, now)
        account = await self._accounts.get(credentials.username, self._domain)
        hashed = account.hashes.get(credentials.algorithm, "") if account is not None else ""
        if not hashed or credentials.realm != self._domain or not verify(credentials, hashed, claim.method, claim.body):
            self._failures.add(source, now)
            self._failures.add(target, now)
            self.on_failure(claim, credentials.username)
            return Answer(Verdict.REJECTED)
        if nonce is not NonceVerdict.VALID or not await self._is_first_use(credentials, claim):
            return Answer(Verdict.STALE)
        assert account is not None
        if claim.aor != f"{account.user}@{account.domain}":
            return Answer(Verdict.FORBIDDEN, account)
        self._failures.clear(target)
        return Answer(Verdict.ACCEPTED, account)

    async def _is_first_use(self, credentials: Credentials, claim: Claim) -> bool:
        """Each count of a nonce is good once; without qop (RFC 2069) the nonce itself is."""
        count = credentials.nc or f"- {claim.method}"
        return await self._store.first_use(credentials.nonce, count, self._nonces.lifetime_s)
