"""Text of a peer that is no UTF-8, for those who take nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx_sip.message.text import utf8


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
