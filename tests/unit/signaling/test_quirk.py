"""Which phones are offered fewer digest algorithms."""

from __future__ import annotations

import pytest

from pbx_signaling.quirk import offered
from pbx_sip.auth.digest import STRONGEST_FIRST

MD5, KNOWN = ("MD5",), ("SHA-256", "MD5")


@pytest.mark.parametrize(
    ("user_agent", "algorithms"),
    [
        ("baresip v1.0.0 (x86_64/linux)", MD5),
        ("baresip v0.6.5 (x86_64/linux)", MD5),
        ("baresip v2.0.0 (x86_64/linux)", KNOWN),
        ("baresip v10.1.0 (x86_64/linux)", KNOWN),
        ("sipp", MD5),
        ("SIPp/v3.6.1", MD5),
        ("Linphone/5.2", KNOWN),
        ("Linphonec/5.1.65 (box) LinphoneSDK/5.1.65", KNOWN),
        ("", KNOWN),
        ("PJSUA v2.14", STRONGEST_FIRST),
    ],
)
def test_only_phones_known_to_fail(user_agent: str, algorithms: tuple[str, ...]) -> None:
    assert offered(user_agent, STRONGEST_FIRST) == algorithms


def test_what_is_not_configured_is_not_offered_but_something_always_is() -> None:
    assert offered("sipp", KNOWN) == MD5
    assert offered("sipp", ("SHA-256",)) == ("SHA-256",)
