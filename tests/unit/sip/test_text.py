"""Text of a peer that is no UTF-8, for those who take nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx_sip.errors import ParseError
from pbx_sip.message.message import Response
from pbx_sip.message.parse import parse
from pbx_sip.message.text import printable, readable, utf8
from pbx_sip.message.uri import Uri
from pbx_sip.sdp.model import SessionDescription


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"", ""),
        (b"1004", "1004"),
        ("Zoë".encode(), "Zoë"),
        (b"l\xe9ger\x8d!", "l\ufffdger\ufffd!"),
        (b"\xff", "\ufffd"),
    ],
)
def test_each_octet_that_is_no_utf_8_is_replaced(octets: bytes, text: str) -> None:
    assert utf8(octets.decode("utf-8", "surrogateescape")) == text


@given(st.text(st.characters()))
def test_every_text_can_be_encoded_then(text: str) -> None:
    utf8(text).encode()


@given(st.text())
def test_what_can_be_encoded_stays(text: str) -> None:
    assert utf8(text) == text


CONTROLS = [
    *(chr(code) for code in range(0x20) if chr(code) not in "\t\r\n"),
    *(chr(code) for code in range(0x7F, 0xA0)),
    *("\u2028", "\u2029", "\u202a", "\u202e", "\u2066", "\u2069", "\u206f", "\ufff9", "\U000e0041"),
]
"""C0, DEL, C1; what ends a line or turns the direction; what nobody sees."""
KEPT = ["\t", " ", "~", "\u00a0", "ë", "ш", "日本", "\u200d", "\u200f", "\U0001f600"]


@pytest.mark.parametrize("char", CONTROLS, ids=lambda char: f"U+{ord(char):04X}")
def test_control_characters_of_a_head_are_shown_as_such(char: str) -> None:
    assert readable(f"a{char}b\r\nc".encode()) == "a?b\r\nc"
    assert readable(f"a{char}b é".encode()) == "a?b é"
    assert printable(f"a{char}b") == printable(f"a{char}b é")[:3] == "a?b"


@pytest.mark.parametrize("char", KEPT)
def test_letters_stay(char: str) -> None:
    assert readable(f"a{char}b".encode()) == f"a{char}b"
    assert printable(char) == ("?" if char == "\t" else char)


@given(st.binary())
def test_no_octets_get_through(octets: bytes) -> None:
    text = readable(octets)
    assert not set(text) & set(CONTROLS)
    assert readable(text.encode("utf-8", "surrogateescape")) == text, "once is enough"
    printable(text).encode()
    assert "\n" not in printable(text)


@pytest.mark.parametrize(
    "value",
    ['"\x1b]0;mine\x07" <sip:a@h>;tag=1', '"a\\\x00\\\x7f" <sip:a@h>;tag=1', "x\u0085 <sip:a@h>;tag=1"],
)
def test_a_message_holds_none_in_whatever_header(value: str) -> None:
    lines = ("OPTIONS sip:b@h SIP/2.0", f"From: {value}", f"Subject: x\u202e{value}", f"f\x0b: {value}")
    with pytest.raises(ParseError):  # a name is a token, or it is none
        parse("\r\n".join((*lines, "", "")).encode())
    message = parse("\r\n".join((*lines[:3], "", "")).encode())
    assert not {char for _, text in message.headers for char in text} & set(CONTROLS)
    reply = parse(f"SIP/2.0 486 So\x1bon\r\nFrom: {value}\r\n\r\n".encode())
    assert isinstance(reply, Response)
    assert reply.reason == "So?on"


def test_an_escape_in_a_uri_makes_none() -> None:
    uri = Uri.parse("sip:a%1b%5b31m%0d%0ab%c2%9b%e2%80%ae@h")
    assert uri.user_unescaped == "a?[31m??b??"
    assert Uri.parse("sip:%4a%c3%b6rg@h").user_unescaped == "Jörg"


def test_a_session_description_holds_none() -> None:
    sdp = b"v=0\r\no=- 1 1 IN IP4 h\r\ns=\x1b[2J\xc2\x9b\ri=forged\r\nt=0 0\r\n"
    assert SessionDescription.parse(sdp).lines[2] == "s=?[2J??i=forged"
