"""Whatever comes over a connection, in whatever pieces: a pipe never raises, and the pieces make no difference."""

from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from pbx_signaling.transport import stun
from pbx_signaling.transport.pipe import Pipe, SipPipe
from pbx_signaling.transport.websocket import WebSocketPipe
from pbx_sip.address import HostPort

HELLO = (
    b"GET / HTTP/1.1\r\nHost: pbx\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
)
HEADS = st.sampled_from(
    [b"\x81\x84abcd", b"\x01\x80abcd", b"\x80\x80abcd", b"\x88\x80abcd", b"\x89\x82abcd", b"\x82\xfe\0\0"]
)
FRAMES = st.lists(st.one_of(HEADS, st.binary(max_size=12)), max_size=12).map(b"".join)
CUTS = st.lists(st.integers(0, 120), max_size=6)


def in_pieces(pipe: Pipe, data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    return [message for a, b in itertools.pairwise(edges) for message in pipe.receive(data[a:b])]


def same_in_pieces(whole: Pipe, pieces: Pipe, data: bytes, cuts: list[int]) -> None:
    assert in_pieces(pieces, data, cuts) == whole.receive(data)
    assert pieces.failure is whole.failure
    assert pieces.ended == whole.ended or whole.failure is not None
    assert pieces.outgoing() == whole.outgoing()
    for pipe in (whole, pieces):
        pipe.send(b"OPTIONS sip:x SIP/2.0\r\n\r\n")
        pipe.close()
        pipe.outgoing()


@given(FRAMES, CUTS)
@example(b"\x81\x80abcd\x81\x80abcd", [3])
def test_websocket_frames(data: bytes, cuts: list[int]) -> None:
    whole, pieces = WebSocketPipe(), WebSocketPipe()
    for pipe in (whole, pieces):
        pipe.receive(HELLO)
        pipe.outgoing()
    same_in_pieces(whole, pieces, data, cuts)


@given(
    st.one_of(st.binary(max_size=200), st.binary(max_size=20).map(lambda data: HELLO[:60] + data + HELLO[60:])), CUTS
)
@example(b"  HTTP/1.0\r\n!:\r\n!:\r\n\r\n\x00\x00", [])
def test_websocket_handshakes(data: bytes, cuts: list[int]) -> None:
    same_in_pieces(WebSocketPipe(), WebSocketPipe(), data, cuts)


@given(st.lists(st.sampled_from([b"\r\n", b"l:2\r\n", b"l:0\r\n\r\n", b"A b SIP/2.0\r\n", b"xx"]), max_size=12), CUTS)
def test_streams(parts: list[bytes], cuts: list[int]) -> None:
    same_in_pieces(SipPipe(), SipPipe(), b"".join(parts), cuts)


@given(st.binary(max_size=60))
def test_stun(data: bytes) -> None:
    for host in ("192.0.2.1", "2001:db8::1"):
        found = stun.answer(data, HostPort(host, 5060))
        assert found is None or len(found) <= 44
