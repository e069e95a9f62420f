"""Which addresses media may be sent to, and which a peer may not name."""

from __future__ import annotations

import pytest

from pbx_runtime.media_address import Barred, Use, canonical, read


@pytest.mark.parametrize(
    ("text", "use", "spelling"),
    [
        ("192.0.2.7", Use.HOST, "192.0.2.7"),
        ("10.9.8.7", Use.HOST, "10.9.8.7"),
        ("::ffff:192.0.2.7", Use.HOST, "192.0.2.7"),
        ("2001:DB8:0::7", Use.HOST, "2001:db8::7"),
        ("0.0.0.0", Use.UNSPECIFIED, "0.0.0.0"),
        ("::", Use.UNSPECIFIED, "::"),
        ("0:0:0:0:0:0:0:0", Use.UNSPECIFIED, "::"),
        ("phone.example.com", Use.ELSEWHERE, "phone.example.com"),
        ("phone", Use.ELSEWHERE, "phone"),
        ("3com.example.", Use.ELSEWHERE, "3com.example."),
        ("fe80::7%eth0", Use.ELSEWHERE, "fe80::7%eth0"),
        ("224.0.1.1", Use.NONE, "224.0.1.1"),
        ("ff02::1", Use.NONE, "ff02::1"),
        ("255.255.255.255", Use.NONE, "255.255.255.255"),
        ("192.0.2.300", Use.NONE, "192.0.2.300"),
        ("1.2.3", Use.NONE, "1.2.3"),
        ("", Use.NONE, ""),
        ("a b", Use.NONE, "a b"),
        ("phone%eth0", Use.NONE, "phone%eth0"),
        ("a..b", Use.NONE, "a..b"),
    ],
)
def test_what_an_address_is_good_for(text: str, use: Use, spelling: str) -> None:
    assert read(text) == (use, spelling)
    if use is Use.HOST:
        assert canonical(text) == spelling
    else:
        with pytest.raises(ValueError, match="media endpoint"):
            canonical(text)


OWN = ["203.0.113.5", "2001:db8::5", "sip.example.com", "0.0.0.0"]


@pytest.mark.parametrize(
    ("host", "source", "is_barred"),
    [
        ("198.51.100.4", "198.51.100.4", False),
        ("198.51.100.4", "192.0.2.1", False),
        ("192.168.7.7", "198.51.100.4", False),
        ("127.0.0.1", "198.51.100.4", True),
        ("127.0.0.53", "127.0.0.1", True),
        ("127.0.0.53", "127.0.0.53", False),
        ("::1", "127.0.0.1", False),
        ("127.0.0.1", "::1", False),
        ("::1", "198.51.100.4", True),
        ("169.254.169.254", "198.51.100.4", True),
        ("169.254.7.7", "169.254.7.7", False),
        ("fe80::5", "2001:db8::9", True),
        ("203.0.113.5", "198.51.100.4", True),
        ("203.0.113.5", "203.0.113.5", False),
        ("203.0.113.5", "127.0.0.1", False),
        ("127.0.0.1", "203.0.113.5", False),
        ("2001:db8::5", "203.0.113.5", False),
        ("10.96.0.10", "198.51.100.4", True),
        ("10.96.0.10", "10.96.0.10", False),
        ("10.96.0.10", "10.96.0.11", True),
        ("10.97.0.10", "198.51.100.4", False),
        ("fd00:96::10", "198.51.100.4", True),
        ("64:ff9b::a60:a", "198.51.100.4", True),
        ("2002:a60:a::1", "198.51.100.4", True),
        ("64:ff9b::7f00:1", "198.51.100.4", True),
        ("64:ff9b::cb00:7105", "198.51.100.4", True),
        ("64:ff9b::c633:6404", "192.0.2.1", False),
        ("198.51.100.4", "fe80::1%eth0", False),
    ],
)
def test_whose_addresses_a_peer_may_not_name(host: str, source: str, is_barred: bool) -> None:
    barred = Barred(["10.96.0.0/16", "fd00:96::/32"], OWN)
    assert barred.bars(host, source) is is_barred
    assert barred.bars(host, source) is is_barred, "the same when it is remembered"


def test_addresses_of_our_own_that_come_later_count_at_once() -> None:
    barred = Barred()
    assert not barred.bars("192.0.2.9", "198.51.100.4")
    barred.add_own(["192.0.2.9", "::"])
    assert barred.bars("192.0.2.9", "198.51.100.4")


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="cluster"):
        Barred(["cluster"])
