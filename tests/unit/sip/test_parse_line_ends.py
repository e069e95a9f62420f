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
