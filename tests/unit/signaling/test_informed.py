"""What signaling answers by itself about users, and what it leaves to the registrar."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from pbx_runtime.clock import SystemClock
from pbx_runtime.errors import ServiceError, Unavailable
from pbx_signaling.calls.signals import Authenticated, Found, LookupFailed, Refused, ServiceFailed, Signal
from pbx_signaling.directory.directory import Directory
from pbx_signaling.directory.informed import InformedRegistrar, Result, Topic
from pbx_signaling.directory.user import Binding, News, Update, User
from pbx_signaling.users.attempt import Attempt
from pbx_signaling.users.questions import Register, Registered
from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.auth.digest import STRONGEST_FIRST, Challenge, ha1, respond
from pbx_sip.auth.nonce import NonceMinter
from pbx_sip.auth.proof import Offer, Secrets

DOMAIN, SOURCE = "pbx.local", "192.0.2.4"
AWAY = ServiceFailed("away", 5)
STALE = Refused(407, stale=True)
JUDGED = Authenticated("1004", "by the registrar")


def user(name: str = "1004", password: str = "secret", *, bindings: tuple[Binding, ...] = ()) -> User:
    def hashes(as_written: str) -> dict[str, str]:
        return {algorithm: ha1(algorithm, as_written, DOMAIN, password) for algorithm in STRONGEST_FIRST}

    secrets = Secrets(name, hashes(name), hashes(f"{name}@{DOMAIN}"))
    return User(f"{name}@{DOMAIN}", "Ada", 3, secrets, bindings)


def binding(host: str, *, left_s: float = 60.0) -> Binding:
    expires_at_ms = int((time.time() + left_s) * 1000)
    return Binding(f"sip:1004@{host}", (), 1, host, 5060, "udp4", 0, "s1", False, expires_at_ms)


class FakeRegistrar:
    """Answers as it is told, at once."""

    def __init__(self) -> None:
        self.signal: Signal = JUDGED
        self.asked: list[Any] = []

    def authenticate(
        self, attempt: Attempt, method: str, answer: Callable[[Signal], None], timeout_s: float = 3.0
    ) -> None:
        self.asked.append((method, timeout_s))
        answer(self.signal)

    def find(self, aor: str, answer: Callable[[Signal], None], timeout_s: float = 3.0) -> None:
        self.asked.append((aor, timeout_s))
        answer(self.signal)

    def register(self, ask: Register, answer: Callable[[Registered], None]) -> None:
        self.asked.append(ask)
        answer(Registered(200))


class FakeLedger:
    """SET NX in a dict."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.error: ServiceError | None = None

    def submit(self, *command: str | int, callback: Callable[[Any, ServiceError | None], None]) -> None:
        assert (command[0], command[3], command[4], command[5]) == ("SET", "NX", "PX", 600_000)
        key = str(command[1])
        is_new = key not in self.keys
        if self.error is None:
            self.keys.add(key)
        callback(b"OK" if is_new and self.error is None else None, self.error)


class Rig:
    def __init__(self, qop: tuple[str, ...] = ("auth", "auth-int")) -> None:
        self.registrar, self.ledger = FakeRegistrar(), FakeLedger()
        self.directory = Directory(100, 60.0)
        self.directory.up()
        self.revision = 0
        self.nonces = NonceMinter(b"k" * 32, os.urandom)
        self.informed = InformedRegistrar(
            self.registrar, self.directory, lambda: None, self.ledger, self.nonces, Offer(qop=qop), SystemClock()
        )

    def know(self, *told: News) -> None:
        for each in told:
            self.directory.look(each.aor, 0.0)
        self.revision += 1
        assert self.directory.receive(Update(self.revision, False, told), time.monotonic())

    def credentials(
        self, password: str = "secret", *, name: str = "1004", nonce: str = "", nc: int = 1, **more: Any
    ) -> str:
        challenge = Challenge(
            DOMAIN, nonce or self.nonce(), more.get("algorithm", "SHA-256"), tuple(more.get("qop", ("auth",)))
        )
        method, body = more.get("method", "INVITE"), more.get("body", b"")
        return str(respond(challenge, name, password, method, f"sip:{DOMAIN}", cnonce="c", nc=nc, body=body))

    def nonce(self) -> str:
        return self.nonces.mint(time.time(), SOURCE)

    def authenticate(self, authorization: str, *, claimed: str = f"1004@{DOMAIN}", body: bytes = b"") -> Signal:
        attempt = Attempt(
            "c", "1", f"1@{DOMAIN}", claimed, "", authorization, "", 70, HostPort(SOURCE, 5060), SOURCE, body=body
        )
        answers: list[Signal] = []
        self.informed.authenticate(attempt, "INVITE", answers.append)
        (answer,) = answers
        return answer

    def find(self, aor: str = f"1004@{DOMAIN}") -> Signal:
        answers: list[Signal] = []
        self.informed.find(aor, answers.append)
        (answer,) = answers
        return answer

    def register(self, authorization: str) -> tuple[Registered, list[str]]:
        """The answer, and the credentials that the registrar was given."""
        asked = len(self.registrar.asked)
        flow = Flow(Transport.UDP, HostPort(SOURCE, 5060), "udp4")
        ask = Register(f"1004@{DOMAIN}", [], False, "r", 1, flow, [], "", authorization, b"", SOURCE)
        answers: list[Registered] = []
        self.informed.register(ask, answers.append)
        (answer,) = answers
        return answer, [ask.authorization for ask in self.registrar.asked[asked:]]


@pytest.fixture
def rig() -> Rig:
    made = Rig()
    made.know(News(f"1004@{DOMAIN}", user()))
    return made


@pytest.mark.parametrize("algorithm", STRONGEST_FIRST)
@pytest.mark.parametrize("qop", ["auth", "auth-int"])
@pytest.mark.parametrize("name", ["1004", f"1004@{DOMAIN}"])
def test_a_right_response_is_taken_here(rig: Rig, algorithm: str, qop: str, name: str) -> None:
    body = b"v=0" if qop == "auth-int" else b""
    credentials = rig.credentials(name=name, algorithm=algorithm, qop=(qop,), body=body)
    assert rig.authenticate(credentials, body=body) == Authenticated("1004", "Ada", 3)
    assert rig.registrar.asked == []
    (key,) = rig.ledger.keys
    assert key.startswith("reg:n:")
    assert key.endswith("00000001")


def test_a_response_without_qop_is_taken_where_it_is_offered() -> None:
    rig = Rig(qop=("auth", "none"))
    rig.know(News(f"1004@{DOMAIN}", user()))
    credentials = rig.credentials(qop=())
    assert rig.authenticate(credentials) == Authenticated("1004", "Ada", 3)
    assert rig.authenticate(credentials) == STALE
    (key,) = rig.ledger.keys
    assert key.endswith("-")


@pytest.mark.parametrize(
    ("authorization", "claimed"),
    [
        (lambda rig: rig.credentials("wrong"), f"1004@{DOMAIN}"),
        (lambda rig: rig.credentials(name="9"), f"1004@{DOMAIN}"),
        (lambda rig: rig.credentials(), f"1005@{DOMAIN}"),
        (lambda rig: rig.credentials(qop=()), f"1004@{DOMAIN}"),
        (lambda rig: rig.credentials(nonce=rig.nonces.mint(time.time() - 1_000, SOURCE)), f"1004@{DOMAIN}"),
        (lambda rig: rig.credentials(nonce=rig.nonces.mint(time.time(), "192.0.2.5")), f"1004@{DOMAIN}"),
        (lambda rig: "Digest nothing", f"1004@{DOMAIN}"),
    ],
    ids=["password", "unknown user", "another's name", "not offered", "old nonce", "another's nonce", "unreadable"],
)
def test_everything_else_is_left_to_the_registrar(rig: Rig, authorization: Callable[[Rig], str], claimed: str) -> None:
    rig.registrar.signal = Refused(403)
    assert rig.authenticate(authorization(rig), claimed=claimed) == Refused(403)
    assert len(rig.registrar.asked) == 1
    assert rig.ledger.keys == set(), "nothing is used up"


def test_the_domain_is_compared_without_case(rig: Rig) -> None:
    assert rig.authenticate(rig.credentials(), claimed="1004@PBX.local") == Authenticated("1004", "Ada", 3)


def test_a_count_is_good_once_here(rig: Rig) -> None:
    nonce = rig.nonce()
    again = rig.credentials(nonce=nonce, nc=1)
    assert isinstance(rig.authenticate(again), Authenticated)
    assert isinstance(rig.authenticate(rig.credentials(nonce=nonce, nc=2)), Authenticated)
    assert rig.authenticate(again) == STALE


def test_another_replicas_nonce_is_used_up_where_all_look(rig: Rig) -> None:
    other = NonceMinter(b"k" * 32, os.urandom)
    credentials = rig.credentials(nonce=other.mint(time.time(), SOURCE))
    assert isinstance(rig.authenticate(credentials), Authenticated)
    assert rig.authenticate(credentials) == STALE
    rig.ledger.error = Unavailable("away")
    assert rig.authenticate(rig.credentials(nonce=other.mint(time.time(), SOURCE))) == JUDGED


def test_a_full_table_of_counts_is_no_hole(rig: Rig) -> None:
    rig.informed.counts.nonces_max = 0
    credentials = rig.credentials()
    assert isinstance(rig.authenticate(credentials), Authenticated)
    assert rig.authenticate(credentials) == STALE


def test_redis_away_uses_a_nonce_of_ours_up_all_the_same(rig: Rig) -> None:
    rig.ledger.error = Unavailable("away")
    credentials = rig.credentials()
    assert isinstance(rig.authenticate(credentials), Authenticated)
    assert rig.authenticate(credentials) == STALE


def test_in_doubt_the_registrar_is_asked_and_what_is_known_serves_without_it(rig: Rig) -> None:
    rig.directory.down(time.monotonic())
    assert rig.authenticate(rig.credentials()) == JUDGED
    assert rig.registrar.asked == [("INVITE", 0.5)]
    rig.registrar.signal = Refused(403)
    assert rig.authenticate(rig.credentials()) == Refused(403), "its word counts"
    rig.registrar.signal = AWAY
    credentials = rig.credentials()
    assert rig.authenticate(credentials) == Authenticated("1004", "Ada", 3)
    assert rig.authenticate(credentials) == STALE
    assert rig.authenticate(rig.credentials("wrong")) == AWAY
    assert rig.authenticate(rig.credentials(name="9")) == AWAY
    assert rig.informed.results[Topic.CALLER, Result.KEPT] == 2


def test_doubt_that_is_too_old_serves_nobody(rig: Rig) -> None:
    rig.directory.down(time.monotonic() - 61)
    rig.registrar.signal = AWAY
    assert rig.authenticate(rig.credentials()) == AWAY


def test_bindings_of_a_known_user_are_found_here(rig: Rig) -> None:
    rig.know(News(f"1004@{DOMAIN}", user(bindings=(binding("192.0.2.1"), binding("192.0.2.2", left_s=-1)))))
    found = rig.find("1004@PBX.local")
    assert isinstance(found, Found)
    assert [(target.host, target.aor) for target in found.targets] == [("192.0.2.1", f"1004@{DOMAIN}")]
    assert rig.find(f"1004@{DOMAIN}") is not found, "the core may change what it is given"
    assert rig.registrar.asked == []


def test_a_user_without_a_phone_may_have_registered_one_elsewhere(rig: Rig) -> None:
    """What the other replica stored is on its way here for some milliseconds: nobody is refused for that."""
    rig.know(News(f"1004@{DOMAIN}", user(bindings=(binding("192.0.2.2", left_s=-1),))))
    registered = rig.registrar.signal = Found(True, [binding("192.0.2.1").target(f"1004@{DOMAIN}")])
    assert rig.find() == registered
    rig.registrar.signal = LookupFailed("away", 5)
    assert rig.find() == Found(True, []), "known users are served without the registrar"


def test_a_name_that_nobody_has_is_tried_in_lower_case(rig: Rig) -> None:
    bob = user("bob", bindings=(binding("192.0.2.1"),))
    rig.know(News(f"Bob@{DOMAIN}"), News(f"bob@{DOMAIN}", bob), News(f"X@{DOMAIN}"), News(f"x@{DOMAIN}"))
    found = rig.find(f"Bob@{DOMAIN}")
    assert isinstance(found, Found)
    assert [target.aor for target in found.targets] == [f"bob@{DOMAIN}"]
    assert rig.find(f"X@{DOMAIN}") == Found(False, [])
    assert rig.registrar.asked == []
    rig.know(News(f"Y@{DOMAIN}"))
    rig.registrar.signal = Found(True, [])
    assert rig.find(f"Y@{DOMAIN}") == Found(True, [])
    assert len(rig.registrar.asked) == 1


def test_in_doubt_targets_are_asked_for_and_kept(rig: Rig) -> None:
    rig.know(News(f"1004@{DOMAIN}", user(bindings=(binding("192.0.2.1"),))), News(f"9@{DOMAIN}"))
    rig.directory.down(time.monotonic())
    rig.registrar.signal = Found(True, [])
    assert rig.find() == Found(True, [])
    rig.registrar.signal = LookupFailed("away", 5)
    found = rig.find()
    assert isinstance(found, Found)
    assert [target.host for target in found.targets] == ["192.0.2.1"]
    assert rig.find(f"9@{DOMAIN}") == LookupFailed("away", 5)
    assert rig.find(f"8@{DOMAIN}") == LookupFailed("away", 5)


def test_a_register_leaves_its_credentials_here_where_they_are_proved(rig: Rig) -> None:
    credentials = rig.credentials(method="REGISTER")
    assert rig.register(credentials) == (Registered(200), [""])
    assert rig.register(credentials) == (Registered(401, stale=True), [])
    wrong = rig.credentials("wrong", method="REGISTER")
    assert rig.register(wrong) == (Registered(200), [wrong])
    other = rig.credentials(method="REGISTER", nonce=NonceMinter(b"k" * 32, os.urandom).mint(time.time(), SOURCE))
    assert rig.register(other) == (Registered(200), [other])
    rig.directory.down(time.monotonic())
    right = rig.credentials(method="REGISTER")
    assert rig.register(right) == (Registered(200), [right])
    assert rig.register("") == (Registered(200), [""])


def test_what_is_used_up_here_is_not_shown() -> None:
    assert "secret" not in repr(user())
    assert ha1("MD5", "1004", DOMAIN, "secret") not in repr(user())
