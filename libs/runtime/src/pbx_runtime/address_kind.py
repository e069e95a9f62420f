"""What an IP address is: public, private, this machine's own, or no host at all. Pure; names are not resolved here.

Who lets a stranger choose where a packet goes asks here first. An IPv6 address that carries an IPv4 address (mapped,
compatible, NAT64, 6to4, Teredo, ISATAP) is judged by both: some gateway may unwrap it.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address


class Kind(enum.IntEnum):
    """From harmless to useless; of an address that carries another the higher one counts."""

    PUBLIC = 0
    """On the Internet, documentation ranges included: nobody is there."""
    PRIVATE = 1
    """In some network of its own: RFC 1918, carrier-grade NAT, unique local, site-local, protocol assignments."""
    LINK_LOCAL = 2
    """On the same wire; the metadata services of clouds are there."""
    LOOPBACK = 3
    """This machine itself, the unspecified address included: a connection to that ends here, too."""
    NO_HOST = 4
    """Multicast, broadcast, reserved."""


_NETWORKS: Final = {
    Kind.PRIVATE: (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),  # RFC 1918
        "100.64.0.0/10",  # RFC 6598: carrier-grade NAT
        *("192.0.0.0/24", "192.88.99.0/24"),  # RFC 6890, RFC 7526: protocol assignments, 6to4 relays
        "198.18.0.0/15",  # RFC 2544: benchmarks
        *("fc00::/7", "fec0::/10"),  # RFC 4193, RFC 3879: unique local, site-local
        *("64:ff9b:1::/48", "100::/64", "5f00::/16"),  # RFC 8215: local NAT64; RFC 6666: discard; RFC 9602: SRv6
        *("2001::/23", "3fff::/20"),  # IETF protocol assignments; RFC 9637
    ),
    Kind.LINK_LOCAL: ("169.254.0.0/16", "fe80::/10"),
    Kind.LOOPBACK: ("127.0.0.0/8", "0.0.0.0/8", "::1/128", "::/128"),
    Kind.NO_HOST: ("224.0.0.0/4", "240.0.0.0/4", "ff00::/8"),
}
_BY_FAMILY: Final[dict[int, list[tuple[IPv4Network | IPv6Network, Kind]]]] = {
    4: [(IPv4Network(net), kind) for kind, nets in _NETWORKS.items() for net in nets if ":" not in net],
    6: [(IPv6Network(net), kind) for kind, nets in _NETWORKS.items() for net in nets if ":" in net],
}
_COMPATIBLE: Final = IPv6Network("::/96")
_NAT64: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_ISATAP: Final = (0x00005EFE, 0x02005EFE)
"""The upper half of an ISATAP interface identifier (RFC 5214 section 6.1)."""


@lru_cache(maxsize=1024)
def parse(host: str) -> Address | None:
    """The address that a literal means, without its zone; an IPv4-mapped one as IPv4. None where it is no literal."""
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return found if isinstance(found, IPv4Address) else (found.ipv4_mapped or found)


@lru_cache(maxsize=4096)
def kind_of(address: Address) -> Kind:
    """What an address is; of one that carries another, the less harmless of both."""
    kind = next((kind for network, kind in _BY_FAMILY[address.version] if address in network), Kind.PUBLIC)
    if isinstance(address, IPv4Address):
        return kind
    kinds: list[Kind] = [kind_of(inner) for inner in carried_by(address)]
    return max([kind, *kinds])


def carried_by(address: IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses inside an IPv6 address."""
    value = int(address)
    last = IPv4Address(value & 0xFFFFFFFF)
    found = [last] if any(address in network for network in _NAT64) else []
    if address.ipv4_mapped is not None or (address in _COMPATIBLE and value > 1):
        found.append(last)
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found += address.teredo
    if (value >> 32) & 0xFFFFFFFF in _ISATAP:
        found.append(last)
    return found
