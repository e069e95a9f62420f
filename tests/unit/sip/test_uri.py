"""SIP URIs: one table for reading and writing, one for what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx_sip.address import HostPort, Transport
from pbx_sip.errors import ParseError, RemoteError
from pbx_sip.message.uri import Uri, request_target

GOOD = [
    ("sip:1004@pbx.local", Uri("sip", "1004", None, "pbx.local")),
    ("sips:a:b@pbx.local:5071", Uri("sips", "a", "b", "pbx.local", 5071)),
    ("sip:[2001:db8::1]:5080;transport=tcp", Uri("sip", None, None, "2001:db8::1", 5080, {"transport": "tcp"})),
    ("sip:a%40b@h;lr;x=1?Subject=hi", Uri("sip", "a%40b", None, "h", None, {"lr": None, "x": "1"}, "Subject=hi")),
    ("sip:user;par=u%40example.net@example.com", Uri("sip", "user;par=u%40example.net", None, "example.com")),
    ("tel:+4930123", Uri("tel", opaque="+4930123")),
]
BAD = [
    "",
    "1004",
    "sip:",
    "sip:@h",
    "sip:a@",
    "sip:a@h:0",
    "sip:a@h:99999",
    "sip:a@h:x",
    "sip:[::1",
    "sip:a b@h",
    "sip:<a@h>",
]


@pytest.mark.parametrize(("text", "uri"), GOOD)
def test_reading_and_writing(text: str, uri: Uri):
    assert Uri.parse(text) == uri
    assert str(uri) == text


@pytest.mark.parametrize("text", [*BAD, "sip:" + "a" * 3000 + "@h"])
def test_what_is_none(text: str):
    with pytest.raises(RemoteError):
        Uri.parse(text)


def test_what_it_points_at():
    assert Uri.parse("sip:h").host_port == HostPort("h", 5060)
    assert Uri.parse("sips:h").host_port == HostPort("h", 5061)
    assert Uri.parse("sips:h;transport=tcp").transport is Transport.TLS
    assert Uri.parse("sip:h;transport=TCP").transport is Transport.TCP
    assert Uri.parse("sip:h:5070;transport=ws").host_port == HostPort("h", 5070)
    assert Uri.parse("sip:a%40b@h").user_unescaped == "a@b"
    assert Uri.parse("tel:+49;ext=1").user_unescaped == "+49"


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str):
    try:
        uri = Uri.parse(text)
    except RemoteError:
        return
    assert Uri.parse(str(uri)) == uri


@pytest.mark.parametrize("code", [*range(0x00, 0x21), 0x7F, 0x85, 0x200E, 0x2028, 0xDC80])
def test_control_characters_stand_nowhere_in_a_sip_uri(code: int):
    bad = chr(code)
    for text in (f"sip:al{bad}ice@pbx.local", f"sip:alice:se{bad}cret@pbx.local", f"sip:alice@pbx.local;x={bad}"):
        with pytest.raises(ParseError):
            Uri.parse(text)


@pytest.mark.parametrize(
    ("contact", "target"),
    [
        ("sip:a@h;transport=tcp", "sip:a@h;transport=tcp"),
        ("sip:a@h?Subject=x&Route=%3Csip:evil%3E", "sip:a@h"),
        ("sips:a@h:5061;lr?X=1", "sips:a@h:5061;lr"),
        ("sip:a@h;METHOD=BYE;ob", "sip:a@h;ob"),
        ("sip:who?@h", "sip:who?@h"),
        ("sip:method@h", "sip:method@h"),
        ("tel:+49?x=1", "tel:+49?x=1"),
        ("sip:@?", "sip:@?"),
    ],
)
def test_what_may_stand_in_a_request_uri(contact: str, target: str):
    """RFC 3261 section 19.1.1, table 1: no headers, no method."""
    assert request_target(contact) == target
