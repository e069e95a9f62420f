"""STUN Binding on the SIP port: the vectors of RFC 5769, and silence for all else."""

from __future__ import annotations

import pytest

from pbx_signaling.transport.stun import answer
from pbx_sip.address import HostPort

TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
REQUEST = bytes.fromhex("000100002112a442") + TRANSACTION


def test_the_address_of_rfc_5769_section_2_2() -> None:
    found = answer(REQUEST, HostPort("192.0.2.1", 32_853))
    assert found is not None
    assert found == bytes.fromhex("0101000c2112a442") + TRANSACTION + bytes.fromhex("002000080001a147e112a643")


def test_the_address_of_rfc_5769_section_2_3() -> None:
    found = answer(REQUEST, HostPort("2001:db8:1234:5678:11:2233:4455:6677", 32_853))
    assert found is not None
    assert found.endswith(bytes.fromhex("002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"))
    assert len(found) == 44


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 4, REQUEST[:-1], REQUEST + b"x" * 4, b"\0\3" + REQUEST[2:], REQUEST[:4] + b"\0" * 4 + TRANSACTION],
    ids=["empty", "zeros", "short", "a wrong length", "another method", "no cookie"],
)
def test_silence_for_all_else(data: bytes) -> None:
    assert answer(data, HostPort("192.0.2.1", 1)) is None
