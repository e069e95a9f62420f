"""Telephone numbers in URIs: which are numbers, and what is looked up."""

from __future__ import annotations

import pytest

from pbx_sip.errors import ParseError
from pbx_sip.message.telephone import NUMBER_MAX, Telephone, telephone_of
from pbx_sip.message.uri import Uri


@pytest.mark.parametrize(
    ("uri", "number", "context"),
    [
        ("tel:2001", "2001", ""),
        ("tel:+49-(30)-90.1820", "+4930901820", ""),
        ("TEL:20-01;phone-context=Example.org", "2001", "example.org"),
        ("tel:2001;ext=7;Phone-Context=example.org;isub=1", "2001", "example.org"),
        ("tel:901820;phone-context=+49-30", "+4930901820", ""),
        ("tel:*21*77#", "*21*77#", ""),
        ("tel:%2B4930", "+4930", ""),
        ("sip:2001;phone-context=example.org@pbx;user=phone", "2001", "example.org"),
        ("sip:2001;phone-context=example.org@pbx", "2001", "example.org"),
        ("sip:+49-30@pbx;user=phone", "+4930", ""),
        ("sip:20-01@pbx;transport=tcp;USER=Phone", "2001", ""),
        ("sip:(20)01@pbx;user=phone", "2001", ""),
    ],
)
def test_numbers(uri: str, number: str, context: str) -> None:
    assert telephone_of(Uri.parse(uri)) == Telephone(number, context)


@pytest.mark.parametrize(
    "uri",
    ["sip:20-01@pbx", "sip:alice@pbx;user=phone", "sip:alice;x=1@pbx", "sip:pbx", "mailto:2001@pbx", "sip:a-b@pbx"],
)
def test_names_are_no_numbers(uri: str) -> None:
    assert telephone_of(Uri.parse(uri)) is None


@pytest.mark.parametrize(
    "uri",
    [
        *("tel:", "tel:alice", "tel:+", "tel:+49x", "tel:;phone-context=pbx", "tel:--", "tel:12;phone-context=+x"),
        *("sip:+4930x@pbx;user=phone", "tel:" + "1" * (NUMBER_MAX + 1), "tel:12 34"),
    ],
)
def test_what_says_that_it_is_a_number_and_is_none(uri: str) -> None:
    with pytest.raises(ParseError) as caught:
        telephone_of(Uri.parse(uri))
    assert caught.value.status_hint == 416
