"""Requests that belong to no call, raw: the right status, a To-tag in each, nothing left behind."""

from __future__ import annotations

import pytest

from pbx_sip.address import HostPort
from pbx_sip.message.message import Request, Response
from pbx_sip.message.parse import parse
from pbx_sip.message.serialize import serialize
from support.b2bua_node import B2buaNode
from support.netem import Network
from support.sip_messages import request

PBX, PHONE = HostPort("192.0.2.1", 5060), HostPort("192.0.2.10", 5060)


class Wire:
    """A phone that only sends bytes and keeps what comes back. Implements `netem.Node`."""

    address = PHONE
    next_timeout = None
    now = 0.0

    def __init__(self) -> None:
        self.got: list[Response] = []
        self._sent: list[tuple[bytes, HostPort]] = []

    def receive(self, data: bytes, source: HostPort, now: float) -> None:
        message = parse(data)
        assert isinstance(message, Response)
        self.got.append(message)

    def handle_timeout(self, now: float) -> None:
        raise AssertionError

    def outgoing(self) -> list[tuple[bytes, HostPort]]:
        sent, self._sent = self._sent, []
        return sent

    def send(self, data: bytes) -> None:
        self._sent.append((data, PBX))


def answers(*data: bytes) -> list[Response]:
    """What the product answers to these datagrams; it must be clean in the end."""
    network, pbx, wire = Network(), B2buaNode(PBX), Wire()
    pbx.registrar.passwords = {"1004": "x"}
    network.add(pbx)
    network.add(wire)
    for datagram in data:
        wire.send(datagram)
        network.run(0.1)
    network.settle()
    pbx.assert_clean()
    return wire.got


def made(method: str, *extra: tuple[str, str], body: bytes = b"", hops: str = "70", to_tag: str = "") -> bytes:
    message = request(method, uri="sip:1004@pbx.local", extra=extra, body=body, to_tag=to_tag)
    message.headers.set("Max-Forwards", hops)
    return serialize(message)


SERVER = made("OPTIONS").replace(b"sip:1004@pbx.local SIP", b"sip:pbx.local SIP")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (made("OPTIONS"), 480),
        (made("OPTIONS").replace(b"sip:1004@pbx.local SIP", b"sip:1005@pbx.local SIP"), 404),
        (SERVER, 200),
        (SERVER.replace(b"sip:pbx.local SIP", b"sip:s1@192.0.2.1 SIP"), 200),
        (made("BYE"), 481),
        (made("BYE", to_tag="nobody"), 481),
        (made("INVITE", to_tag="nobody"), 481),
        (made("UPDATE"), 481),
        (made("PRACK"), 481),
        (made("INFO"), 481),
        (made("CANCEL"), 481),
        (made("SUBSCRIBE"), 405),
        (made("FROBNICATE"), 501),
        (made("INVITE", hops="0"), 483),
        (made("INVITE", ("Require", "foo")), 420),
        (made("INVITE", ("Content-Type", "text/plain"), body=b"hello"), 415),
        (made("INVITE", ("Content-Type", "application/sdp"), body=b"nonsense"), 480),
        (made("INVITE"), 480),
        (made("INVITE").replace(b"CSeq: 1 INVITE", b"CSeq: 1 BYE"), 400),
        (made("INVITE").replace(b"sip:1004@pbx.local SIP", b"http://x SIP"), 416),
        (made("INVITE").replace(b"SIP/2.0\r\nVia", b"SIP/3.0\r\nVia"), 505),
        (made("INVITE").replace(b"INVITE\r\n", b"INVITE\r\nBroken\r\n"), 400),
    ],
)
def test_answers(data: bytes, status: int) -> None:
    finals = [answer for answer in answers(data) if answer.status >= 200]
    assert {answer.status for answer in finals} == {status}
    for answer in finals:
        assert answer.to_tag
        assert answer.branch == "z9hG4bKa1"


@pytest.mark.parametrize(
    "data", [made("ACK"), made("ACK", to_tag="x"), b"", b"\r\n\r\n", b"\x00" * 100, b"SIP/2.0 200 OK\r\n\r\n"]
)
def test_silence(data: bytes) -> None:
    assert answers(data) == []


def test_repetitions_get_the_same_answer() -> None:
    got = answers(SERVER, SERVER, SERVER)
    assert [answer.status for answer in got] == [200, 200, 200]
    assert len({answer.to_tag for answer in got}) == 1


def test_a_request_over_two_ways_is_served_once() -> None:
    first = made("INVITE")
    got = answers(first, first.replace(b"z9hG4bKa1", b"z9hG4bKa2"))
    assert {answer.status for answer in got if answer.branch == "z9hG4bKa1" and answer.status >= 200} == {480}
    assert {answer.status for answer in got if answer.branch == "z9hG4bKa2"} == {482}


def test_messages_are_requests() -> None:
    assert isinstance(parse(made("OPTIONS")), Request)
