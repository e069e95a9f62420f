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
from pbx_registrar.throttle import ACCOUNT, PAIR, Drawer
from pbx_registrar.throttle import SOURCE as SOURCE_DRAWER
from pbx_runtime.clock import ManualClock
from pbx_runtime.errors import ServiceError, Unavailable
from pbx_sip.address import network_of
from pbx_sip.auth.digest import STRONGEST_FIRST, Challenge, Credentials, digest, respond
from pbx_sip.auth.nonce import NonceMinter
from pbx_sip.auth.proof import Offer
from support.registrations import AOR, account

SOURCE = "192.0.2.4"
EVERY_QOP = Offer(qop=("auth", "auth-int", "none"))


@dataclass
class Rig:
    accounts: FakeAccounts = field(default_factory=lambda: FakeAccounts(account()))
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    clock: ManualClock = field(default_factory=ManualClock)
    observed: list[Verdict] = field(default_factory=list)
    nonces: NonceMinter = field(default_factory=lambda: NonceMinter(b"k" * 32, os.urandom))
    offer: Offer = EVERY_QOP

    def __post_init__(self) -> None:
        self.authenticator = Authenticator(
            self.accounts,
            self.ledger,
            self.nonces,
            self.clock,
            lambda _, judgement: self.observed.append(judgement.verdict),
            self.offer,
        )

    def nonce(self, source: str = SOURCE) -> str:
        return self.nonces.mint(self.clock.epoch_ms() / 1000, network_of(source))

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

    def judge(self, credentials: object, aor: str = AOR, source: str = SOURCE, body: bytes = b"") -> Judgement:
        answers: list[tuple[Judgement | None, ServiceError | None]] = []
        attempt = Attempt("REGISTER", str(credentials), body, aor, source, network_of(source))
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


class Untouched(FakeAccounts):
    """Nobody may be looked up."""

    def find(self, aor: str, done: Any) -> None:
        raise AssertionError(aor)


@pytest.mark.parametrize("password", ["secret", "guess"])
@pytest.mark.parametrize("nonce", ["old", "of another key", "of another source", "", "short", "f" * 56, "\u00e9" * 56])
def test_a_nonce_that_is_not_good_is_stale_and_nothing_else_is_done(rig: Rig, password: str, nonce: str) -> None:
    """After a change of key, network or time the phone is asked again, its user is not; and no failure is counted."""
    now_s = rig.clock.epoch_ms() / 1000
    value = {
        "old": rig.nonces.mint(now_s - rig.nonces.lifetime_s - 1, SOURCE),
        "of another key": NonceMinter(b"o" * 32, os.urandom).mint(now_s, SOURCE),
        "of another source": rig.nonce("192.0.2.5"),
    }.get(nonce, nonce)
    credentials = dataclasses.replace(rig.credentials(password), nonce=value)
    rig.accounts.find = Untouched().find  # type: ignore[method-assign]
    rig.ledger.error = Unavailable("asked")
    for _ in range(ACCOUNT.free + PAIR.free):
        assert rig.judge(credentials) == Judgement(Verdict.STALE)
    assert rig.ledger._counts == {}


def test_signaling_of_the_release_before_does_not_say_whose_the_nonce_is(rig: Rig) -> None:
    answers: list[Judgement | None] = []
    attempt = Attempt("REGISTER", str(rig.credentials(nonce=rig.nonce("203.0.113.1"))), b"", AOR, SOURCE)
    rig.authenticator.check(attempt, lambda judgement, error: answers.append(judgement))
    assert answers == [Judgement(Verdict.ACCEPTED, account())]


@pytest.mark.parametrize(
    ("offer", "weaker"),
    [
        (Offer(("SHA-512-256",)), {"algorithm": "MD5"}),
        (Offer(("SHA-512-256", "SHA-256")), {"algorithm": "MD5"}),
        (Offer(("SHA-256", "MD5"), ("auth-int",)), {"qop": ("auth",)}),
        (Offer(qop=("auth", "auth-int")), {"qop": ()}),
    ],
)
def test_what_is_right_and_weaker_than_offered_is_refused_and_no_failure(offer: Offer, weaker: dict[str, Any]) -> None:
    rig = Rig(offer=offer)
    for _ in range(PAIR.free + 2):
        assert rig.judge(rig.credentials(**weaker)) == Judgement(Verdict.REJECTED)
    assert rig.ledger._counts == {}
    offered = {"algorithm": offer.algorithms[0], "qop": offer.qop[:1]}
    assert rig.judge(rig.credentials(**offered)).verdict is Verdict.ACCEPTED


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


def test_guessing_is_told_to_wait_and_right_never_is(rig: Rig) -> None:
    for _ in range(PAIR.free + 1):
        assert rig.judge(rig.credentials("guess")).verdict is Verdict.REJECTED
    assert rig.judge(rig.credentials("guess")) == Judgement(Verdict.THROTTLED, retry_after_s=2)
    assert rig.judge(rig.credentials()).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize(("drawer", "users"), [(PAIR, 1), (SOURCE_DRAWER, 100), (ACCOUNT, 1)])
def test_no_failures_of_anybody_lock_a_phone_out(rig: Rig, drawer: Drawer, users: int) -> None:
    for number in range(drawer.free + 30):
        source = f"203.0.113.{number}" if drawer is ACCOUNT else SOURCE
        user = "1004" if users == 1 else f"guess{number}"
        rig.judge(rig.credentials("guess", user, nonce=rig.nonce(source)), source=source)
        assert rig.judge(rig.credentials()).verdict is Verdict.ACCEPTED


def test_addresses_of_one_ipv6_customer_are_one_source(rig: Rig) -> None:
    for number in range(PAIR.free + 1):
        source = f"2001:db8::{number:x}"
        rig.judge(rig.credentials("guess", nonce=rig.nonce("2001:db8::1")), source=source)

    def guess(source: str) -> Verdict:
        return rig.judge(rig.credentials("guess", nonce=rig.nonce(source)), source=source).verdict

    assert guess("2001:db8::ffff") is Verdict.THROTTLED
    assert guess("2001:db8:0:1::1") is Verdict.REJECTED


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


@pytest.mark.parametrize("user", ["1004@pbx.local", "1004@PBX.local"])
@pytest.mark.parametrize("algorithm", STRONGEST_FIRST)
def test_a_digest_user_name_with_its_domain(rig: Rig, user: str, algorithm: str) -> None:
    """H(A1) is a hash over the name as it is written: the account has one for each, the domain in lower case."""
    judgement = rig.judge(rig.credentials(user=user, algorithm=algorithm))
    assert judgement.verdict is (Verdict.ACCEPTED if user.islower() else Verdict.REJECTED)
    assert rig.judge(rig.credentials("guess", user=user, algorithm=algorithm)).verdict is Verdict.REJECTED


def test_an_account_of_before_knows_its_plain_name_alone(rig: Rig) -> None:
    rig.accounts.by_aor[AOR] = dataclasses.replace(account(), ha1_of_aor={})
    assert rig.judge(rig.credentials(user=AOR)).verdict is Verdict.REJECTED
    assert rig.judge(rig.credentials()).verdict is Verdict.ACCEPTED


def test_a_count_in_capitals_is_the_same_count(rig: Rig) -> None:
    nonce = rig.nonce()
    first = rig.credentials(nonce=nonce, nc=10)
    assert rig.judge(first).verdict is Verdict.ACCEPTED
    hashed = account().ha1["SHA-256"]
    middle = f"{hashed}:{nonce}:0000000A:c:auth:{digest('SHA-256', 'REGISTER:sip:pbx.local')}"
    again = dataclasses.replace(first, nc="0000000A", response=digest("SHA-256", middle))
    assert rig.judge(again).verdict is Verdict.STALE
