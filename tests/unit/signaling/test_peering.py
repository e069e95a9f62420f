"""Messages of other replicas: whose is what, and flows that end elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from pbx_signaling.calls.signals import Target
from pbx_signaling.replicas.peering import Carriage, Peering, at, is_remote
from pbx_signaling.router.addressing import Addressing, Listener
from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.message.message import Message, Response, response_to
from support.sip_messages import request

TLS = Flow(Transport.TLS, HostPort("192.0.2.1", 40_000), "tls4", 7)


def forward(peering: Peering, message: Message, data: bytes, flow: Flow) -> bool:
    """What the core does with a message, where its source's budget allows that."""
    owner = peering.owner_of(message, flow)
    if owner:
        peering.hand_over(owner, data, flow)
    return bool(owner)


@dataclass
class FakeCarrier:
    carried: list[tuple[str, Carriage, bytes, Flow]] = field(default_factory=list)

    def carry(self, instance: str, carriage: Carriage, data: bytes, flow: Flow) -> None:
        self.carried.append((instance, carriage, data, flow))


@pytest.fixture
def carrier() -> FakeCarrier:
    return FakeCarrier()


@pytest.fixture
def peering(carrier: FakeCarrier) -> Peering:
    return Peering("s1", carrier, frozenset({"s2"}))


@pytest.mark.parametrize(("to_tag", "owner"), [("s2.abc", "s2"), ("s1.abc", ""), ("s3.abc", ""), ("abc", ""), ("", "")])
def test_a_request_goes_to_the_instance_that_minted_its_to_tag(
    peering: Peering, carrier: FakeCarrier, to_tag: str, owner: str
) -> None:
    message = request("BYE", uri="sip:x", to_tag=to_tag)
    assert forward(peering, message, b"raw", TLS) is bool(owner)
    assert carrier.carried == ([(owner, Carriage.RECEIVED, b"raw", TLS)] if owner else [])


def test_a_response_goes_to_the_instance_that_minted_its_branch(peering: Peering, carrier: FakeCarrier) -> None:
    asked = request("INVITE", uri="sip:x", branch="z9hG4bKs2.1")
    answer: Response = response_to(asked, 180)
    assert forward(peering, answer, b"raw", TLS)
    assert carrier.carried == [("s2", Carriage.RECEIVED, b"raw", TLS)]


def test_what_was_carried_here_is_not_carried_on(peering: Peering, carrier: FakeCarrier) -> None:
    message = request("BYE", uri="sip:x", to_tag="s2.abc")
    assert not forward(peering, message, b"raw", at("s2", TLS))
    peering.alive = ()
    assert not forward(peering, message, b"raw", TLS)
    assert carrier.carried == []


def test_an_instance_that_speaks_lives(peering: Peering, carrier: FakeCarrier) -> None:
    """It knew of us before we read of it: what it carried here must find its way back."""
    assert not peering.send(b"raw", at("s3", TLS))
    peering.met("s3")
    assert peering.send(b"raw", at("s3", TLS))
    assert carrier.carried == [("s3", Carriage.SEND, b"raw", TLS)]
    assert set(peering.alive) == {"s2", "s3"}


def test_sending_down_a_flow_of_another_instance(peering: Peering, carrier: FakeCarrier) -> None:
    assert is_remote(at("s2", TLS))
    assert not is_remote(TLS)
    assert peering.send(b"raw", at("s2", TLS))
    assert not peering.send(b"raw", at("s3", TLS))
    assert carrier.carried == [("s2", Carriage.SEND, b"raw", TLS)]


def test_who_used_a_connection_hears_of_its_end_once(peering: Peering, carrier: FakeCarrier) -> None:
    peering.used(TLS, "s2")
    peering.used(TLS, "s2")
    peering.used(TLS._replace(connection=0), "s2")
    peering.broken(TLS)
    peering.broken(TLS)
    peering.broken(TLS._replace(connection=0))
    assert carrier.carried == [("s2", Carriage.BROKEN, b"", TLS)]


def test_a_phone_of_another_replica_is_reached_through_it_as_long_as_that_lives() -> None:
    addressing = Addressing("s1", peers={"s2"})
    addressing.add(Listener("udp4", Transport.UDP, HostPort("192.0.2.9", 5060)))
    addressing.add(Listener("tls4", Transport.TLS, HostPort("192.0.2.9", 5061)))
    target = Target("sip:a@10.0.0.1", "a@x", (), 3, "192.0.2.1", 40_000, "tls6", 7, "s2")
    flow = addressing.flow_of(target)
    assert flow == TLS._replace(listener="tls6@s2")
    assert addressing.via(flow, "z").startswith("SIP/2.0/TLS 192.0.2.9:5061;")
    assert addressing.contact(flow) == "<sip:s1@192.0.2.9:5061;transport=tls>"
    assert addressing.route("sip:b@192.0.2.77", flow) is flow
    addressing.peers = ()
    assert addressing.flow_of(target).listener == "tls4"
    near = Target("sip:a@192.0.2.1:40000", "a@x", (), 1, "192.0.2.1", 40_000, "udp4", 0, "s2")
    addressing.peers = {"s2"}
    assert addressing.flow_of(near).listener == "udp4", "no NAT in between: any replica may send"
