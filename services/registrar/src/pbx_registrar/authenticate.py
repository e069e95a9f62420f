"""Verification of one digest response (RFC 8760): the response, its nonce, its count, and the patience with its source.

Theory of operation. The account's H(A1) decides first; only a right response can use up a nonce's count, so that
nobody without a password fills that table. Right with an old, foreign or used nonce is STALE: the phone is asked again
and its user is not (RFC 7616 section 3.3). Wrong counts as a failure of source and account. While a source is blocked
it learns nothing: right and wrong answer the same. Deliberately not checked: that the digest's uri is the Request-URI
(RFC 7616 section 3.4.6); proxies and phones differ in it, and the contract does not carry the Request-URI.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pbx_registrar.credentials import Account, Accounts, canonical, canonical_aor, hashes
from pbx_registrar.storage.base import Admission, AuthLedger, Done, Failure, Proof
from pbx_registrar.throttle import source_key
from pbx_runtime.clock import Clock
from pbx_runtime.errors import ServiceError
from pbx_sip.auth.digest import HASHES, Credentials, verify
from pbx_sip.auth.nonce import NonceMinter, NonceVerdict
from pbx_sip.errors import SipError

QOPS: Final = ("", "auth", "auth-int")
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


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict; `account` where it is ACCEPTED."""

    verdict: Verdict
    account: Account | None = None
    retry_after_s: int = 0


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
    ) -> None:
        self._accounts = accounts
        self._ledger = ledger
        self._nonces = nonces
        self._clock = clock
        self._observe = observe
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
        if credentials.algorithm not in HASHES or credentials.qop not in QOPS:
            decide(_MALFORMED, None)
            return
        tried = canonical_aor(credentials.username, credentials.realm)

        def found(account: Account | None, error: ServiceError | None) -> None:
            if error is not None:
                decide(None, error)
            else:
                self._judge(_Case(attempt, credentials, tried, account), decide)

        self._accounts.find(tried, found)

    def _judge(self, case: _Case, decide: Done[Judgement]) -> None:
        account, credentials = case.account, case.credentials
        hashed = (account.ha1 if account is not None else self._nobody).get(credentials.algorithm, "")
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
            source=source_key(case.attempt.source_host),
            account=case.tried,
            user=case.credentials.username[:USER_SHOWN],
            method=case.attempt.method,
            now_ms=self._clock.epoch_ms(),
        )
        self._ledger.fail(failure, counted)

    def _admit(self, case: _Case, account: Account, decide: Done[Judgement]) -> None:
        def admitted(admission: Admission | None, error: ServiceError | None) -> None:
            if admission is None:
                decide(None, error)
            elif admission.blocked_ms:
                decide(_throttled(admission.blocked_ms), None)
            elif not admission.fresh:
                decide(Judgement(Verdict.STALE), None)
            elif case.attempt.aor and canonical(case.attempt.aor) != account.aor:
                decide(Judgement(Verdict.FORBIDDEN), None)
            else:
                decide(Judgement(Verdict.ACCEPTED, account), None)

        self._ledger.admit(self._proof(case), admitted)

    def _proof(self, case: _Case) -> Proof:
        now_ms = self._clock.epoch_ms()
        nonce, count = case.credentials.nonce, ""
        if self._nonces.check(nonce, now_ms / 1000) is NonceVerdict.VALID:
            # Without qop there is no count, and the nonce serves once (RFC 2069).
            count = nonce[:-SIGNATURE_DIGITS] + (case.credentials.nc if case.credentials.qop else "-")
        return Proof(
            source=source_key(case.attempt.source_host),
            account=case.tried,
            nonce=count,
            # A nonce is good for its lifetime on both sides of now (clocks of replicas differ).
            lifetime_ms=2 * self._nonces.lifetime_s * 1000,
            now_ms=now_ms,
        )


@dataclass(frozen=True, slots=True)
class _Case:
    attempt: Attempt
    credentials: Credentials
    tried: str
    account: Account | None


def _throttled(wait_ms: int) -> Judgement:
    return Judgement(Verdict.THROTTLED, retry_after_s=-(-wait_ms // 1000))
