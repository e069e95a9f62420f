"""Line ends that are none: a value must never hold one, or a response would smuggle it out as a header."""

from __future__ import annotations

import pytest

from pbx_sip.errors import ParseError
from pbx_sip.message.parse import parse


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\n", "\rb", "a\r\r"])
def test_bare_cr_or_lf_inside_a_header_line_is_refused(value: str) -> None:
    with pytest.raises(ParseError, match="line end"):
        parse(f"OPTIONS sip:a SIP/2.0\r\nCall-ID: {value}\r\nFrom: <sip:a>\r\n\r\n".encode())


def test_bare_lf_throughout_is_read() -> None:
    assert parse(b"OPTIONS sip:a SIP/2.0\nCall-ID: a\n\n").call_id == "a"


@pytest.mark.parametrize("before", [b"\r\n", b"\r\n\r\n", b"\n", b"\r\n\n\r\n"])
def test_line_ends_before_the_start_line_are_none_of_the_message(before: bytes) -> None:
    """RFC 3261 section 7.5 of streams; some phones keep their NAT open so."""
    whole = b"OPTIONS sip:a SIP/2.0\r\nVia: x\r\nContent-Length: 1\r\n\r\n\n"
    message = parse(before + whole)
    assert (message.headers.items, message.body) == (parse(whole).headers.items, b"\n")


def test_nothing_but_line_ends_is_no_message() -> None:
    with pytest.raises(ParseError):
        parse(b"\r\n\r\n\r\n")
