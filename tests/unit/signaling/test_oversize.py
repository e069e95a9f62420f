"""Requests too large for a datagram: by TCP, back to UDP where that fails, and remembered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from pbx_signaling.router.addressing import Addressing, Listener
from pbx_signaling.router.oversize import LARGE, REMEMBER_S, Oversize, size_of
from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request
from pbx_sip.message.serialize import serialize
from pbx_sip.transaction.deadlines import Deadlines

UDP = Flow(Transport.UDP, HostPort("192.0.2.1", 5060), "udp4")


@dataclass
class FakeOwner:
    is_given_up: bool = False
    strict_flow: bool = False
    call_id: str = ""
    resends: list[object] = field(default_factory=list)

    @property
    def user(self) -> Any:
        return self

    def resent(self, owner: object, key: object) -> None:
        self.resends.append(key)


class FakeLayer:
    """Only what Oversize needs: it notes requests."""

    def __init__(self, addressing: Addressing) -> None:
        self.sent: list[tuple[Request, Flow]] = []
        self.given_up: list[int] = []
        self.deadlines = Deadlines()
        self.oversize = Oversize(
            cast("Any", self),
            self.deadlines,
            addressing.reliable_twin,
            lambda flow: addressing.via(flow, "z9hG4bKtwin"),
        )

    def request(self, request: Request, flow: Flow, now: float, owner: object, patience_s: float = 0.0) -> int:
        self.sent.append((request, flow))
        return len(self.sent)

    def give_up(self, key: int, now: float) -> None:
        self.given_up.append(key)


@pytest.fixture
def addressing() -> Addressing:
    made = Addressing("s1")
    for transport in (Transport.UDP, Transport.TCP):
        made.add(Listener(f"{transport.name.lower()}4", transport, HostPort("192.0.2.9", 5060)))
    return made


def invite(body_size: int) -> Request:
    return Request("INVITE", "sip:a@192.0.2.1", Headers([("Via", "SIP/2.0/UDP x;branch=z9hG4bKudp")]), b"x" * body_size)


def test_the_size_is_that_on_the_wire() -> None:
    request = invite(100)
    assert size_of(request) == pytest.approx(len(serialize(request)), abs=25)


def test_small_ones_go_by_udp_and_large_ones_by_tcp_with_their_own_via(addressing: Addressing) -> None:
    layer = FakeLayer(addressing)
    layer.oversize.send(invite(100), UDP, FakeOwner(), 0.0)
    layer.oversize.send(invite(LARGE), UDP, FakeOwner(), 0.0)
    layer.oversize.send(invite(LARGE), UDP, FakeOwner(strict_flow=True), 0.0)
    assert [flow for _, flow in layer.sent] == [UDP, Flow(Transport.TCP, UDP.remote, "tcp4"), UDP]
    assert layer.sent[0][0].top_via.startswith("SIP/2.0/UDP ")
    assert layer.sent[1][0].top_via.startswith("SIP/2.0/TCP ")


def test_where_tcp_fails_udp_serves_and_is_remembered_for_a_while(addressing: Addressing) -> None:
    layer, owner = FakeLayer(addressing), FakeOwner()
    oversize = layer.oversize
    key = oversize.send(invite(LARGE), UDP, owner, 0.0)
    assert oversize.sent_again(key, owner, 0.0)
    assert owner.resends == [2]
    request, flow = layer.sent[1]
    assert flow == UDP
    assert request.headers.all("Via") == ["SIP/2.0/UDP x;branch=z9hG4bKudp"]
    assert not oversize.sent_again(cast("Any", 2), owner, 0.0), "UDP was the last way"
    for now, expected in ((REMEMBER_S - 1, Transport.UDP), (REMEMBER_S + 1, Transport.TCP)):
        oversize.send(invite(LARGE), UDP, owner, now)
        assert layer.sent[-1][1].transport is expected


def test_what_was_answered_or_given_up_is_not_sent_again(addressing: Addressing) -> None:
    layer = FakeLayer(addressing)
    key = layer.oversize.send(invite(LARGE), UDP, FakeOwner(), 0.0)
    layer.oversize.answered(key)
    assert not layer.oversize.sent_again(key, FakeOwner(), 0.0)
    given_up = FakeOwner(is_given_up=True)
    key = layer.oversize.send(invite(LARGE), UDP, given_up, 0.0)
    assert not layer.oversize.sent_again(key, given_up, 0.0)
    assert len(layer.sent) == 2


def test_who_says_nothing_by_tcp_gets_it_by_udp_within_two_seconds(addressing: Addressing) -> None:
    """A phone may take the connection and never read it."""
    layer, owner = FakeLayer(addressing), FakeOwner()
    key = layer.oversize.send(invite(LARGE), UDP, owner, 10.0)
    assert not layer.deadlines.expire(11.0)
    ((whose, number),) = layer.deadlines.expire(12.0)
    assert whose is layer.oversize
    layer.oversize.expired(number, 12.0)
    assert layer.given_up == [key]
    assert layer.oversize.sent_again(key, owner, 12.0)
    assert [flow.transport for _, flow in layer.sent] == [Transport.TCP, Transport.UDP]
    assert len(layer.deadlines) == 0


def test_who_answers_by_tcp_is_not_given_up(addressing: Addressing) -> None:
    layer = FakeLayer(addressing)
    key = layer.oversize.send(invite(LARGE), UDP, FakeOwner(), 0.0)
    layer.oversize.answered(key)
    assert len(layer.deadlines) == 0
    layer.oversize.expired(1, 2.0)
    assert not layer.given_up
