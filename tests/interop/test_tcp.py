"""A phone on TCP and a phone on UDP: register, call across, keep-alive, a connection that breaks, garbage."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pbx_sip.auth.digest import Challenge, respond
from support.pair import Pair
from support.wire import audio_sdp

if TYPE_CHECKING:
    from support.product import Product

pytestmark = pytest.mark.interop


@dataclass
class TcpPhone:
    """A phone on one connection, its messages written out."""

    server: tuple[str, int]
    user: str
    password: str
    socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.socket = socket.create_connection(self.server)
        self.socket.settimeout(5)
        self.me = "{}:{}".format(*self.socket.getsockname())
        self._buffer = b""

    def receive(self) -> str:
        """The next message, whole."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._buffer += self.socket.recv(65_536)
        length = int(re.search(rb"(?im)^content-length: *(\d+)", self._buffer[: end + 2]).group(1))  # type: ignore[union-attr]
        while len(self._buffer) < end + 4 + length:
            self._buffer += self.socket.recv(65_536)
        message, self._buffer = self._buffer[: end + 4 + length], self._buffer[end + 4 + length :]
        return message.decode()

    def request(self, method: str, cseq: int, extra: str = "") -> str:
        """Sends a request outside of a dialog; the answer."""
        lines = (
            f"{method} sip:pbx.local SIP/2.0\r\nVia: SIP/2.0/TCP {self.me};branch=z9hG4bK{method}{cseq}\r\n"
            f"From: <sip:{self.user}@pbx.local>;tag=1\r\nTo: <sip:{self.user}@pbx.local>\r\n"
            f"Call-ID: {method}@{self.me}\r\n"
            f"CSeq: {cseq} {method}\r\nMax-Forwards: 70\r\n{extra}Content-Length: 0\r\n\r\n"
        )
        self.socket.sendall(lines.encode())
        return self.receive()

    def register(self) -> str:
        """REGISTER, 401, REGISTER; the last answer."""
        contact = f"Contact: <sip:{self.user}@{self.me};transport=tcp>\r\nExpires: 600\r\n"
        refusal = self.request("REGISTER", 1, contact)
        challenge = Challenge.parse(re.search(r"WWW-Authenticate: (.*)\r", refusal).group(1))  # type: ignore[union-attr]
        answer = respond(challenge, self.user, self.password, "REGISTER", "sip:pbx.local", cnonce="x")
        return self.request("REGISTER", 2, f"{contact}Authorization: {answer}\r\n")

    def reply(self, request: str, status: str, body: str = "") -> None:
        """Answers a request."""
        kept = [
            line for line in request.split("\r\n") if line.partition(":")[0] in ("Via", "From", "To", "Call-ID", "CSeq")
        ]
        kept = [f"{line};tag=tcp" if line.startswith("To:") and "tag=" not in line else line for line in kept]
        kind = "Content-Type: application/sdp\r\n" if body else ""
        head = "\r\n".join([f"SIP/2.0 {status}", *kept, f"Contact: <sip:{self.user}@{self.me};transport=tcp>"])
        self.socket.sendall(f"{head}\r\n{kind}Content-Length: {len(body)}\r\n\r\n{body}".encode())


@pytest.fixture
def phone(product: Product, pair: Pair) -> Iterator[TcpPhone]:
    credentials = product.credentials(pair.callee)
    with product.phone(pair.caller) as any_phone:
        made = TcpPhone(any_phone.server, pair.callee, credentials.password)
    try:
        assert made.register().startswith("SIP/2.0 200")
        yield made
    finally:
        made.socket.close()


def test_a_udp_phone_calls_a_tcp_phone(product: Product, pair: Pair, phone: TcpPhone) -> None:
    with product.phone(pair.caller) as caller:
        caller.register()
        dialog = caller.dial(pair.callee, audio_sdp(40_000))
        invite = phone.receive()
        assert "\r\nVia: SIP/2.0/TCP " in invite
        assert ";transport=tcp>" in invite
        phone.reply(invite, "180 Ringing")
        assert caller.expect(180)
        phone.reply(invite, "200 OK", audio_sdp(40_010))
        answer = caller.expect(200)
        dialog.learn(answer)
        caller.ack(dialog, answer)
        assert phone.receive().startswith("ACK ")
        caller.request(dialog, "BYE")
        bye = phone.receive()
        assert bye.startswith("BYE ")
        phone.reply(bye, "200 OK")
        assert caller.expect(200)
    cdr = pair.cdr(outcome="answered")
    assert [leg["transport"] for leg in cdr["legs"]] == ["udp", "tcp"]
    phone.socket.close()
    pair.released()


def test_a_connection_that_broke_takes_its_binding_with_it(product: Product, pair: Pair, phone: TcpPhone) -> None:
    phone.socket.close()
    with product.phone(pair.caller) as caller:
        caller.register()
        caller.dial(pair.callee, audio_sdp(40_000))
        assert caller.expect(480)
    pair.cdr(sip_status=480)
    pair.released()


def test_keep_alives_pieces_and_garbage(phone: TcpPhone) -> None:
    phone.socket.sendall(b"\r\n\r\n")
    assert phone.socket.recv(10) == b"\r\n"
    assert phone.request("OPTIONS", 7).startswith("SIP/2.0 200")
    phone.socket.sendall(b"this is no SIP\r\n\r\n")
    assert phone.socket.recv(100) == b"", "a stream without Content-Length cannot go on"
    phone.socket.close()
