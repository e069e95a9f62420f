"""Contact and Date as REGISTER and its answer have them."""

from __future__ import annotations

import pytest

from pbx_sip.errors import ParseError
from pbx_sip.header.contact import RegisterContact, contact_value
from pbx_sip.header.date import date_value


@pytest.mark.parametrize(
    ("value", "contact"),
    [
        ("<sip:a@h>", RegisterContact("sip:a@h")),
        ("<sip:a@h>;q=0.7;expires=60", RegisterContact("sip:a@h", 60, 700)),
        ("<sip:a@h> ; q = .25 ; EXPIRES = 60", RegisterContact("sip:a@h", 60, 250)),
        ('sip:a@h;+sip.instance="<urn:uuid:1>";reg-id=2', RegisterContact("sip:a@h", None, 1000, "urn:uuid:1", 2)),
        ('<sip:a@h>;+SIP.Instance="<urn:x:\\"y\\">"', RegisterContact("sip:a@h", None, 1000, 'urn:x:"y"')),
        ("<sip:a@h>;q=2;expires=soon;reg-id=-1", RegisterContact("sip:a@h", 3600)),
        ("<sip:a@h>;expires=99999999999;reg-id=99999999999", RegisterContact("sip:a@h", 0xFFFFFFFF)),
    ],
)
def test_reading(value: str, contact: RegisterContact) -> None:
    assert RegisterContact.parse(value) == contact


@pytest.mark.parametrize("value", ["", "<sip:a@h", "<nonsense>", '"x"', "<sip:a b@h>"])
def test_what_is_none(value: str) -> None:
    with pytest.raises(ParseError):
        RegisterContact.parse(value)


@pytest.mark.parametrize("contact", [RegisterContact("sip:a@h;x", 60, 500, 'u"r\\n', 7), RegisterContact("tel:+49", 0)])
def test_what_is_written_is_read_back(contact: RegisterContact) -> None:
    value = contact_value(
        contact.uri, contact.q_thousandths, contact.expires_s or 0, contact.sip_instance, contact.reg_id
    )
    assert RegisterContact.parse(value) == contact


def test_a_date_is_english_and_gmt() -> None:
    assert date_value(1_289_690_940) == "Sat, 13 Nov 2010 23:29:00 GMT"
    assert date_value(0) == "Thu, 01 Jan 1970 00:00:00 GMT"
