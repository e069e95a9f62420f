"""Where a peer may make us send: to its own address; a listed proxy further, but never to us or into hidden nets."""

from __future__ import annotations

import pytest

from pbx_signaling.border.trust import Trust
from pbx_signaling.router.next_hop import NextHops
from pbx_sip.address import HostPort

PHONE, PROXY, NEIGHBOUR = ("198.51.100.20", 40_123), ("198.51.100.80", 5060), ("127.0.0.1", 40_123)


@pytest.fixture
def hops() -> NextHops:
    made = NextHops(proxies=Trust(["198.51.100.80", "10.9.0.0/16"]), reachable=Trust(["10.20.0.0/16", "fd00:20::/32"]))
    made.note_own("203.0.113.5", [5060, 5061])
    made.note_own("0.0.0.0", [9102])  # where gRPC listens
    made.note_own("pbx.example", [8080])
    made.note_own("10.20.0.6", [9102])  # another replica
    return made


OF_A_PHONE = [
    (("198.51.100.20", 40_123), True),  # the flow itself
    (("198.51.100.20", 5060), True),  # a phone that sends from another port than it listens on
    (("198.51.100.20", 22), False),
    (("198.51.100.20", 1023), False),
    (("198.51.100.21", 5060), False),
    (("10.0.0.7", 5060), False),
    (("127.0.0.1", 6379), False),
    (("203.0.113.5", 5060), False),
    (("::ffff:198.51.100.20", 5060), True),
    (("64:ff9b::c633:6414", 5060), False),
    (("phone.example", 5060), False),
    (("", 5060), False),
]
OF_A_PROXY = [
    (("198.51.100.80", 5062), True),
    (("192.0.2.200", 5060), True),
    (("192.0.2.200", 25), False),
    (("10.9.0.1", 5060), True),  # a proxy itself
    (("10.9.0.1", 443), True),
    (("10.20.3.4", 5060), True),
    (("10.20.0.6", 5060), False),  # another replica
    (("10.21.3.4", 5060), False),
    (("192.168.0.1", 5060), False),
    (("fd00:20::1", 5060), True),
    (("fd00:21::1", 5060), False),
    (("169.254.169.254", 8080), False),
    (("127.0.0.1", 5060), False),
    (("0.0.0.0", 5060), False),
    (("::1", 5060), False),
    (("::ffff:127.0.0.1", 5060), False),
    (("64:ff9b::7f00:1", 5060), False),
    (("2002:a9fe:a9fe::1", 5060), False),
    (("224.0.1.75", 5060), False),
    (("255.255.255.255", 5060), False),
    (("203.0.113.5", 6379), False),  # this machine, whatever the port
    (("edge.example", 5060), False),
]
OF_THIS_MACHINE = [
    (("127.0.0.1", 40_124), True),
    (("127.0.0.1", 5060), False),
    (("127.0.0.1", 9102), False),
    (("127.0.0.1", 8080), False),
    (("127.0.0.2", 40_124), False),
]


@pytest.mark.parametrize(
    ("source", "hop", "admitted"),
    [
        *((PHONE, hop, admitted) for hop, admitted in OF_A_PHONE),
        *((PROXY, hop, admitted) for hop, admitted in OF_A_PROXY),
        *((NEIGHBOUR, hop, admitted) for hop, admitted in OF_THIS_MACHINE),
    ],
)
def test_who_may_send_us_where(hops: NextHops, source: tuple[str, int], hop: tuple[str, int], admitted: bool) -> None:
    assert hops.admits(HostPort(*hop), HostPort(*source)) is admitted


def test_nothing_is_listed_by_default() -> None:
    hops = NextHops()
    assert not hops.are_of_proxy(PROXY[0])
    assert not hops.admits(HostPort("192.0.2.200", 5060), HostPort(*PROXY))
    assert hops.admits(HostPort(PROXY[0], 5070), HostPort(*PROXY))


@pytest.mark.parametrize(
    ("host", "view", "ours"),
    [
        ("203.0.113.5", "", True),
        ("127.0.0.1", "", True),
        ("pbx.example", "", True),  # a name: the domains decide
        ("203.0.113.77", "", False),
        ("203.0.113.77", "pbx.example", False),
        ("192.168.1.9", "192.168.1.9", True),  # the phone's name for us, behind a NAT of ours
        ("::ffff:192.168.1.9", "192.168.1.9", True),
        ("192.168.1.9", "192.168.1.10", False),
        ("2001:db8::5", "", False),
    ],
)
def test_which_hosts_may_mean_us(hops: NextHops, host: str, view: str, ours: bool) -> None:
    assert hops.means_us(host, view) is ours
