"""Calls between any two transports and both address families: what each side is told, and that each can end it."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest

from support.phone import Phone
from support.sipp_script import Callee, sdp
from support.stream_phone import TcpPhone
from support.waiting import until
from support.wire import Message, audio_sdp

if TYPE_CHECKING:
    from support.pair import Pair
    from support.product import Product

pytestmark = pytest.mark.interop

VIA = {"udp": "UDP", "tcp": "TCP", "tls": "TLS", "ws": "WS", "wss": "WSS", "udp6": "UDP", "tcp6": "TCP"}
PARAMETER = {"udp": None, "udp6": None, "tcp": "tcp", "tcp6": "tcp", "tls": "tls", "ws": "ws", "wss": "ws"}
PAIRS = [
    *(("udp", "tcp"), ("udp", "tls"), ("tls", "udp"), ("ws", "tcp"), ("tcp", "ws"), ("wss", "tls"), ("tls", "wss")),
    *(("ws", "ws"), ("udp", "udp6"), ("udp6", "udp"), ("tcp6", "tls"), ("ws", "udp6"), ("udp", "wss")),
]


def talk(caller: Phone, callee: Phone, kinds: tuple[str, str], product: Product) -> None:
    """A call, held and resumed by the callee, ended by the callee."""
    caller_kind, callee_kind = kinds
    assert callee.register().status == 200
    dialog = caller.dial(callee.user)
    invite = callee.expect("INVITE")
    check_addressing(invite, callee_kind, product)
    theirs = callee.answer(invite)
    callee.reply(invite, 180, "Ringing", dialog=theirs)
    ringing = caller.expect(180)
    check_contact(ringing, caller_kind, product)
    callee.reply(invite, 200, "OK", dialog=theirs, body=audio_sdp(41_000, host=callee.host))
    caller.ack(dialog, caller.expect(200))
    callee.expect("ACK")
    callee.request(theirs, "INVITE", body=audio_sdp(41_000, host=callee.host, version=2, extra=("a=sendonly",)))
    again = caller.expect("INVITE")
    check_addressing(again, caller_kind, product)
    assert again.sdp("a=sendonly") == [""]
    caller.reply(again, 200, "OK", dialog=dialog, body=audio_sdp(4200, host=caller.host, extra=("a=recvonly",)))
    callee.ack(theirs, callee.expect(200))
    caller.expect("ACK")
    callee.request(theirs, "BYE")
    caller.reply(caller.expect("BYE"), 200, "OK")
    assert callee.expect(200)


def check_addressing(request: Message, kind: str, product: Product) -> None:
    via = request.get("via")
    assert via.startswith(f"SIP/2.0/{VIA[kind]} {written(product.server(kind))};"), via
    check_contact(request, kind, product)


def check_contact(message: Message, kind: str, product: Product) -> None:
    contact = message.uri("contact")
    found = re.search(r";transport=(\w+)", contact)
    assert (found[1] if found else None) == PARAMETER[kind], contact
    assert f"@{written(product.server(kind))}" in contact, contact


def written(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@pytest.mark.parametrize("kinds", PAIRS, ids="-".join)
def test_a_call_between_two_transports(product: Product, pair: Pair, kinds: tuple[str, str]) -> None:
    with product.phone_on(kinds[0], pair.caller) as caller, product.phone_on(kinds[1], pair.callee) as callee:
        talk(caller, callee, kinds, product)
    legs = pair.cdr(outcome="answered")["legs"]
    assert [leg["transport"] for leg in legs] == [kind.rstrip("6") for kind in kinds]
    pair.released()


@pytest.mark.parametrize("kind", ["tcp", "tls", "ws", "wss", "tcp6"])
def test_a_broken_connection_takes_its_binding_with_it(product: Product, pair: Pair, kind: str) -> None:
    phone = product.phone_on(kind, pair.callee)
    assert phone.register().status == 200
    assert pair.contacts(pair.callee) == [phone.contact]
    phone.close()
    until(lambda: not pair.contacts(pair.callee), timeout_s=3, what="the binding gone")


def test_a_phone_that_comes_back_over_another_connection_keeps_its_call(product: Product, pair: Pair) -> None:
    with product.phone(pair.caller) as caller, product.phone_on("tls", pair.callee) as callee:
        assert callee.register().status == 200
        dialog = caller.dial(pair.callee)
        invite = callee.expect("INVITE")
        theirs = callee.answer(invite)
        callee.reply(invite, 200, "OK", dialog=theirs, body=audio_sdp(41_000))
        caller.ack(dialog, caller.expect(200))
        callee.expect("ACK")
        callee.close()
        with product.phone_on("tls", pair.callee) as back:
            back.request(theirs, "INVITE", body=audio_sdp(41_000, version=2))
            again = caller.expect("INVITE")
            caller.reply(again, 200, "OK", dialog=dialog, body=audio_sdp(4200, version=2))
            back.ack(theirs, back.expect(200))
            caller.expect("ACK")
            caller.request(dialog, "BYE")
            back.reply(back.expect("BYE"), 200, "OK")
            assert caller.expect(200)
    pair.cdr(outcome="answered")
    pair.released()


def test_sips_makes_sips_contacts_and_needs_a_secure_callee(product: Product, pair: Pair) -> None:
    with product.phone_on("tls", pair.caller) as caller, product.phone(pair.callee) as callee:
        assert callee.register().status == 200
        caller.address_of = lambda user: f"sips:{user}@pbx.local"  # type: ignore[method-assign]
        dialog = caller.dial(pair.callee)
        refused = caller.expect(480)
        caller.ack(dialog, refused)
    with product.phone_on("tls", pair.callee) as callee:
        callee.register(contacts=(f"<sips:{callee.user}@{callee.sent_by}>",))
        with product.phone_on("tls", pair.caller) as caller:
            caller.address_of = lambda user: f"sips:{user}@pbx.local"  # type: ignore[method-assign]
            dialog = caller.dial(pair.callee)
            invite = callee.expect("INVITE")
            assert invite.uri("contact").startswith("sips:")
            assert ";transport=" not in invite.uri("contact")
            theirs = callee.answer(invite)
            callee.reply(invite, 200, "OK", dialog=theirs, body=audio_sdp(41_000))
            answer = caller.expect(200)
            assert answer.uri("contact").startswith("sips:")
            caller.ack(dialog, answer)
            callee.expect("ACK")
            caller.request(dialog, "BYE")
            callee.reply(callee.expect("BYE"), 200, "OK")
            assert caller.expect(200)
    pair.released()


OUTBOUND = [("Supported", "path, outbound")]


def test_outbound_is_agreed_upon(product: Product, pair: Pair) -> None:
    with product.phone_on("tcp", pair.callee) as phone:
        instance = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"'
        phone.extra = OUTBOUND
        answer = phone.register(contacts=(f"<{phone.contact};ob>;{instance};reg-id=1",))
        assert answer.status == 200
        assert answer.get("require") == "outbound"
        assert answer.get("flow-timer") == "120"
        with product.phone_on("tcp", pair.callee) as second:
            second.register_cseq, second.extra = phone.register_cseq, OUTBOUND
            answer = second.register(contacts=(f"<{second.contact};ob>;{instance};reg-id=1",))
            assert answer.status == 200
            assert pair.contacts(pair.callee) == [f"{second.contact};ob"], "one binding for one flow of one phone"


def test_the_other_flow_serves_when_one_breaks(product: Product, pair: Pair) -> None:
    """RFC 5626 section 4.2: a phone with two flows."""
    instance = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E129>"'
    with product.phone_on("tls", pair.callee) as first, product.phone_on("tcp", pair.callee) as second:
        for number, phone in ((2, second), (1, first)):
            contact, phone.extra = f"<{phone.contact};ob>;{instance};reg-id={number}", OUTBOUND
            assert phone.register(contacts=(contact,), call_id=f"{number}@{pair.callee}").status == 200
        assert len(pair.contacts(pair.callee)) == 2
        with product.phone(pair.caller) as caller:
            dialog = caller.dial(pair.callee)
            invite = first.expect("INVITE")
            first.reply(invite, 486, "Busy Here", dialog=first.answer(invite))
            caller.ack(dialog, caller.expect(486))
            first.close()
            until(lambda: len(pair.contacts(pair.callee)) == 1, timeout_s=3, what="one flow left")
            dialog = caller.dial(pair.callee)
            invite = second.expect("INVITE")
            second.reply(invite, 486, "Busy Here", dialog=second.answer(invite))
            caller.ack(dialog, caller.expect(486))


def test_keep_alive_over_udp_by_stun_and_agreed_by_keep(product: Product, pair: Pair) -> None:
    with product.phone(pair.caller) as phone:
        request = bytes.fromhex("000100002112a442") + b"0123456789ab"
        phone.send(b"\r\n\r\n")
        phone.send(request)
        raw = phone._next(3)
        assert raw[:2] == b"\x01\x01"
        port, address = int.from_bytes(raw[26:28]) ^ 0x2112, int.from_bytes(raw[28:32]) ^ 0x2112A442
        assert (port, socket.inet_ntoa(address.to_bytes(4))) == (phone.port, "127.0.0.1")
        phone_via = f"Via: SIP/2.0/UDP {phone.sent_by};keep;branch=z9hG4bKkeep"
        head = f"OPTIONS sip:pbx.local SIP/2.0\r\n{phone_via}\r\nFrom: <sip:x@y>;tag=1\r\nTo: <sip:pbx.local>\r\n"
        rest = "Call-ID: keep\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 7\r\n\r\n"
        phone.send((head + rest).encode())
        assert ";keep=25;" in phone.expect(200).get("via")


SIPP_KINDS = [("tcp", "udp"), ("udp", "tcp"), ("tcp", "tcp"), ("udp6", "udp6"), ("tcp6", "udp"), ("udp", "tcp6")]


@pytest.mark.parametrize("kinds", SIPP_KINDS, ids="-".join)
def test_sipp_calls_holds_and_resumes(pair: Pair, kinds: tuple[str, str]) -> None:
    held, resumed = sdp(port=4200, version=2, direction="recvonly"), sdp(port=4200, version=3)
    hold, resume = sdp(port=41_000, version=2, direction="sendonly"), sdp(port=41_000, version=3)
    pair.play(
        pair.calling()
        .invite()
        .recv(180)
        .answered()
        .ack()
        .invite(hold)
        .answered()
        .ack()
        .invite(resume)
        .answered()
        .ack()
        .bye()
        .recv(200),
        Callee().ring().answer().take("INVITE").answer(held).take("INVITE").answer(resumed).take("BYE").reply(200),
        kinds=kinds,
    )
    legs = pair.cdr(outcome="answered", hung_up_by="caller")["legs"]
    assert [leg["transport"] for leg in legs] == [kind.rstrip("6") for kind in kinds]
    pair.released()


@pytest.mark.parametrize("kinds", [("tcp", "tcp"), ("udp6", "tcp6")], ids="-".join)
def test_sipp_cancels(pair: Pair, kinds: tuple[str, str]) -> None:
    pair.play(
        pair.calling().invite().recv(180).pause(100).cancel().recv(200, CSeq="CANCEL").recv(487).reject_ack(),
        Callee().ring().cancelled(),
        kinds=kinds,
    )
    pair.cdr(outcome="cancelled")
    pair.released()


def test_a_large_request_goes_by_tcp(product: Product, pair: Pair) -> None:
    """RFC 3261 section 18.1.1: to the same address; over UDP all the same where nobody listens there."""
    padding = tuple(f"a=x-padding:{'x' * 100}" for _ in range(14))
    with product.phone(pair.caller) as caller, product.phone(pair.callee) as callee:
        assert callee.register().status == 200
        with socket.create_server((callee.host, callee.port)) as server:
            server.settimeout(3)
            dialog = caller.dial(pair.callee, audio_sdp(41_000, extra=padding))
            taken, _ = server.accept()
            with taken:
                taken.settimeout(3)
                stream = TcpPhone.__new__(TcpPhone)
                stream.socket, stream._buffer = taken, b""
                invite = Message.parse(stream._next(3))
                assert invite.get("via").startswith("SIP/2.0/TCP ")
                assert len(invite.raw) > 1300
                busy = [(n.title(), v) for n, v in invite.headers if n in ("via", "from", "to", "call-id", "cseq")]
                lines = "\r\n".join(f"{name}: {value}{';tag=b' * (name == 'To')}" for name, value in busy)
                taken.sendall(f"SIP/2.0 486 Busy Here\r\n{lines}\r\nContent-Length: 0\r\n\r\n".encode())
                caller.ack(dialog, caller.expect(486))
                assert stream._next(3).startswith(b"ACK ")
    with product.phone(pair.caller) as caller, product.phone(pair.callee) as callee:
        assert callee.register().status == 200
        dialog = caller.dial(pair.callee, audio_sdp(41_000, extra=padding))
        invite = callee.expect("INVITE")
        assert invite.get("via").startswith("SIP/2.0/UDP ")
        callee.reply(invite, 486, "Busy Here", dialog=callee.answer(invite))
        caller.ack(dialog, caller.expect(486))
        callee.expect("ACK")
    pair.released()


class Listening:
    """A phone's own port for connections: what it registers, and takes calls on."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_server((host, 0))
        self.host, self.port = self.socket.getsockname()

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def take(self, phone: TcpPhone) -> None:
        """The next connection becomes the phone's."""
        self.socket.settimeout(5)
        phone.socket.close()
        phone.socket, _ = self.socket.accept()
        phone.host, phone.port = self.host, self.port


def hung_off(product: Product, phone: Phone) -> None:
    """It closes its connection, and the product has seen that: another socket's answers do not tell so."""

    def connections() -> float:
        return product.metrics("signaling").sum("pbx_signaling_connections")

    before = connections()
    phone.socket.close()
    until(lambda: connections() < before, timeout_s=5, what="the connection seen closed")


def test_a_phone_that_closed_its_connection_is_called_at_its_contact(product: Product, pair: Pair) -> None:
    with product.phone(pair.caller) as caller, product.phone_on("tcp", pair.callee) as callee, Listening() as listening:
        contact = f"<sip:{callee.user}@{listening.host}:{listening.port};transport=tcp>"
        assert callee.register(contacts=(contact,)).status == 200
        hung_off(product, callee)
        assert pair.contacts(pair.callee) == [contact.strip("<>")]
        dialog = caller.dial(callee.user)
        assert isinstance(callee, TcpPhone)
        listening.take(callee)
        invite = callee.expect("INVITE")
        theirs = callee.answer(invite)
        callee.reply(invite, 200, "OK", dialog=theirs, body=audio_sdp(41_000))
        caller.ack(dialog, caller.expect(200))
        callee.expect("ACK")
        hung_off(product, callee)  # and again within the call
        caller.request(dialog, "BYE")
        assert caller.expect(200)
        listening.take(callee)
        callee.reply(callee.expect("BYE"), 200, "OK")
        listening.socket.close()
        callee.socket.close()
        refused = caller.dial(callee.user)
        caller.ack(refused, caller.expect(480))
        until(lambda: not pair.contacts(pair.callee), timeout_s=3, what="the binding gone")
