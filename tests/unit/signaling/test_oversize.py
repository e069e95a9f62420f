"""Requests too large for a datagram: by TCP, back to UDP where that fails, and remembered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from pbx_signaling.legs.leg import Purpose, Sent
from pbx_signaling.router.addressing import Addressing, Listener
from pbx_signaling.router.oversize import LARGE, REMEMBER_S, Oversize, size_of
from pbx_signaling.router.router import Core
from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request
from pbx_sip.message.serialize import serialize

UDP = Flow(Transport.UDP, HostPort("192.0.2.1", 5060), "udp4")


@dataclass
class FakeLeg:
    is_given_up: bool = False
    strict_flow: bool = False
    resends: list[object] = field(default_factory=list)

    def resent(self, sent: Sent, key: object) -> None:
        self.resends.append(key)


@dataclass
class FakeCore:
    """Only what Oversize needs: a layer that notes requests, and a clock."""

    addressing: Addressing
    now: float = 0.0
    sent: list[tuple[Request, Flow]] = field(default_factory=list)
    due: dict[int, float] = field(default_factory=dict)
    given_up: list[int] = field(default_factory=list)

    @property
    def layer(self) -> FakeCore:
        return self

    def request(self, request: Request, flow: Flow, now: float, owner: object, patience_s: float = 0.0) -> int:
        self.sent.append((request, flow))
        return len(self.sent)

    def give_up(self, key: int, now: float) -> None:
        self.given_up.append(key)

    def schedule(self, owner: Oversize, at: float, what: int) -> int:
        self.due[what] = at
        return what

    def unschedule(self, handle: int) -> None:
        del self.due[handle]

    def via(self, flow: Flow) -> str:
        return self.addressing.via(flow, "z9hG4bKtwin")


@pytest.fixture
def addressing() -> Addressing:
    made = Addressing("s1")
    for transport in (Transport.UDP, Transport.TCP):
        made.add(Listener(f"{transport.name.lower()}4", transport, HostPort("192.0.2.9", 5060)))
    return made


def invite(body_size: int) -> Request:
    return Request("INVITE", "sip:a@192.0.2.1", Headers([("Via", "SIP/2.0/UDP x;branch=z9hG4bKudp")]), b"x" * body_size)


def sent_by(leg: FakeLeg) -> Sent:
    return Sent(cast("Any", leg), Purpose.INVITE)


def test_the_size_is_that_on_the_wire() -> None:
    request = invite(100)
    assert size_of(request) == pytest.approx(len(serialize(request)), abs=25)


def test_small_ones_go_by_udp_and_large_ones_by_tcp_with_their_own_via(addressing: Addressing) -> None:
    core, oversize = FakeCore(addressing), Oversize(addressing)
    oversize.send(invite(100), UDP, sent_by(FakeLeg()), cast("Core", core))
    oversize.send(invite(LARGE), UDP, sent_by(FakeLeg()), cast("Core", core))
    assert [flow for _, flow in core.sent] == [UDP, Flow(Transport.TCP, UDP.remote, "tcp4")]
    assert core.sent[0][0].top_via.startswith("SIP/2.0/UDP ")
    assert core.sent[1][0].top_via.startswith("SIP/2.0/TCP ")


def test_where_tcp_fails_udp_serves_and_is_remembered_for_a_while(addressing: Addressing) -> None:
    core, oversize, leg = FakeCore(addressing), Oversize(addressing), FakeLeg()
    key = oversize.send(invite(LARGE), UDP, sent_by(leg), cast("Core", core))
    assert oversize.sent_again(key, sent_by(leg), cast("Core", core))
    assert leg.resends == [2]
    request, flow = core.sent[1]
    assert flow == UDP
    assert request.headers.all("Via") == ["SIP/2.0/UDP x;branch=z9hG4bKudp"]
    assert not oversize.sent_again(2, sent_by(leg), cast("Core", core)), "UDP was the last way"
    for core.now, expected in ((REMEMBER_S - 1, Transport.UDP), (REMEMBER_S + 1, Transport.TCP)):
        oversize.send(invite(LARGE), UDP, sent_by(leg), cast("Core", core))
        assert core.sent[-1][1].transport is expected


def test_what_was_answered_or_given_up_is_not_sent_again(addressing: Addressing) -> None:
    core, oversize = FakeCore(addressing), Oversize(addressing)
    key = oversize.send(invite(LARGE), UDP, sent_by(FakeLeg()), cast("Core", core))
    oversize.answered(key)
    assert not oversize.sent_again(key, sent_by(FakeLeg()), cast("Core", core))
    given_up = FakeLeg(is_given_up=True)
    key = oversize.send(invite(LARGE), UDP, sent_by(given_up), cast("Core", core))
    assert not oversize.sent_again(key, sent_by(given_up), cast("Core", core))
    assert len(core.sent) == 2


def test_who_says_nothing_by_tcp_gets_it_by_udp_within_two_seconds(addressing: Addressing) -> None:
    """A phone may take the connection and never read it."""
    core, oversize, leg = FakeCore(addressing, now=10.0), Oversize(addressing), FakeLeg()
    key = oversize.send(invite(LARGE), UDP, sent_by(leg), cast("Core", core))
    ((number, at),) = core.due.items()
    assert 11.0 < at < 12.0
    oversize.expired(number)
    assert core.given_up == [key]
    assert oversize.sent_again(key, sent_by(leg), cast("Core", core))
    assert [flow.transport for _, flow in core.sent] == [Transport.TCP, Transport.UDP]
    assert not core.due


def test_who_answers_by_tcp_is_not_given_up(addressing: Addressing) -> None:
    core, oversize = FakeCore(addressing), Oversize(addressing)
    key = oversize.send(invite(LARGE), UDP, sent_by(FakeLeg()), cast("Core", core))
    (number,) = core.due
    oversize.answered(key)
    assert not core.due
    oversize.expired(number)
    assert not core.given_up
