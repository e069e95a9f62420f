"""Framing: the same messages however the stream is cut, and no guess about where one ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx_sip.errors import RemoteError
from pbx_sip.message.framing import MAX_START_LINE, KeepAlive, StreamFramer
from pbx_sip.message.parse import MAX_MESSAGE, parse

BARE = b"OPTIONS sip:a SIP/2.0\r\nVia: x\r\nContent-Length: 0\r\n\r\n"
WITH_BODY = b"MESSAGE sip:a SIP/2.0\r\nl : 9\r\nCall-ID: b\r\n\r\nab\r\n\r\nSIP"
RESPONSE = b"SIP/2.0 200 OK\r\nCONTENT-LENGTH:\t2 \r\n\r\n\r\n"
PING, PONG = KeepAlive.PING, KeepAlive.PONG

STREAMS: list[tuple[bytes, list[bytes | KeepAlive]]] = [
    (b"", []),
    (BARE, [BARE]),
    (BARE + WITH_BODY + RESPONSE, [BARE, WITH_BODY, RESPONSE]),
    (b"\r\n", [PONG]),
    (b"\r\n\r\n", [PONG, PING]),
    (b"\r\n\r\n\r\n", [PONG, PING, PONG]),
    (b"\r\n\r\n\r\n\r\n", [PONG, PING, PONG, PING]),
    (b"\r\n" + BARE + b"\r\n", [PONG, BARE, PONG]),
    (b"\r\n\r\n" + WITH_BODY + b"\r\n\r\n" + RESPONSE, [PONG, PING, WITH_BODY, PONG, PING, RESPONSE]),
]

BROKEN: list[tuple[bytes, list[bytes | KeepAlive], int]] = [
    (b"OPTIONS sip:a SIP/2.0\r\nVia: x\r\n\r\n", [], 400),
    (b"\r\nOPTIONS sip:a SIP/2.0\r\n\r\n", [PONG], 400),
    (BARE + b"OPTIONS sip:a SIP/2.0\r\nl: 1\r\nContent-Length: 2\r\n\r\n", [BARE], 400),
    (b"OPTIONS sip:a SIP/2.0\r\nl: -1\r\n\r\n", [], 400),
    (b"OPTIONS sip:a SIP/2.0\r\nl:\r\n 3\r\n\r\nabc", [], 400),
    (b"OPTIONS sip:a SIP/2.0\r\nl: 12345678901\r\n\r\n", [], 400),
    ("OPTIONS sip:a SIP/2.0\r\nl: ²\r\n\r\n".encode(), [], 400),
    (b"OPTIONS sip:a SIP/2.0\r\nl: 65535\r\n\r\n", [], 513),
    (b"x" * (MAX_MESSAGE + 1), [], 400),
    (b"OPTIONS sip:a SIP/2.0\r\nA: " + b"x" * MAX_MESSAGE, [], 513),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize(("stream", "expected"), STREAMS)
def test_stream_is_cut_alike_in_any_pieces(stream: bytes, expected: list[bytes | KeepAlive], size: int) -> None:
    framer = StreamFramer()
    found = [item for at in range(0, len(stream), size) for item in framer.receive(stream[at : at + size])]
    assert found == expected
    assert framer.error is None
    assert framer.pending == 0


@pytest.mark.parametrize("size", [1, 3, 100_000])
@pytest.mark.parametrize(("stream", "before", "status"), BROKEN)
def test_stream_is_given_up_where_it_does_not_say_its_lengths(
    stream: bytes, before: list[bytes | KeepAlive], status: int, size: int
) -> None:
    framer = StreamFramer()
    found = [item for at in range(0, len(stream), size) for item in framer.receive(stream[at : at + size])]
    assert found == before
    assert framer.error is not None
    assert framer.error.status_hint == status
    assert framer.receive(BARE) == []
    assert framer.pending == 0


def test_pending_counts_what_is_incomplete() -> None:
    framer = StreamFramer()
    assert framer.receive(BARE + WITH_BODY[:-1]) == [BARE]
    assert framer.pending == len(WITH_BODY) - 1
    assert framer.receive(WITH_BODY[-1:]) == [WITH_BODY]
    assert framer.pending == 0


def test_largest_message_is_taken_and_no_larger_one() -> None:
    head = b"MESSAGE sip:a SIP/2.0\r\nl: %d\r\n\r\n"
    fits = MAX_MESSAGE - len(head % 10_000)
    message = head % fits + b"x" * fits
    assert StreamFramer().receive(message) == [message]
    framer = StreamFramer()
    assert framer.receive(head % (fits + 1)) == []
    assert framer.error is not None


@given(st.lists(st.sampled_from([BARE, WITH_BODY, RESPONSE, b"\r\n", b"\r\n\r\n"]), max_size=8), st.data())
def test_cutting_a_stream_elsewhere_changes_nothing(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    whole, pieces = StreamFramer(), StreamFramer()
    found = [
        item for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) for item in pieces.receive(stream[a:b])
    ]
    assert found == whole.receive(stream)
    assert [item for item in found if isinstance(item, bytes)] == [part for part in parts if part.strip()]


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_noise_is_framed_or_refused_and_never_grows_a_body(noise: bytes, cuts: list[int]) -> None:
    framer = StreamFramer()
    stream = b"OPTIONS sip:a SIP/2.0\r\nl: 2\r\n" + noise
    for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), len(stream)], strict=True):
        for item in framer.receive(stream[a:b]):
            if isinstance(item, bytes):
                try:
                    parse(item)
                except RemoteError:
                    continue
                assert item.count(b"\r\n\r\n") >= 1
    assert framer.pending <= len(stream)


@pytest.mark.parametrize(
    "stream",
    [
        *(b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\nContent-Length: 2\r\n\r\nxx", b"\x16\x03\x01", b"\xff", b"\0"),
        *(b"SSH-2.0-OpenSSH_9.6\r\n", b"PING\r\n", b"<?xml", b"INVITE sip:a\r\n", b"SIPS/", b"HTTP/1.1 200 OK\r\n"),
        *(
            b"x" * 65,
            b"*1\r\n$4\r\nPING\r\n",
            b"INVITE " + b"x" * MAX_START_LINE,
            b"\rx",
            b" OPTIONS sip:a SIP/2.0\r\n",
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 100_000])
def test_another_protocol_ends_the_stream_with_its_first_line(stream: bytes, size: int) -> None:
    framer = StreamFramer()
    assert framer.receive(BARE) == [BARE]
    for at in range(0, len(stream), size):
        assert framer.receive(stream[at : at + size]) == []
    assert framer.error is not None
    assert framer.pending == 0


@pytest.mark.parametrize(
    "line", [b"OPTIONS sip:a SIP/3.0", b"x-y.z sip:a SIP/2.0 ", b"SIP/2.0 200", b"A sip:a b SIP/2.0"]
)
def test_what_may_yet_be_answered_is_framed(line: bytes) -> None:
    message = line + b"\r\nl: 0\r\n\r\n"
    assert StreamFramer().receive(message) == [message]
