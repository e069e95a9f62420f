"""Digits in INFO: as phones and gateways write them, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx_sip.message.dtmf import DURATION_MS, Pressed, read

RELAY = "application/dtmf-relay"
PLAIN = "application/dtmf"


@pytest.mark.parametrize(
    ("kind", "body", "found"),
    [
        (RELAY, b"Signal=7\r\nDuration=250\r\n", Pressed("7", 250)),
        (RELAY, b"Signal= #\nDuration= 80", Pressed("#", 80)),
        (RELAY, b"signal=*\r\n", Pressed("*", DURATION_MS)),
        (RELAY, b"Signal=d\r\nDuration=later", Pressed("D", DURATION_MS)),
        (RELAY, b"Duration=90\r\nSignal=0", Pressed("0", 90)),
        (RELAY, b"Signal=10\r\n", Pressed("*", DURATION_MS)),
        (RELAY, b"Signal=11\r\n", Pressed("#", DURATION_MS)),
        (RELAY, b"Signal=15\r\n", Pressed("D", DURATION_MS)),
        (RELAY, b"Signal=1\r\nDuration=999999", Pressed("1", 60_000)),
        ("Application/DTMF-Relay;charset=utf-8", b"Signal=4", Pressed("4", DURATION_MS)),
        (PLAIN, b"9", Pressed("9", DURATION_MS)),
        (PLAIN, b" a\r\n", Pressed("A", DURATION_MS)),
        (RELAY, b"Signal=16\r\n", None),
        (RELAY, b"Signal=hookflash\r\n", None),
        (RELAY, b"Signal=\r\n", None),
        (RELAY, b"Signal=\xb2\r\n", None),
        (RELAY, b"", None),
        (RELAY, b"Signal=5\r\n" + b" " * 300, None),
        ("text/plain", b"Signal=5", None),
        ("", b"5", None),
    ],
)
def test_what_is_a_digit(kind: str, body: bytes, found: Pressed | None) -> None:
    assert read(kind, body) == found


@given(st.binary(max_size=40))
def test_any_octets_are_a_digit_or_none(body: bytes) -> None:
    for kind in (RELAY, PLAIN):
        found = read(kind, body)
        assert found is None or found.digit in "0123456789*#ABCD"
