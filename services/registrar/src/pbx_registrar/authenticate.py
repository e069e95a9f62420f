"""Verification of one digest response (RFC 8760): its nonce, the response, the nonce's count, and who is told to wait.

Theory of operation. The nonce decides first, without a look at anything else: one that is forged, was sent to another
source or is too old makes the response STALE, so the phone is asked again and its user is not (RFC 7616 section 3.3),
and nothing is looked up, counted or stored. So only who received a challenge at its own address can cause work here.
Then the account's H(A1); only a right response uses up a nonce's count, so that nobody without a password fills that
table. A wrong one counts as a failure of source and account, and is told how long to wait; a right one is never made to
wait for failures, whoever made them. Algorithms and qualities of protection that are not offered are refused: else the
weakest that is known would be as good as the weakest that is offered (RFC 8760 section 3). Deliberately not checked:
that the digest's uri is the Request-URI (RFC 7616 section 3.4.6); proxies and phones differ in it, and the contract
does not carry the Request-URI.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pbx_registrar.credentials import Account, Accounts, canonical, hashes
from pbx_registrar.storage.base import AuthLedger, Done, Failure, Proof
from pbx_runtime.clock import Clock
from pbx_runtime.errors import ServiceError
from pbx_sip.address import network_of
from pbx_sip.auth.digest import HASHES, QUALITIES, STRONGEST_FIRST, Credentials, account_of, verify
from pbx_sip.auth.nonce import NonceMinter, NonceVerdict
from pbx_sip.errors import SipError

SIGNATURE_DIGITS: Final = 32
"""The end of a nonce, which signs the rest and need not be remembered."""
USER_SHOWN: Final = 64
"""Characters of a tried user name that go into an event."""


class Verdict(enum.IntEnum):
    """What a digest response is worth; the numbers of the contract."""

    ACCEPTED = 1
    STALE = 2
    REJECTED = 3
    MALFORMED = 4
    THROTTLED = 5
    FORBIDDEN = 6


@dataclass(frozen=True, slots=True)
class Attempt:
    """One digest response, and what it claims."""

    method: str
    authorization: str = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    aor: str = ""
    source_host: str = ""
    nonce_source: str | None = None
    """To whom its nonce must have been sent; None: signaling of the release before does not say."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What challenges offer, and responses may therefore use."""

    algorithms: tuple[str, ...] = STRONGEST_FIRST
    qop: tuple[str, ...] = ("auth", "auth-int")
    """"none" among them: a response without qop is taken too (RFC 2069)."""

    def covers(self, credentials: Credentials) -> bool:
        """Whether credentials use what was offered, and nothing weaker."""
        return credentials.algorithm in self.algorithms and (credentials.quality or "none") in self.qop


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict; `account` where it is ACCEPTED."""

    verdict: Verdict
    account: Account | None = None
    retry_after_s: int = 0


_STALE: Final = Judgement(Verdict.STALE)
_REJECTED: Final = Judgement(Verdict.REJECTED)
_MALFORMED: Final = Judgement(Verdict.MALFORMED)


class Authenticator:
    """The use case."""

    def __init__(
        self,
        accounts: Accounts,
        ledger: AuthLedger,
        nonces: NonceMinter,
        clock: Clock,
        observe: Callable[[Attempt, Judgement], None] = lambda attempt, judgement: None,
        offer: Offer = Offer(),
    ) -> None:
        self._accounts = accounts
        self._ledger = ledger
        self._nonces = nonces
        self._clock = clock
        self._observe = observe
        self._offer = offer
        # An unknown user costs as much work as a known one, so that time does not tell them apart.
        self._nobody = hashes("nobody", "invalid", "no password")

    def check(self, attempt: Attempt, done: Done[Judgement]) -> None:
        """Judge a response. Errors: those of accounts and ledger."""

        def decide(judgement: Judgement | None, error: ServiceError | None) -> None:
            if judgement is not None:
                self._observe(attempt, judgement)
            done(judgement, error)

        try:
            credentials = Credentials.parse(attempt.authorization)
        except SipError:
            decide(_MALFORMED, None)
            return
        if credentials.algorithm not in HASHES or credentials.quality not in QUALITIES:
            decide(_MALFORMED, None)
            return
        now_s = self._clock.epoch_ms() / 1000
        if self._nonces.check(credentials.nonce, now_s, attempt.nonce_source) is not NonceVerdict.VALID:
            decide(_STALE, None)
            return
        if not self._offer.covers(credentials):
            decide(_REJECTED, None)
            return
        tried = canonical(account_of(credentials.username, credentials.realm))

        def found(account: Account | None, error: ServiceError | None) -> None:
            if error is not None:
                decide(None, error)
            else:
                self._judge(_Case(attempt, credentials, tried, account), decide)

        self._accounts.find(tried, found)

    def _judge(self, case: _Case, decide: Done[Judgement]) -> None:
        account, credentials = case.account, case.credentials
        hashed = (self._nobody if account is None else _known_of(account, credentials)).get(credentials.algorithm, "")
        right = verify(credentials, hashed, case.attempt.method, case.attempt.body)
        if account is None or not hashed or not right:
            self._fail(case, decide)
        else:
            self._admit(case, account, decide)

    def _fail(self, case: _Case, decide: Done[Judgement]) -> None:
        def counted(wait_ms: int | None, error: ServiceError | None) -> None:
            if error is not None:
                decide(None, error)
            else:
                decide(_throttled(wait_ms) if wait_ms else _REJECTED, None)

        failure = Failure(
            source=network_of(case.attempt.source_host),
            account=case.tried,
            user=case.credentials.username[:USER_SHOWN],
            method=case.attempt.method,
            now_ms=self._clock.epoch_ms(),
        )
        self._ledger.fail(failure, counted)

    def _admit(self, case: _Case, account: Account, decide: Done[Judgement]) -> None:
        def admitted(fresh: bool | None, error: ServiceError | None) -> None:
            if error is not None:
                decide(None, error)
            elif not fresh:
                decide(_STALE, None)
            elif case.attempt.aor and canonical(case.attempt.aor) != account.aor:
                decide(Judgement(Verdict.FORBIDDEN), None)
            else:
                decide(Judgement(Verdict.ACCEPTED, account), None)

        self._ledger.admit(self._proof(case.credentials), admitted)

    def _proof(self, credentials: Credentials) -> Proof:
        # Without qop there is no count, and the nonce serves once (RFC 2069).
        count = credentials.nc.lower() if credentials.qop else "-"
        return Proof(
            nonce=credentials.nonce[:-SIGNATURE_DIGITS] + count,
            # A nonce is good for its lifetime on both sides of now (clocks of replicas differ).
            lifetime_ms=2 * self._nonces.lifetime_s * 1000,
            now_ms=self._clock.epoch_ms(),
        )


@dataclass(frozen=True, slots=True)
class _Case:
    attempt: Attempt
    credentials: Credentials
    tried: str
    account: Account | None


def _known_of(account: Account, credentials: Credentials) -> dict[str, str]:
    """H(A1) for the user name as it was written: H(A1) is a hash over it."""
    return account.ha1 if credentials.username == account.user else account.ha1_of_aor


def _throttled(wait_ms: int) -> Judgement:
    return Judgement(Verdict.THROTTLED, retry_after_s=-(-wait_ms // 1000))
