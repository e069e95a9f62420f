"""Admission alone: a request and how the instance fares in, a verdict out. No core, no transaction."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest

from pbx_signaling.border.border import Border
from pbx_signaling.border.challenge import Challenges
from pbx_signaling.bucket import Bucket
from pbx_signaling.config import CoreConfig
from pbx_signaling.counters import Counters
from pbx_signaling.router.admission import DROP, PASS, Admission, Refuse
from pbx_signaling.router.sources import UNREAD_AFTER, Sources
from pbx_signaling.users.user import Load, User
from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.auth.nonce import NonceMinter
from support.sip_messages import request

FLOW = Flow(Transport.UDP, HostPort("192.0.2.10", 5060), "udp4")
LOAD = Load(now=100.0, wall_s=1_700_000_100.0)


class Toy(User):
    methods = ("PUBLISH",)


class Open(User):
    methods = ("OPTIONS",)
    always_proves = False

    def needs_auth(self, request: object) -> bool:
        return False


def admission(authenticate: bool = True, **config: Any) -> Admission:
    settings = CoreConfig("pbx.local", authenticate=authenticate, **config)
    users: dict[str, User] = {"PUBLISH": Toy(), "OPTIONS": Open()}
    challenges = Challenges(settings, NonceMinter(b"0123456789abcdef", os.urandom))
    sources = Sources(settings.source_requests_per_s, settings.source_burst)
    return Admission(users, frozenset({"BYE"}), challenges, sources, Border("pbx.local"), Counters())


def status(verdict: object) -> int:
    assert isinstance(verdict, Refuse), verdict
    return int(verdict.octets.split()[1])


@pytest.mark.parametrize(
    ("method", "load", "expected"),
    [
        ("PUBLISH", LOAD, 407),
        ("PUBLISH", dataclasses.replace(LOAD, draining=True), 503),
        ("PUBLISH", dataclasses.replace(LOAD, stalled=True), 503),
        ("OPTIONS", dataclasses.replace(LOAD, crowded=True), 503),
        ("BYE", LOAD, 481),
        ("REFER", LOAD, 405),
        ("FROBNICATE", LOAD, 501),
    ],
)
def test_what_is_refused(method: str, load: Load, expected: int) -> None:
    assert status(admission().outside(request(method), FLOW, 1_000, load)) == expected


def test_what_passes() -> None:
    assert admission().outside(request("OPTIONS"), FLOW, 1_000, LOAD) is PASS
    assert admission(authenticate=False).outside(request("PUBLISH"), FLOW, 1_000, LOAD) is PASS


def test_an_answer_that_would_be_too_long_is_none() -> None:
    assert admission().outside(request("PUBLISH"), FLOW, 40, LOAD) is DROP


def test_a_source_that_asks_for_too_much_is_refused_and_then_not_read() -> None:
    made = admission(source_requests_per_s=1.0, source_burst=1.0)
    assert status(made.outside(request("PUBLISH"), FLOW, 1_000, LOAD)) == 407
    for _ in range(UNREAD_AFTER + 1):
        assert status(made.outside(request("PUBLISH"), FLOW, 1_000, LOAD)) == 503
    assert made.leaves_unread
    assert made.is_unread(b"PUBLISH sip:x SIP/2.0\r\n", FLOW, LOAD)
    assert not made.is_unread(b"BYE sip:x SIP/2.0\r\n", FLOW, LOAD), "that belongs to a call"


def test_inside_a_dialog_only_its_budget_counts() -> None:
    made, inside = admission(), request("OPTIONS", to_tag="t")
    assert made.inside(inside, None) is PASS
    assert status(made.inside(inside, Bucket(0.0, 0.0))) == 503
    assert made.inside(inside, Bucket(0.0, 0.0, UNREAD_AFTER + 1)) is DROP
