"""What an address is, also where it hides another."""

from __future__ import annotations

import pytest

from pbx_runtime.address_kind import Kind, kind_of, parse

CASES = [
    ("203.0.113.9", Kind.PUBLIC),
    ("8.8.4.4", Kind.PUBLIC),
    ("2001:db8::9", Kind.PUBLIC),
    ("2a00:1450::1", Kind.PUBLIC),
    ("10.255.0.1", Kind.PRIVATE),
    ("172.31.9.9", Kind.PRIVATE),
    ("172.32.9.9", Kind.PUBLIC),
    ("192.168.3.4", Kind.PRIVATE),
    ("100.127.0.1", Kind.PRIVATE),
    ("100.128.0.1", Kind.PUBLIC),
    ("192.0.0.170", Kind.PRIVATE),
    ("198.19.0.1", Kind.PRIVATE),
    ("fd12:3456::1", Kind.PRIVATE),
    ("fec0::1", Kind.PRIVATE),
    ("169.254.169.254", Kind.LINK_LOCAL),
    ("fe80::1%eth0", Kind.LINK_LOCAL),
    ("127.8.8.8", Kind.LOOPBACK),
    ("0.0.0.0", Kind.LOOPBACK),
    ("0.1.2.3", Kind.LOOPBACK),
    ("::1", Kind.LOOPBACK),
    ("::", Kind.LOOPBACK),
    ("224.0.1.75", Kind.NO_HOST),
    ("255.255.255.255", Kind.NO_HOST),
    ("240.0.0.1", Kind.NO_HOST),
    ("ff02::1", Kind.NO_HOST),
    # IPv4 inside IPv6: mapped, compatible, NAT64 (well-known and local), 6to4, Teredo, ISATAP
    ("::ffff:203.0.113.9", Kind.PUBLIC),
    ("::ffff:127.0.0.1", Kind.LOOPBACK),
    ("::ffff:a00:1", Kind.PRIVATE),
    ("::192.168.1.1", Kind.PRIVATE),
    ("64:ff9b::7f00:1", Kind.LOOPBACK),
    ("64:ff9b::a9fe:a9fe", Kind.LINK_LOCAL),
    ("64:ff9b::cb00:7109", Kind.PUBLIC),
    ("64:ff9b:1::cb00:7109", Kind.PRIVATE),
    ("2002:7f00:1::1", Kind.LOOPBACK),
    ("2002:c0a8:101::1", Kind.PRIVATE),
    ("2002:cb00:7109::1", Kind.PUBLIC),
    ("2001:0:cb00:7109::", Kind.NO_HOST),  # Teredo: the client's address is inverted, 255.255.255.255 here
    ("2001:db8::5efe:10.0.0.1", Kind.PRIVATE),
    ("2001:db8::200:5efe:a9fe:1", Kind.LINK_LOCAL),
]


@pytest.mark.parametrize(("text", "kind"), CASES)
def test_what_an_address_is(text: str, kind: Kind) -> None:
    address = parse(text)
    assert address is not None
    assert kind_of(address) is kind


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.1", "0x7f.0.0.1", "2130706433", "127.0.0.01", "[::1]", "1.2.3.4:5060", "::1]", "%"]
)
def test_what_is_no_literal(text: str) -> None:
    assert parse(text) is None


def test_one_address_in_many_spellings() -> None:
    assert parse("2001:DB8:0::0009") == parse("2001:db8::9")
    assert parse("::FFFF:192.0.2.1") == parse("192.0.2.1")
    assert parse("fe80::1%2") == parse("fe80::1")
