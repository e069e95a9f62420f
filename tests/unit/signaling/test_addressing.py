"""What is written into Via and Contact, and which flow leads to a next hop."""

from __future__ import annotations

import pytest

from pbx_signaling.border.trust import Trust
from pbx_signaling.calls.signals import Target
from pbx_signaling.replicas.peering import at
from pbx_signaling.router.addressing import Addressing, Listener
from pbx_signaling.router.next_hop import NextHops
from pbx_sip.address import Flow, HostPort, Transport

FOUR, SIX = HostPort("192.0.2.9", 5060), HostPort("2001:db8::9", 5060)


@pytest.fixture
def addressing() -> Addressing:
    made = Addressing("s1", hops=NextHops(proxies=Trust(["192.0.2.1", "203.0.113.5"])))
    for transport in Transport:
        for where in (FOUR, SIX):
            port = 5061 if transport is Transport.TLS else 5060
            name = f"{transport.name.lower()}{'6' if where is SIX else '4'}"
            made.add(Listener(name, transport, HostPort(where.host, port)))
    return made


def flow(listener: str, host: str = "192.0.2.1", port: int = 5070, connection: int = 0) -> Flow:
    return Flow(Transport[listener.rstrip("46").upper()], HostPort(host, port), listener, connection)


@pytest.mark.parametrize(
    ("listener", "via", "contact", "secure"),
    [
        ("udp4", "SIP/2.0/UDP 192.0.2.9:5060;", "<sip:s1@192.0.2.9:5060>", "<sip:s1@192.0.2.9:5060>"),
        ("udp6", "SIP/2.0/UDP [2001:db8::9]:5060;", "<sip:s1@[2001:db8::9]:5060>", "<sip:s1@[2001:db8::9]:5060>"),
        ("tcp4", "SIP/2.0/TCP ", "<sip:s1@192.0.2.9:5060;transport=tcp>", "<sip:s1@192.0.2.9:5060;transport=tcp>"),
        ("tls4", "SIP/2.0/TLS ", "<sip:s1@192.0.2.9:5061;transport=tls>", "<sips:s1@192.0.2.9:5061>"),
        ("ws4", "SIP/2.0/WS ", "<sip:s1@192.0.2.9:5060;transport=ws>", "<sip:s1@192.0.2.9:5060;transport=ws>"),
        ("wss4", "SIP/2.0/WSS ", "<sip:s1@192.0.2.9:5060;transport=ws>", "<sips:s1@192.0.2.9:5060;transport=ws>"),
    ],
)
def test_via_and_contact(addressing: Addressing, listener: str, via: str, contact: str, secure: str) -> None:
    made = addressing.via(flow(listener), "z9hG4bKx")
    assert made.startswith(via)
    assert made.endswith(";rport;branch=z9hG4bKx")
    assert addressing.contact(flow(listener)) == contact
    assert addressing.contact(flow(listener), secure=True) == secure


@pytest.mark.parametrize(
    ("uri", "default", "expected"),
    [
        ("sip:a@192.0.2.1:5070", "udp4", ("udp4", "192.0.2.1", 5070)),
        ("sip:a@192.0.2.2", "udp4", ("udp4", "192.0.2.2", 5060)),
        ("sip:a@192.0.2.2", "tcp4", ("tcp4", "192.0.2.2", 5060)),
        ("sip:a@192.0.2.2;transport=tcp", "udp4", ("tcp4", "192.0.2.2", 5060)),
        ("sip:a@192.0.2.2;transport=tls", "udp4", ("tls4", "192.0.2.2", 5061)),
        ("sips:a@192.0.2.2", "udp4", ("tls4", "192.0.2.2", 5061)),
        ("sip:a@[2001:db8::2]", "udp4", ("udp6", "2001:db8::2", 5060)),
        ("sip:a@[2001:db8::2]:5090;transport=tcp", "udp4", ("tcp6", "2001:db8::2", 5090)),
        ("sip:a@phone.invalid;transport=ws", "udp4", ("udp4", "192.0.2.1", 5070)),
        ("sip:a@192.0.2.2;transport=ws", "udp4", ("udp4", "192.0.2.1", 5070)),
        ("tel:+1", "udp4", ("udp4", "192.0.2.1", 5070)),
        ("no uri", "udp4", ("udp4", "192.0.2.1", 5070)),
    ],
)
def test_the_flow_to_a_next_hop(addressing: Addressing, uri: str, default: str, expected: tuple[str, str, int]) -> None:
    for _ in range(2):  # the second time from its table
        found = addressing.route(uri, flow(default))
        assert (found.listener, found.remote.host, found.remote.port) == expected
        assert found.transport.name.lower() == found.listener.rstrip("46")


def test_a_connection_is_kept_whatever_the_contact_says(addressing: Addressing) -> None:
    over = flow("tls4", connection=5)
    assert addressing.route("sip:a@198.51.100.7;transport=tcp", over) is over


def test_a_transport_that_is_not_served_here_leaves_the_flow_as_it_was() -> None:
    alone = Addressing("s1")
    alone.add(Listener("udp4", Transport.UDP, FOUR))
    known = flow("udp4")
    assert alone.route("sips:a@192.0.2.2", known) == known
    assert alone.route("sip:a@[2001:db8::2]", known) == known
    assert alone.reliable_twin(known) is None


def test_the_twin_of_a_datagram_flow_is_tcp_to_the_same_address(addressing: Addressing) -> None:
    assert addressing.reliable_twin(flow("udp6", "2001:db8::1")) == flow("tcp6", "2001:db8::1")


def target(uri: str, listener: str, connection: int = 0, path: tuple[str, ...] = ()) -> Target:
    transport = Transport[listener.rstrip("46").upper()]
    return Target(uri, "a@x", path, transport, "203.0.113.5", 4242, listener, connection, "s1")


def test_a_binding_is_reached_down_its_flow_by_its_path_or_at_its_contact(addressing: Addressing) -> None:
    over = addressing.flow_of(target("sip:a@10.0.0.1:5060;transport=tls", "tls4", 77))
    assert (over.listener, over.connection, over.remote) == ("tls4", 77, HostPort("203.0.113.5", 4242))
    translated = addressing.flow_of(target("sip:a@10.0.0.1:5060", "udp4"))  # private, and not listed
    assert translated.remote == HostPort("203.0.113.5", 4242)
    straight = addressing.flow_of(target("sip:a@203.0.113.5:5080", "udp4"))
    assert straight.remote == HostPort("203.0.113.5", 5080)
    edge = addressing.flow_of(
        target("sip:a@10.0.0.1", "udp4", path=("<sip:token@198.51.100.1:5090;lr;transport=tcp>",))
    )
    assert (edge.listener, edge.remote) == ("tcp4", HostPort("198.51.100.1", 5090))


def test_to_a_phone_we_speak_on_its_flow_or_at_its_own_address() -> None:
    addressing = Addressing("s1")
    for transport in (Transport.UDP, Transport.TCP, Transport.TLS):
        addressing.add(Listener(f"{transport.name.lower()}4", transport, FOUR))
    known = flow("udp4", "198.51.100.44", 33_000)
    for uri, expected in (
        ("sip:a@198.51.100.44:6000", ("udp4", 6000)),
        ("sip:a@198.51.100.44:6000;transport=tcp", ("tcp4", 6000)),
        ("sip:a@[::ffff:198.51.100.44]:6000", ("udp4", 6000)),
        ("sip:a@198.51.100.45:6000", ("udp4", 33_000)),
        ("sip:a@198.51.100.44:111;transport=tcp", ("udp4", 33_000)),
        ("<sip:198.51.100.45;lr>", ("udp4", 33_000)),
    ):
        found = addressing.route(uri, known)
        assert (found.listener, found.remote) == (expected[0], HostPort("198.51.100.44", expected[1])), uri
        assert addressing.names_hop(uri, known) is (expected[1] == 6000)
    by_tls = known._replace(transport=Transport.TLS, listener="tls4")
    assert addressing.route("sip:a@198.51.100.44:6000;transport=tcp", by_tls) == by_tls, "never in the clear"


def test_a_path_that_no_listed_proxy_registered_is_not_followed(addressing: Addressing) -> None:
    of_phone = Target(
        "sip:a@198.51.100.3:5080", "a@x", ("<sip:192.0.2.77;lr>",), 1, "198.51.100.3", 4242, "udp4", 0, "s1"
    )
    assert addressing.first_hop(of_phone) == "sip:a@198.51.100.3:5080"
    assert addressing.flow_of(of_phone).remote == HostPort("198.51.100.3", 5080)


def test_a_phone_that_closed_its_connection_is_reached_by_another_at_its_own_contact() -> None:
    closed: set[int] = set()
    addressing = Addressing("s1", peers={"s2"}, is_open=lambda found: found.connection not in closed)
    for transport in (Transport.UDP, Transport.TCP, Transport.TLS, Transport.WS):
        addressing.add(Listener(f"{transport.name.lower()}4", transport, FOUR))
    stays = target("sip:a@203.0.113.5:5072;transport=tcp", "tcp4", 8)
    natted = target("sip:a@10.0.0.1:5072;transport=tcp", "tcp4", 8)
    web = target("sip:a@203.0.113.5;transport=ws", "ws4", 8)
    assert addressing.flow_of(stays).connection == 8
    closed.add(8)
    assert addressing.flow_of(stays) == flow("tcp4", "203.0.113.5", 5072)
    assert addressing.flow_of(natted).connection == 8, "nothing leads there any more"
    assert addressing.flow_of(web).connection == 8
    inside = addressing.route("sip:a@203.0.113.5:5072;transport=tcp", flow("tcp4", "203.0.113.5", 4242, 8))
    assert inside == flow("tcp4", "203.0.113.5", 5072)
    over = at("s2", flow("tcp4", "203.0.113.5", 4242, 9))
    assert addressing.route("sip:a@203.0.113.5:5072;transport=tcp", over) == over, "the other replica tells"
    assert addressing.anew("sip:a@203.0.113.5:5072;transport=tcp", over) == flow("tcp4", "203.0.113.5", 5072)
    assert addressing.anew("sip:a@203.0.113.6:5072;transport=tcp", over) is None
    assert addressing.anew("sip:a@203.0.113.5:5072", flow("udp4", "203.0.113.5", 4242)) is None


@pytest.mark.parametrize(
    ("listener", "port", "uri", "reachable"),
    [
        ("tcp4", 41_234, "sip:a@203.0.113.5:5072;transport=tcp", True),
        ("tcp4", 41_234, "sip:a@203.0.113.5", True),
        ("tls4", 41_234, "sips:a@203.0.113.5", True),
        ("tls4", 41_234, "sip:a@203.0.113.5;transport=tcp", False),  # it came encrypted
        ("tcp4", 41_234, "sip:a@203.0.113.5:41234;transport=tcp", False),  # its end of the connection
        ("tcp4", 5066, "sip:a@203.0.113.5:5066;transport=tcp", True),  # where it listens, too
        ("tcp4", 41_234, "sip:a@10.0.0.7:5072;transport=tcp", False),
        ("tcp4", 41_234, "sip:a@203.0.113.5:25;transport=tcp", False),
        ("ws4", 41_234, "sip:a@203.0.113.5:5072;transport=tcp", False),
        ("ws4", 41_234, "sip:a@203.0.113.5:5072;transport=ws", False),
    ],
)
def test_which_phones_can_be_reached_when_their_connection_is_gone(
    listener: str, port: int, uri: str, reachable: bool
) -> None:
    addressing = Addressing("s1")
    for transport in Transport:
        addressing.add(Listener(f"{transport.name.lower()}4", transport, FOUR))
    assert addressing.can_reach(uri, flow(listener, "203.0.113.5", port, 7)) is reachable
