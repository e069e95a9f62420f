"""Heads of plain lines, whose lines are looked up, against the reading of any head line by line."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from pbx_sip.errors import RemoteError
from pbx_sip.message import parse as module
from pbx_sip.message.message import Message, Request
from pbx_sip.message.parse import MAX_HEADERS, MAX_LINE, REMEMBERED, parse

START = st.sampled_from(
    (
        *(b"INVITE sip:a@h SIP/2.0", b"BYE sip:a@h  SIP/2.0", b"ODD sip:a@h SIP/2.0", b"BYE  sip:a@h SIP/2.0"),
        *(b"SIP/2.0 200 OK", b"SIP/2.0 200 ", b"SIP/2.0 200", b"SIP/2.0 700 X", b"SIP/2.0 0200 OK"),
        *(b"SIP/2.0 100 \x01",),
        *(b"BYE sip:a\t SIP/2.0", b"BYE  SIP/2.0", b"BYE SIP/2.0", b"BYE sip:a SIP/3.0", b"BYE s\xc3\xa9 SIP/2.0", b""),
    )
)
NAME = st.sampled_from(
    (b"Via", b"v", b"VIA", b"X-Own", b"x_own", b"From ", b"Content-Length", b"l", b"", b" To", b"T\xc3\xb6", b"CSeq")
)
VALUE = st.one_of(
    st.sampled_from((b"", b" 1", b"  1 \t", b"\t2", b" \xff", b" a\x00b", b" a\rb", b" a\nb", b" \xc2\x85", b" ~")),
    st.text('a1: ;,\t"<>', max_size=12).map(str.encode),
)
LINE = st.tuples(NAME, st.sampled_from((b":", b": ", b"", b" :")), VALUE).map(b"".join)


def outcome(read: object, head: bytes, body: bytes) -> tuple[object, ...]:
    """What came of reading: the message in its parts, or how it was refused."""
    try:
        message = read(head, body)  # type: ignore[operator]
    except RemoteError as refused:
        return type(refused), refused.status_hint
    assert isinstance(message, Message)
    start = (message.method, message.uri) if isinstance(message, Request) else (message.status, message.reason)
    return type(message), start, list(message.headers), message.body


@given(START, st.lists(LINE, max_size=6), st.sampled_from((b"", b"1", b"12")))
@example(b"INVITE sip:a@h SIP/2.0", [b"l: 1", b"Content-Length: 2"], b"12")
@example(b"INVITE sip:a@h SIP/2.0", [b"l: 1", b"Content-Length: 1"], b"12")
@example(b"INVITE sip:a@h SIP/2.0", [b"l: +1"], b"12")
@example(b"INVITE sip:a@h SIP/2.0", [b"A: b", b" c", b"\td"], b"")
@example(b"INVITE sip:a@h SIP/2.0", [b"A: " + b"b" * MAX_LINE], b"")
@example(b"INVITE sip:a@h SIP/2.0", [b"A: " + b"b" * (MAX_LINE - 3)], b"")
@example(b"INVITE sip:a@h SIP/2.0", [b"A: b"] * (MAX_HEADERS - 1), b"")
@example(b"INVITE sip:a@h SIP/2.0", [b"A: b"] * MAX_HEADERS, b"")
def test_both_ways_of_reading_say_the_same(start: bytes, lines: list[bytes], body: bytes) -> None:
    head = b"\r\n".join((start, *lines))
    expected = outcome(module._assemble_lines, head, body)
    for _ in range(2):  # learned, then remembered
        assert outcome(module._assemble, head, body) == expected


def test_a_message_is_its_own_though_its_lines_are_remembered() -> None:
    data = b"BYE sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nTo: <sip:a@h>\r\n\r\n"
    one, other = parse(data), parse(data)
    one.headers.set("To", "<sip:b@h>")
    one.headers.append("Subject", "x")
    assert other.first("To") == "<sip:a@h>"
    assert list(parse(data).headers) == list(other.headers)


def test_what_is_remembered_is_bounded_and_long_lines_are_not() -> None:
    for number in range(REMEMBERED + 10):
        parse(b"BYE sip:a@h SIP/2.0\r\nX-Own: %d\r\nProxy-Authorization: %s\r\n\r\n" % (number, b"x" * 128))
        assert len(module.PLAIN_LINES) <= REMEMBERED
    assert not any(b"Proxy-Authorization" in line for line in module.PLAIN_LINES)
