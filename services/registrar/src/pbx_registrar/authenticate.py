"""Verification of one digest response (RFC 8760): its nonce, the response, the nonce's count, and who is told to wait.

Theory of operation. What a response proves is `pbx_sip.auth.proof`'s, which signaling uses too; this module adds what
needs others: the account, the nonce's count, and who is told to wait. One whose nonce is not good is STALE, and nothing
is looked up, counted or stored. So only who received a challenge at its own address can cause work here.
Only a right response uses up a nonce's count, so that nobody without a password fills that table. A wrong one counts as
a failure of source and account, and is told how long to wait; a right one is never made to wait for failures, whoever
made them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pbx_registrar.credentials import Account, Accounts, canonical
from pbx_registrar.storage.base import AuthLedger, Done, Failure, Proof
from pbx_runtime.clock import Clock
from pbx_runtime.errors import ServiceError
from pbx_sip.address import network_of
from pbx_sip.auth import proof
from pbx_sip.auth.digest import Credentials
from pbx_sip.auth.nonce import NonceMinter
from pbx_sip.auth.proof import Fault, Offer, Secrets

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
class Judgement:
    """The verdict; `account` where it is ACCEPTED."""

    verdict: Verdict
    account: Account | None = None
    retry_after_s: int = 0


_STALE: Final = Judgement(Verdict.STALE)
_REJECTED: Final = Judgement(Verdict.REJECTED)
FAULTS: Final = {
    Fault.MALFORMED: Judgement(Verdict.MALFORMED),
    Fault.STALE: _STALE,
    Fault.WEAKER: _REJECTED,
}


class Authenticator:
    """The use case."""

    def __init__(
        self,
        accounts: Accounts,
        ledger: AuthLedger,
        nonces: NonceMinter,
        clock: Clock,
        observe: Callable[[Attempt, Judgement], None] = lambda attempt, judgement: None,
        offer: Offer = proof.EVERYTHING,
    ) -> None:
        self._accounts = accounts
        self._ledger = ledger
        self._nonces = nonces
        self._clock = clock
        self._observe = observe
        self._offer = offer

    def check(self, attempt: Attempt, done: Done[Judgement]) -> None:
        """Judge a response. Errors: those of accounts and ledger."""

        def decide(judgement: Judgement | None, error: ServiceError | None) -> None:
            if judgement is not None:
                self._observe(attempt, judgement)
            done(judgement, error)

        now_s = self._clock.epoch_ms() / 1000
        credentials = proof.read(attempt.authorization, self._nonces, self._offer, attempt.nonce_source, now_s)
        if isinstance(credentials, Fault):
            decide(FAULTS[credentials], None)
            return
        tried = proof.account_tried(credentials)

        def found(account: Account | None, error: ServiceError | None) -> None:
            if error is not None:
                decide(None, error)
            else:
                self._judge(_Case(attempt, credentials, tried, account), decide)

        self._accounts.find(tried, found)

    def _judge(self, case: _Case, decide: Done[Judgement]) -> None:
        account, credentials = case.account, case.credentials
        secrets = None if account is None else Secrets(account.user, account.ha1, account.ha1_of_aor)
        right = proof.proves(credentials, secrets, case.attempt.method, case.attempt.body)
        if account is None or not right:
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
        return Proof(
            nonce=proof.name_of_count(credentials),
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


def _throttled(wait_ms: int) -> Judgement:
    return Judgement(Verdict.THROTTLED, retry_after_s=-(-wait_ms // 1000))
