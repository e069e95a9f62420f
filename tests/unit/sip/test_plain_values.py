"""Values as nearly all write them are read by one expression: it says what the reading of any value says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pbx_sip.errors import ParseError, RemoteError
from pbx_sip.header.name_addr import _PLAIN as PLAIN_ADDRESS
from pbx_sip.header.name_addr import NameAddr
from pbx_sip.message import validate
from pbx_sip.message.uri import _PLAIN as PLAIN_URI
from pbx_sip.message.uri import Uri


def put_together(*pieces: str) -> st.SearchStrategy[str]:
    """Texts of pieces in any order: near enough to what is right to be wrong in one place."""
    return st.lists(st.sampled_from(pieces), max_size=9).map("".join)


URI = put_together(
    "sip:", "sips:", "SIP:", "tel:", "a", "h.x", "@", ":", "5060", "0", "99999", ";lr", ";T=1", "?", "%4", "[", " ", "-"
)
ADDRESS = put_together(
    "Al", " ", "\t", '"', '"A B"', "\\", "<", ">", "sip:a@h", ":", ";", "tag=1", ";x", ";y = 2", "é", "'"
)


def outcome(read: Callable[[str], object], text: str) -> object:
    """What was read, or that it was refused."""
    try:
        return read(text)
    except ParseError as refused:
        return refused.status_hint


@given(URI)
@example("sip:a@h:5060;transport=tcp;lr;LR=2")
@example("sips:1004@[::1]")
@example("sip:h")
@example("sip:a@h:65536")
@example("sip:a@h:0506")
@example("sip:a@h\n")
def test_uris(text: str) -> None:
    assert outcome(Uri.parse, text) == outcome(Uri._parse, text)


@given(ADDRESS)
@example('"Alice" <sip:a@h>;tag=1')
@example('"Al\\"ice" <sip:a@h>;tag=1')
@example("Alice  B <sip:a@h;lr> ; tag = 1 ;x")
@example('"" <sip:a@h>')
@example('<sip:a@h>;x="a;b"')
@example("<sip:a@h>junk;tag=1")
@example("<sip:a@h\n>")
def test_names_and_addresses(text: str) -> None:
    assert outcome(NameAddr.parse, text) == outcome(NameAddr._parse, text.strip())


@given(URI | ADDRESS.map(lambda text: text.replace("sip:a@h", "sip:a%41@h:80;x")))
def test_what_is_not_looked_at_again_is_right(text: str) -> None:
    if validate._TARGET.fullmatch(text):
        validate._check_target(text)
    if validate._ADDRESS.fullmatch(text):
        validate._check_address(text)


def test_what_phones_write_is_plain() -> None:
    assert PLAIN_URI.fullmatch("sip:1004@192.0.2.10:50600;transport=tcp;ob")
    assert PLAIN_ADDRESS.fullmatch('"Alice" <sip:1004@192.0.2.10:50600;transport=tcp>;tag=a-1;+sip.x')
    assert validate._ADDRESS.fullmatch('"Alice" <sip:1004@pbx.local;user=phone>;tag=1c0.x')
    assert validate._TARGET.fullmatch("sip:+4930123@pbx.local;user=phone")


@pytest.mark.parametrize("value", ["<sip:a@h", '"A <sip:a@h>', "<sip:@h>", "<sip:a@h:0>", "<a@h>", "<>"])
def test_what_is_wrong_is_not_plain(value: str) -> None:
    assert not validate._ADDRESS.fullmatch(value)
    with pytest.raises(RemoteError):
        validate._check_address(value)
