"""Names with addresses, and the splitting of lists that they stand in."""

from __future__ import annotations

import pytest

from pbx_sip.errors import ParseError, RemoteError
from pbx_sip.header.name_addr import NameAddr
from pbx_sip.message.headers import Headers, split_commas, split_semicolons

CASES = [
    ("<sip:a@h>;tag=1", NameAddr("sip:a@h", "", {"tag": "1"})),
    ('"A \\"B\\" C" <sip:a@h>', NameAddr("sip:a@h", 'A "B" C')),
    ("Alice Smith <sip:a@h;lr>;x", NameAddr("sip:a@h;lr", "Alice Smith", {"x": None})),
    ("sip:a@h;tag=1", NameAddr("sip:a@h", "", {"tag": "1"})),
    ('"<sip:evil@h>" <sip:a@h>', NameAddr("sip:a@h", "<sip:evil@h>")),
    ("caller<sip:a@h>", NameAddr("sip:a@h", "caller")),
]


@pytest.mark.parametrize(("text", "value"), CASES)
def test_reading(text: str, value: NameAddr):
    assert NameAddr.parse(text) == value
    assert NameAddr.parse(str(value)) == value


@pytest.mark.parametrize("text", ["", "<sip:a@h", '"A <sip:a@h>', "<>", '"A" sip:a@h'])
def test_what_is_none(text: str):
    with pytest.raises(RemoteError):
        NameAddr.parse(text)


def test_commas_and_semicolons_within_quotes_and_brackets_do_not_split():
    assert split_commas('"a, b" <sip:x,y@h>, c') == ['"a, b" <sip:x,y@h>', "c"]
    assert split_semicolons('a;b="x;y";<c;d>') == ["a", 'b="x;y"', "<c;d>"]
    assert split_commas("") == split_commas(" , ") == []


def test_headers_are_found_by_any_spelling_that_was_parsed():
    headers = Headers([("Via", "1"), ("X-Own", "a"), ("Via", "2"), ("x-own", "b")])
    assert headers.first("X-OWN") == "a"
    assert headers.all("x-own") == ["a", "b"]
    headers.set("Via", "3")
    assert headers.all("Via") == ["3"]
    headers.remove("Via")
    assert "Via" not in headers


@pytest.mark.parametrize(
    ("value", "uri", "display", "params"),
    [
        ('sip:a@h;+sip.instance="<urn:x>"', "sip:a@h", "", {"+sip.instance": '"<urn:x>"'}),
        ('sip:a@h ;tag=1; note="<sip:evil@x>;tag=2"', "sip:a@h", "", {"tag": "1", "note": '"<sip:evil@x>;tag=2"'}),
        ('"Say <hi>" <sip:a@h>;x="<y>"', "sip:a@h", "Say <hi>", {"x": '"<y>"'}),
        ('"a \\" <sip:evil@x>" <sip:a@h>', "sip:a@h", 'a " <sip:evil@x>', {}),
        ('<sip:a@h>;reason="<gone>";tag=3', "sip:a@h", "", {"reason": '"<gone>"', "tag": "3"}),
        ('sip:a@h;x="a\\"<b>";q=0.1', "sip:a@h", "", {"x": '"a\\"<b>"', "q": "0.1"}),
    ],
)
def test_a_bracket_in_a_quotation_is_text(value: str, uri: str, display: str, params: dict[str, str]) -> None:
    found = NameAddr.parse(value)
    assert (found.uri, found.display, found.params) == (uri, display, params)


def test_a_bracket_in_a_parameter_is_refused() -> None:
    """It would make the parameter the address."""
    with pytest.raises(ParseError):
        NameAddr.parse("sip:a@h;x=<sip:evil@x>")
