"""The verdict on a digest response: RFC 8760, RFC 7616, nonces, replay, back-off."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Any

import pytest

from pbx_registrar.authenticate import Attempt, Authenticator, Judgement, Verdict
from pbx_registrar.credentials import FakeAccounts
from pbx_registrar.storage.memory_ledger import MemoryLedger
from pbx_registrar.throttle import PAIR
from pbx_runtime.clock import ManualClock
from pbx_runtime.errors import ServiceError, Unavailable
from pbx_sip.auth.digest import STRONGEST_FIRST, Challenge, Credentials, respond
from pbx_sip.auth.nonce import NonceMinter
from support.registrations import AOR, account


@dataclass
class Rig:
    accounts: FakeAccounts = field(default_factory=lambda: FakeAccounts(account()))
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    clock: ManualClock = field(default_factory=ManualClock)
    observed: list[Verdict] = field(default_factory=list)
    nonces: NonceMinter = field(default_factory=lambda: NonceMinter(b"k" * 32, os.urandom))

    def __post_init__(self) -> None:
        self.authenticator = Authenticator(
            self.accounts,
            self.ledger,
            self.nonces,
            self.clock,
            lambda _, judgement: self.observed.append(judgement.verdict),
        )

    def nonce(self) -> str:
        return self.nonces.mint(self.clock.epoch_ms() / 1000)

    def credentials(
        self,
        password: str = "secret",
        user: str = "1004",
        *,
        nonce: str = "",
        algorithm: str = "SHA-256",
        qop: tuple[str, ...] = ("auth",),
        nc: int = 1,
        body: bytes = b"",
        realm: str = "pbx.local",
        method: str = "REGISTER",
    ) -> Credentials:
        challenge = Challenge(realm, nonce or self.nonce(), algorithm, qop)
        return respond(challenge, user, password, method, "sip:pbx.local", cnonce="c", nc=nc, body=body)

    def judge(self, credentials: object, aor: str = AOR, source: str = "192.0.2.4", body: bytes = b"") -> Judgement:
        answers: list[tuple[Judgement | None, ServiceError | None]] = []
        attempt = Attempt("REGISTER", str(credentials), body, aor, source)
        self.authenticator.check(attempt, lambda judgement, error: answers.append((judgement, error)))
        ((judgement, error),) = answers
        if judgement is None:
            assert error is not None
            raise error
        return judgement


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize("algorithm", STRONGEST_FIRST)
@pytest.mark.parametrize("qop", [("auth",), ("auth-int",), ()])
def test_right_is_accepted_in_every_algorithm_and_protection(rig: Rig, algorithm: str, qop: tuple[str, ...]) -> None:
    credentials = rig.credentials(algorithm=algorithm, qop=qop, body=b"v=0")
    judgement = rig.judge(credentials, body=b"v=0")
    assert judgement == Judgement(Verdict.ACCEPTED, account())
    assert rig.observed == [Verdict.ACCEPTED]


@pytest.mark.parametrize(
    "wrong",
    [
        {"password": "guess"},
        {"user": "9999"},
        {"realm": "elsewhere"},
        {"method": "INVITE"},
        {"user": "1004", "password": ""},
    ],
)
def test_wrong_is_rejected(rig: Rig, wrong: dict[str, Any]) -> None:
    assert rig.judge(rig.credentials(**wrong)).verdict is Verdict.REJECTED


def test_a_changed_body_is_rejected_under_auth_int_alone(rig: Rig) -> None:
    guarded = rig.credentials(qop=("auth-int",), body=b"v=0")
    assert rig.judge(guarded, body=b"v=1").verdict is Verdict.REJECTED
    assert rig.judge(rig.credentials(body=b"v=0"), body=b"v=1").verdict is Verdict.ACCEPTED


@pytest.mark.parametrize(
    "value",
    ["", "Basic dXNlcjpwYXNz", "Digest", 'Digest username="1004"', "x" * 5000, "Digest \x00=", 'Digest realm="a'],
)
def test_what_cannot_be_read_is_malformed(rig: Rig, value: str) -> None:
    assert rig.judge(value).verdict is Verdict.MALFORMED


@pytest.mark.parametrize("change", [{"algorithm": "SHA-1"}, {"algorithm": "MD5-SESS"}, {"qop": "auth-conf"}])
def test_what_was_never_offered_is_malformed_and_no_failure(rig: Rig, change: dict[str, Any]) -> None:
    for _ in range(PAIR.free + 2):
        judgement = rig.judge(dataclasses.replace(rig.credentials(), **change))
        assert judgement.verdict is Verdict.MALFORMED


def test_a_used_count_is_stale_and_a_higher_one_is_not(rig: Rig) -> None:
    nonce = rig.nonce()
    assert rig.judge(rig.credentials(nonce=nonce)).verdict is Verdict.ACCEPTED
    assert rig.judge(rig.credentials(nonce=nonce)).verdict is Verdict.STALE
    assert rig.judge(rig.credentials(nonce=nonce, nc=2)).verdict is Verdict.ACCEPTED
    assert rig.judge(rig.credentials(nonce=rig.nonce())).verdict is Verdict.ACCEPTED


def test_counts_may_come_out_of_order(rig: Rig) -> None:
    nonce = rig.nonce()
    assert rig.judge(rig.credentials(nonce=nonce, nc=2)).verdict is Verdict.ACCEPTED
    assert rig.judge(rig.credentials(nonce=nonce, nc=1)).verdict is Verdict.ACCEPTED


def test_without_qop_a_nonce_is_good_once(rig: Rig) -> None:
    nonce = rig.nonce()
    assert rig.judge(rig.credentials(nonce=nonce, qop=())).verdict is Verdict.ACCEPTED
    assert rig.judge(rig.credentials(nonce=nonce, qop=())).verdict is Verdict.STALE


def test_an_old_nonce_is_stale_where_the_rest_is_right(rig: Rig) -> None:
    nonce = rig.nonce()
    rig.clock.advance(rig.nonces.lifetime_s + 1)
    assert rig.judge(rig.credentials(nonce=nonce)).verdict is Verdict.STALE
    assert rig.judge(rig.credentials("guess", nonce=nonce)).verdict is Verdict.REJECTED


def test_a_nonce_of_another_key_is_stale_where_the_rest_is_right(rig: Rig) -> None:
    # After a change of the key phones come with nonces that they hold: they are to be asked again, not their users.
    foreign = NonceMinter(b"o" * 32, os.urandom).mint(rig.clock.epoch_ms() / 1000)
    assert rig.judge(rig.credentials(nonce=foreign)).verdict is Verdict.STALE
    assert rig.judge(rig.credentials(nonce="short")).verdict is Verdict.STALE


def test_a_nonce_just_within_its_time_cannot_be_used_again_after_it(rig: Rig) -> None:
    nonce = rig.nonce()
    rig.clock.advance(rig.nonces.lifetime_s - 1)
    assert rig.judge(rig.credentials(nonce=nonce)).verdict is Verdict.ACCEPTED
    for _ in range(4):
        rig.clock.advance(rig.nonces.lifetime_s / 2)
        assert rig.judge(rig.credentials(nonce=nonce)).verdict is Verdict.STALE


@pytest.mark.parametrize("aor", ["1008@pbx.local", "1004@elsewhere"])
def test_right_for_another_user_is_forbidden(rig: Rig, aor: str) -> None:
    assert rig.judge(rig.credentials(), aor=aor) == Judgement(Verdict.FORBIDDEN)


def test_the_domain_is_compared_without_regard_to_case_the_user_with(rig: Rig) -> None:
    rig.accounts.by_aor["bob@pbx.local"] = account("bob")
    assert rig.judge(rig.credentials(user="bob"), aor="bob@PBX.Local").verdict is Verdict.ACCEPTED
    assert rig.judge(rig.credentials(user="bob"), aor="Bob@pbx.local").verdict is Verdict.FORBIDDEN


def test_a_request_that_claims_nobody_is_accepted(rig: Rig) -> None:
    assert rig.judge(rig.credentials(), aor="").verdict is Verdict.ACCEPTED


def test_guessing_is_throttled_and_right_says_nothing_meanwhile(rig: Rig) -> None:
    for _ in range(PAIR.free + 1):
        assert rig.judge(rig.credentials("guess")).verdict is Verdict.REJECTED
    blocked = rig.judge(rig.credentials("guess"))
    assert blocked == Judgement(Verdict.THROTTLED, retry_after_s=2)
    assert rig.judge(rig.credentials()) == blocked
    rig.clock.advance(2)
    assert rig.judge(rig.credentials()).verdict is Verdict.ACCEPTED


def test_addresses_of_one_ipv6_customer_are_one_source(rig: Rig) -> None:
    for number in range(PAIR.free + 1):
        rig.judge(rig.credentials("guess"), source=f"2001:db8::{number:x}")
    assert rig.judge(rig.credentials(), source="2001:db8::ffff").verdict is Verdict.THROTTLED
    assert rig.judge(rig.credentials(), source="2001:db8:0:1::1").verdict is Verdict.ACCEPTED


def test_stale_is_no_failure(rig: Rig) -> None:
    nonce = rig.nonce()
    for _ in range(PAIR.free + 3):
        rig.judge(rig.credentials(nonce=nonce))
    assert rig.judge(rig.credentials()).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("part", ["accounts", "ledger"])
@pytest.mark.parametrize("password", ["secret", "guess"])
def test_what_is_out_of_reach_is_an_error_and_no_verdict(rig: Rig, part: str, password: str) -> None:
    getattr(rig, part).error = Unavailable("away")
    with pytest.raises(Unavailable):
        rig.judge(rig.credentials(password))
    assert rig.observed == []


def test_no_secret_shows_in_a_representation(rig: Rig) -> None:
    credentials = rig.credentials()
    assert credentials.response not in repr(Attempt("REGISTER", str(credentials)))
    assert account().ha1["MD5"] not in repr(account())
