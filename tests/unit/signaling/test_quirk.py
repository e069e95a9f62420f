"""Which phones are offered MD5 alone."""

from __future__ import annotations

import pytest

from pbx_signaling.quirk import knows_md5_alone


@pytest.mark.parametrize(
    ("user_agent", "alone"),
    [
        ("baresip v1.0.0 (x86_64/linux)", True),
        ("baresip v0.6.5 (x86_64/linux)", True),
        ("baresip v2.0.0 (x86_64/linux)", False),
        ("baresip v10.1.0 (x86_64/linux)", False),
        ("sipp", True),
        ("SIPp/v3.6.1", True),
        ("Linphone/5.2", False),
        ("my baresip v1.0.0", False),
        ("", False),
    ],
)
def test_only_phones_known_to_fail(user_agent: str, alone: bool) -> None:
    assert knows_md5_alone(user_agent) is alone
