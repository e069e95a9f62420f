"""The pipes without sockets: whatever the cut, the same messages; what breaks the rules fails and says what."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from pbx_signaling.transport.pipe import Failure, Pipe, SipPipe
from pbx_signaling.transport.tls import Certificates, TlsFiles, TlsPipe
from pbx_signaling.transport.websocket import HANDSHAKE_MAX, WebSocketPipe
from pbx_sip.message.parse import MAX_MESSAGE
from support import certificates

OPTIONS = b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKx\r\nContent-Length: 4\r\n\r\nbody"
REGISTER = b"REGISTER sip:b SIP/2.0\r\nl:0\r\n\r\n"
HELLO = (
    b"GET / HTTP/1.1\r\nHost: pbx\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n"
)


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def feed(pipe: Pipe, data: bytes, size: int) -> list[bytes]:
    return [message for piece in pieces(data, size) for message in pipe.receive(piece)]


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> tuple[certificates.Pem, certificates.Pem]:
    directory = tmp_path_factory.mktemp("tls")
    ca = certificates.authority(directory)
    return ca, certificates.signed(ca, directory)


def certificates_of(pem: tuple[certificates.Pem, certificates.Pem], **more: object) -> Certificates:
    ca, server = pem
    return Certificates(TlsFiles(server.certificate, server.key, ca.certificate, trust=ca.certificate, **more))  # type: ignore[arg-type]


# --- SIP's own framing


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_messages_and_pings_in_any_pieces(size: int) -> None:
    pipe = SipPipe()
    assert feed(pipe, b"\r\n" + OPTIONS + b"\r\n\r\n" + REGISTER, size) == [OPTIONS, REGISTER]
    assert pipe.outgoing() == b"\r\n"
    assert not pipe.pending
    assert pipe.failure is None


def test_a_message_that_has_begun_is_pending() -> None:
    pipe = SipPipe()
    assert pipe.receive(OPTIONS[:-1]) == []
    assert pipe.pending
    assert pipe.receive(OPTIONS[-1:]) == [OPTIONS]
    assert not pipe.pending


@pytest.mark.parametrize(
    "data",
    [
        b"OPTIONS sip:a@b SIP/2.0\r\n\r\n",
        b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 70000\r\n\r\n",
        b"OPTIONS sip:a@b SIP/2.0\r\nX: " + b"x" * MAX_MESSAGE,
        b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 1\r\nl: 2\r\n\r\nxx",
    ],
    ids=["no length", "long body", "long head", "two lengths"],
)
def test_a_stream_that_cannot_go_on_fails(data: bytes) -> None:
    pipe = SipPipe()
    assert pipe.receive(OPTIONS + data) == [OPTIONS]
    assert pipe.failure is Failure.FRAMING
    assert pipe.detail
    assert pipe.receive(OPTIONS) == []


# --- TLS


def converse(client: Pipe, server: Pipe, size: int = 10_000) -> tuple[list[bytes], list[bytes]]:
    """Carries octets between two pipes until both are silent; what each received."""
    to_client: list[bytes] = []
    to_server: list[bytes] = []
    while (there := client.outgoing()) + (back := server.outgoing()):
        to_server += feed(server, there, size)
        to_client += feed(client, back, size)
    return to_client, to_server


def tls_pair(
    pem: tuple[certificates.Pem, certificates.Pem], inner: Callable[[], Pipe] = SipPipe
) -> tuple[TlsPipe, TlsPipe]:
    made = certificates_of(pem)
    return TlsPipe(SipPipe(), made.client(), "127.0.0.1"), TlsPipe(inner(), made.server())


@pytest.mark.parametrize("size", [1, 5, 16_384])
def test_tls_carries_messages_both_ways_in_any_pieces(
    pem: tuple[certificates.Pem, certificates.Pem], size: int
) -> None:
    client, server = tls_pair(pem)
    client.send(OPTIONS)  # waits for the handshake
    assert server.pending
    assert converse(client, server, size) == ([], [OPTIONS])
    assert server.established
    assert not server.pending
    assert server.version == "TLSv1.3"
    server.send(REGISTER)
    assert converse(client, server, size) == ([REGISTER], [])
    client.send(b"\r\n\r\n")
    converse(client, server, size)
    assert not server.pending


def test_part_of_a_record_is_pending(pem: tuple[certificates.Pem, certificates.Pem]) -> None:
    client, server = tls_pair(pem)
    converse(client, server)
    client.send(REGISTER)
    record = client.outgoing()
    assert server.receive(record[:-1]) == []
    assert server.pending
    assert server.receive(record[-1:]) == [REGISTER]
    assert not server.pending


def test_goodbye_ends_the_other_side(pem: tuple[certificates.Pem, certificates.Pem]) -> None:
    client, server = tls_pair(pem)
    converse(client, server)
    client.close()
    server.receive(client.outgoing())
    assert server.ended
    assert server.failure is None


def test_what_is_no_tls_is_a_failed_handshake(pem: tuple[certificates.Pem, certificates.Pem]) -> None:
    _, server = tls_pair(pem)
    assert server.receive(OPTIONS) == []
    assert server.failure is Failure.HANDSHAKE
    assert server.detail


def test_a_broken_record_and_broken_sip_are_framing_errors(pem: tuple[certificates.Pem, certificates.Pem]) -> None:
    client, server = tls_pair(pem)
    converse(client, server)
    server.receive(b"\x17\x03\x03\x00\x20" + b"x" * 32)
    assert server.failure is Failure.FRAMING
    client, server = tls_pair(pem)
    client.send(b"no SIP\r\n\r\n")
    converse(client, server)
    assert server.failure is Failure.FRAMING


def test_tls_1_1_is_refused(pem: tuple[certificates.Pem, certificates.Pem]) -> None:
    made = certificates_of(pem)
    assert made.server().minimum_version is ssl.TLSVersion.TLSv1_2
    assert made.client().minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_client_trusts_the_authority_alone(pem: tuple[certificates.Pem, certificates.Pem], tmp_path: Path) -> None:
    other = certificates.authority(tmp_path, "other")
    _, mine = pem
    stranger = Certificates(TlsFiles(mine.certificate, mine.key, trust=other.certificate))
    client, server = (
        TlsPipe(SipPipe(), stranger.client(), "127.0.0.1"),
        TlsPipe(SipPipe(), certificates_of(pem).server()),
    )
    converse(client, server)
    assert client.failure is Failure.HANDSHAKE
    assert "verify failed" in client.detail.lower().replace("_", " ")


@pytest.mark.parametrize(
    ("wanted", "shows", "passes"), [("required", False, False), ("required", True, True), ("optional", False, True)]
)
def test_client_certificates(
    pem: tuple[certificates.Pem, certificates.Pem], wanted: str, shows: bool, passes: bool
) -> None:
    ca, mine = pem
    context = ssl.create_default_context(cafile=str(ca.certificate))
    if shows:
        context.load_cert_chain(mine.certificate, mine.key)
    client = TlsPipe(SipPipe(), context, "127.0.0.1")
    server = TlsPipe(SipPipe(), certificates_of(pem, client_certificates=wanted).server())
    client.send(OPTIONS)
    _, received = converse(client, server)
    assert received == ([OPTIONS] if passes else [])
    assert (server.failure is None) is passes


def test_a_renewed_certificate_is_taken_and_half_a_one_is_not(
    pem: tuple[certificates.Pem, certificates.Pem], tmp_path: Path
) -> None:
    ca, _ = pem
    live = certificates.signed(ca, tmp_path, "live")
    made = Certificates(TlsFiles(live.certificate, live.key, trust=ca.certificate))
    before, until = made.server(), made.not_after
    assert until > 0
    assert not made.reload_if_changed()
    fresh = certificates.signed(ca, tmp_path, "fresh", days=2)
    fresh.certificate.replace(live.certificate)
    with pytest.raises(OSError, match=r"(?i)mismatch"):
        made.reload_if_changed()
    assert made.server() is before
    fresh.key.replace(live.key)
    assert made.reload_if_changed()
    assert made.server() is not before
    assert made.not_after > until
    assert made.reloads == 1


# --- WebSocket


def hello(*lines: str) -> bytes:
    return HELLO % "".join(f"{line}\r\n" for line in lines).encode()


def opened(**options: object) -> WebSocketPipe:
    pipe = WebSocketPipe(**options)  # type: ignore[arg-type]
    assert pipe.pending
    assert pipe.receive(hello("Sec-WebSocket-Protocol: sip")) == []
    answer = pipe.outgoing()
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Protocol: sip\r\n" in answer
    assert pipe.established
    return pipe


def frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_websocket_messages_in_any_pieces_and_fragments(size: int) -> None:
    pipe = WebSocketPipe()
    data = hello("Sec-WebSocket-Protocol: chat, sip") + frame(Opcode.TEXT, OPTIONS)
    data += frame(Opcode.TEXT, REGISTER[:5], fin=False) + frame(Opcode.PING, b"?") + frame(Opcode.CONT, REGISTER[5:])
    data += frame(Opcode.BINARY, OPTIONS)
    assert feed(pipe, data, size) == [OPTIONS, REGISTER, OPTIONS]
    assert not pipe.pending
    assert pipe.failure is None
    out = pipe.outgoing()
    assert out.startswith(b"HTTP/1.1 101 ")
    assert out.endswith(b"\r\n\r\n\x8a\x01?"), "a ping is answered"


def test_a_websocket_message_goes_out_as_text_or_as_octets() -> None:
    pipe = opened()
    pipe.send(REGISTER)
    assert pipe.outgoing() == bytes([0x81, len(REGISTER)]) + REGISTER
    pipe.send(b"\xff")
    assert pipe.outgoing() == b"\x82\x01\xff"


def test_crlf_over_websocket_is_answered() -> None:
    pipe = opened()
    assert pipe.receive(frame(Opcode.TEXT, b"\r\n\r\n")) == []
    assert pipe.outgoing() == b"\x81\x02\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (hello(), b"400"),
        (hello("Sec-WebSocket-Protocol: xmpp"), b"400"),
        (b"GET / HTTP/1.1\r\nHost: pbx\r\n\r\n", b"426"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 10_000 + b"\r\n\r\n", b"431"),
    ],
    ids=["no sub-protocol", "another sub-protocol", "a browser", "a long header"],
)
def test_what_is_no_sip_websocket_is_answered_and_fails(data: bytes, status: bytes) -> None:
    pipe = WebSocketPipe()
    assert pipe.receive(data) == []
    assert pipe.failure is Failure.HANDSHAKE
    assert pipe.outgoing().startswith(b"HTTP/1.1 " + status)
    pipe.send(REGISTER)
    assert pipe.outgoing() == b""


def test_a_handshake_without_end_and_garbage_fail() -> None:
    pipe = WebSocketPipe()
    for _ in range(HANDSHAKE_MAX // 100):
        pipe.receive(b"x" * 98 + b"\r\n")
    assert pipe.failure is None
    pipe.receive(b"x" * 1000)
    assert pipe.failure is Failure.HANDSHAKE
    other = WebSocketPipe()
    other.receive(OPTIONS)
    assert other.failure is Failure.HANDSHAKE


def test_origins_are_checked_where_some_are_named() -> None:
    line = "Sec-WebSocket-Protocol: sip"
    allowed, refused = WebSocketPipe(["https://a.example"]), WebSocketPipe(["https://a.example"])
    allowed.receive(hello(line, "Origin: https://a.example"))
    refused.receive(hello(line, "Origin: https://b.example"))
    assert allowed.established
    assert refused.failure is Failure.HANDSHAKE
    assert refused.outgoing().startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    "data",
    [
        frame(Opcode.TEXT, b"x" * (MAX_MESSAGE + 1)),
        frame(Opcode.TEXT, b"x" * 40_000, fin=False) + frame(Opcode.CONT, b"x" * 40_000),
        Frame(Opcode.TEXT, OPTIONS).serialize(mask=False),
        frame(Opcode.CONT, b"x"),
        b"\xf1\x80\0\0\0\0",
    ],
    ids=["too long", "too long in parts", "not masked", "no beginning", "an extension"],
)
def test_frames_that_break_the_rules_end_it(data: bytes) -> None:
    pipe = opened()
    assert pipe.receive(data) == []
    assert pipe.failure is Failure.FRAMING
    assert pipe.outgoing()[:1] == b"\x88", "a close frame says why"


def test_a_close_frame_is_answered_and_ends_it() -> None:
    pipe = opened()
    pipe.receive(frame(Opcode.CLOSE, b"\x03\xe8"))
    assert pipe.outgoing() == b"\x88\x02\x03\xe8"
    assert pipe.ended


def test_websocket_over_tls(pem: tuple[certificates.Pem, certificates.Pem]) -> None:
    ca, _ = pem
    made = certificates_of(pem)
    server = TlsPipe(WebSocketPipe(), made.server())
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context(cafile=str(ca.certificate)).wrap_bio(
        incoming, outgoing, server_hostname="localhost"
    )
    web = ClientProtocol(parse_uri("wss://localhost/"), subprotocols=["sip"])  # type: ignore[list-item]
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    server.receive(outgoing.read())
    incoming.write(server.outgoing())
    tls.do_handshake()
    web.send_request(web.connect())
    tls.write(b"".join(web.data_to_send()))
    assert server.receive(outgoing.read()) == []
    assert server.established
    incoming.write(server.outgoing())
    web.receive_data(tls.read())
    web.events_received()
    web.send_text(OPTIONS)
    tls.write(b"".join(web.data_to_send()))
    assert server.receive(outgoing.read()) == [OPTIONS]
    server.send(REGISTER)
    incoming.write(server.outgoing())
    web.receive_data(tls.read())
    (event,) = web.events_received()
    assert isinstance(event, Frame)
    assert event.data == REGISTER
