"""The comparison of URIs: the examples of RFC 3261 section 19.1.4, and what phones send."""

from __future__ import annotations

import pytest

from pbx_registrar.contact_uri import same_contact

EQUAL = [
    ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
    ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
    (
        "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
        "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
    ),
    (
        "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
        "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
    ),
    ("sip:1004@[2001:db8::1]:5060;ob", "sip:1004@[2001:DB8::1]:5060"),
    ("tel:+1-201", "tel:+1-201"),
    ("no uri at all", "no uri at all"),
]
DIFFERENT = [
    ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
    ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
    ("sip:bob@biloxi.com:6000", "sip:bob@biloxi.com:5060"),
    ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
    ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
    ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
    ("sip:carol@chicago.com", "sips:carol@chicago.com"),
    ("sip:chicago.com", "sip:carol@chicago.com"),
    ("sip:carol:one@chicago.com", "sip:carol:two@chicago.com"),
    ("tel:+1201", "tel:+1202"),
    ("no uri at all", "sip:no@uri"),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal(one: str, other: str) -> None:
    assert same_contact(one, other)
    assert same_contact(other, one)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different(one: str, other: str) -> None:
    assert not same_contact(one, other)
    assert not same_contact(other, one)
