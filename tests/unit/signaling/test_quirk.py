"""Which phones are offered fewer digest algorithms."""

from __future__ import annotations

import pytest

from pbx_signaling.border.quirk import offered
from pbx_sip.auth.digest import STRONGEST_FIRST

MD5, KNOWN = ("MD5",), ("SHA-256", "MD5")


@pytest.mark.parametrize(
    ("user_agent", "algorithms"),
    [
        ("", MD5),
        ("Some Phone 1.0", MD5),
        ("sipp", MD5),
        ("SIPp/v3.6.1", MD5),
        ("baresip v1.0.0 (x86_64/linux)", MD5),
        ("baresip v0.6.5 (x86_64/linux)", MD5),
        ("baresip v2.0.0 (x86_64/linux)", KNOWN),
        ("baresip v10.1.0 (x86_64/linux)", KNOWN),
        ("Linphone/3.6.1 (eXosip2/4.1.0)", MD5),
        ("Linphone/5.2", KNOWN),
        ("Linphonec/5.1.65 (box) LinphoneSDK/5.1.65", KNOWN),
        ("PJSUA v2.9 Linux-5.10/x86_64/glibc-2.31", MD5),
        ("PJSUA v2.13.1", MD5),
        ("PJSUA v2.14", STRONGEST_FIRST),
        ("pjsip 2.15.1", STRONGEST_FIRST),
        ("Asterisk PBX 16.28.0", MD5),
        ("FPBX-16.0.40(18.20.0)", MD5),
        ("PolycomVVX-VVX_411-UA/5.9.5.0614", MD5),
        ("Yealink SIP-T46S 66.86.0.15", MD5),
        ("Cisco/SPA504G-7.6.2c", MD5),
        ("MicroSIP/3.21.3", MD5),
    ],
)
def test_the_strongest_that_a_phone_is_known_to_bear(user_agent: str, algorithms: tuple[str, ...]) -> None:
    assert offered(user_agent, STRONGEST_FIRST) == algorithms


def test_what_is_not_configured_is_not_offered_but_something_always_is() -> None:
    assert offered("sipp", KNOWN) == MD5
    assert offered("sipp", ("SHA-256",)) == ("SHA-256",)
    assert offered("", ("SHA-256", "SHA-512-256")) == ("SHA-256", "SHA-512-256")


def test_the_order_is_that_of_the_settings_and_can_be_forced_upon_all() -> None:
    assert offered("PJSUA v2.14", ("MD5", "SHA-256")) == ("MD5", "SHA-256")
    assert offered("sipp", STRONGEST_FIRST, force=True) == STRONGEST_FIRST
