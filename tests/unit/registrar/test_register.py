"""The use cases over the memory store: credentials, conflicts, failures, events."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from pbx.events.v1 import events_pb2
from pbx.registrar.v1 import registrar_pb2 as pb
from pbx_registrar.authenticate import Attempt, Authenticator
from pbx_registrar.bindings import Change, ChangeKind, Outcome, Policy, Registration
from pbx_registrar.codec import ProtoCodec
from pbx_registrar.credentials import FakeAccounts
from pbx_registrar.register import CONFLICTS_MAX, Registrar, Reply
from pbx_registrar.storage.base import Done, Record, Write
from pbx_registrar.storage.memory import MemoryBindings
from pbx_registrar.storage.memory_ledger import MemoryLedger
from pbx_runtime.clock import ManualClock
from pbx_runtime.errors import ServiceError, Unavailable
from pbx_sip.auth.digest import Challenge, respond
from pbx_sip.auth.nonce import NonceMinter
from support.registrations import AOR, UDP, account, contact, registration, uris

A, B = "sip:1004@192.0.2.1:5060", "sip:1004@192.0.2.2:5060"


class RacingBindings(MemoryBindings):
    """Another replica writes before each of the first `races` writes."""

    races = 0

    def write(self, write: Write, done: Done[Record]) -> None:
        if self.races:
            self.races -= 1
            current = self.records.get(write.aor, Record())
            self._store(Write(aor=write.aor, expected=current.version, payload=current.payload or b"\x08\x01"))
        super().write(write, done)


@dataclass
class Rig:
    store: RacingBindings = field(default_factory=RacingBindings)
    accounts: FakeAccounts = field(default_factory=lambda: FakeAccounts(account()))
    clock: ManualClock = field(default_factory=ManualClock)
    changes: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nonces = NonceMinter(b"k" * 32, os.urandom)
        self.registrar = Registrar(
            store=self.store,
            accounts=self.accounts,
            authenticator=Authenticator(self.accounts, MemoryLedger(), self.nonces, self.clock),
            codec=ProtoCodec("registrar/r1"),
            policy=Policy(),
            clock=self.clock,
            observe=self.changes.extend,
        )

    def attempt(self, password: str = "secret") -> Attempt:
        challenge = Challenge("pbx.local", self.nonces.mint(self.clock.epoch_ms() / 1000, ""), "SHA-256")
        value = respond(challenge, "1004", password, "REGISTER", "sip:pbx.local", cnonce="c")
        return Attempt("REGISTER", str(value), b"", AOR, "192.0.2.4")

    def register(self, request: Registration, attempt: Attempt | None = None) -> Reply:
        reply = now(lambda done: self.registrar.register(request, attempt, done))
        assert isinstance(reply, Reply)
        return reply

    def events(self) -> list[str | None]:
        return [events_pb2.Event.FromString(event).WhichOneof("payload") for event in self.store.events]


def now(ask: Callable[[Done[Any]], None]) -> Any:
    """What is answered at once; raises the error answered."""
    answers: list[tuple[Any, ServiceError | None]] = []
    ask(lambda value, error: answers.append((value, error)))
    ((value, error),) = answers
    if error is not None:
        raise error
    return value


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_registered_contact_is_stored_as_the_answer_to_a_look_up(rig: Rig) -> None:
    reply = rig.register(registration(contact(A)), rig.attempt())
    assert (reply.outcome.status, uris(reply.outcome.bindings)) == (200, [A])
    stored = pb.LookupResponse.FromString(rig.store.records[AOR].payload)
    assert (stored.known, [each.uri for each in stored.bindings]) == (True, [A])
    assert rig.events() == ["registration_added"]
    assert [change.kind for change in rig.changes] == [ChangeKind.ADDED]


def test_the_event_says_who_where_and_for_how_long(rig: Rig) -> None:
    rig.register(registration(contact(A)))
    (event,) = map(events_pb2.Event.FromString, rig.store.events)
    assert (event.source, event.at_ms, len(event.id)) == ("registrar/r1", rig.clock.epoch_ms(), 26)
    added = event.registration_added
    assert (added.aor, added.contact, added.source) == (AOR, A, "udp:192.0.2.4:5060")
    assert (added.user_agent, added.expires_s) == ("Phone/1.0", 600)


def test_a_refresh_is_stored_and_told_to_watchers_but_is_no_event(rig: Rig) -> None:
    rig.register(registration(contact(A)))
    rig.register(registration(contact(A), cseq=2))
    assert rig.events() == ["registration_added"]
    changes = [pb.WatchResponse.FromString(notice).change for notice in rig.store.notices]
    assert changes == [pb.CHANGE_ADDED, pb.CHANGE_REFRESHED]


def test_the_last_removal_leaves_no_record(rig: Rig) -> None:
    rig.register(registration(contact(A)))
    rig.register(registration(contact(A, 0), cseq=2))
    assert rig.store.records == {}
    assert rig.events() == ["registration_added", "registration_removed"]


def test_a_refused_request_and_a_query_write_nothing(rig: Rig) -> None:
    rig.register(registration(contact(A), cseq=5))
    before = dict(rig.store.records)
    assert rig.register(registration(contact(A), cseq=5)).outcome.status == 500
    assert rig.register(registration(contact(A, 10), cseq=6)).outcome.status == 423
    assert uris(rig.register(registration(cseq=7)).outcome.bindings) == [A]
    assert rig.store.records == before


@pytest.mark.parametrize(
    ("password", "status"),
    [("secret", 200), ("guess", 403)],
)
def test_credentials_decide_first(rig: Rig, password: str, status: int) -> None:
    assert rig.register(registration(contact(A)), rig.attempt(password)).outcome.status == status
    assert bool(rig.store.records) is (status == 200)


def test_a_used_nonce_is_401_stale(rig: Rig) -> None:
    attempt = rig.attempt()
    rig.register(registration(contact(A)), attempt)
    reply = rig.register(registration(contact(A), cseq=2), attempt)
    assert (reply.outcome.status, reply.stale) == (401, True)


def test_without_credentials_the_account_must_exist(rig: Rig) -> None:
    assert rig.register(registration(contact(A), aor="9999@pbx.local")).outcome.status == 404


def test_a_lost_race_is_decided_anew(rig: Rig) -> None:
    rig.store.races = CONFLICTS_MAX - 1
    reply = rig.register(registration(contact(A)))
    assert uris(reply.outcome.bindings) == [A]
    assert rig.events() == ["registration_added"]


def test_a_race_without_end_is_given_up(rig: Rig) -> None:
    rig.store.races = CONFLICTS_MAX
    with pytest.raises(Unavailable):
        rig.register(registration(contact(A)))
    assert rig.changes == []


@pytest.mark.parametrize("part", ["store", "accounts"])
def test_what_is_out_of_reach_is_an_error(rig: Rig, part: str) -> None:
    getattr(rig, part).error = Unavailable("away")
    with pytest.raises(Unavailable):
        rig.register(registration(contact(A)))


def unregister(rig: Rig, uri: str = "", **more: Any) -> Outcome:
    outcome = now(lambda done: rig.registrar.unregister(AOR, uri, more.get("flow"), done))
    assert isinstance(outcome, Outcome)
    return outcome


def test_removal_without_a_register(rig: Rig) -> None:
    rig.register(registration(contact(A), contact(B)))
    assert uris(unregister(rig, A).bindings) == [B]
    assert uris(unregister(rig, flow=UDP).bindings) == []
    assert unregister(rig).changes == ()
    assert rig.events()[2:] == ["registration_removed"] * 2


def test_expiry_tells_and_moves_the_next_time(rig: Rig) -> None:
    rig.register(registration(contact(A, 60), contact(B, 600)))
    rig.clock.advance(60)
    now(lambda done: rig.registrar.expire(AOR, done))
    assert rig.events()[2:] == ["registration_expired"]
    assert rig.store.first_expiry_ms == {AOR: rig.clock.epoch_ms() + 540_000}
    rig.clock.advance(540)
    now(lambda done: rig.registrar.expire(AOR, done))
    assert rig.store.records == {}


def test_expiry_of_a_record_that_is_gone_clears_its_index(rig: Rig) -> None:
    rig.store.first_expiry_ms[AOR] = 1
    now(lambda done: rig.registrar.expire(AOR, done))
    assert rig.store.first_expiry_ms == {}
