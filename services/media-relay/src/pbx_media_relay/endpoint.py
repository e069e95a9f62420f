"""Transport addresses of media, as values: one canonical text form per address, no names, no sockets.

IPv4-mapped IPv6 literals become IPv4, so that an address compares equal however it was learned.
"""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache
from typing import Final, NamedTuple

MAPPED_PREFIX: Final = "::ffff:"
CANONICAL_CACHE: Final = 4096
"""Phones are seen again with every re-INVITE; bounded because callers choose the addresses."""


class Endpoint(NamedTuple):
    """An IP literal in canonical form and a UDP port."""

    host: str
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET or AF_INET6."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    def __str__(self) -> str:
        """As in logs: IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@lru_cache(maxsize=CANONICAL_CACHE)
def canonical_host(host: str) -> str:
    """The one spelling of an IP literal. Raises ValueError for names, zone indices and unusable addresses.

    Multicast, unspecified and limited-broadcast destinations are refused: the relay would amplify to them.
    """
    address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise ValueError(f"zone index in {host!r}")
        address = address.ipv4_mapped or address
    if address.is_multicast or address.is_unspecified or host == "255.255.255.255":
        raise ValueError(f"{host!r} cannot be a media endpoint")
    return str(address)


def received_from(source: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
    """The endpoint that a socket's recvfrom told; link-local zones are cut, mapped addresses unwrapped."""
    host = source[0]
    if ":" in host:
        host = host.partition("%")[0]
        if host.startswith(MAPPED_PREFIX) and "." in host:
            host = host[len(MAPPED_PREFIX) :]
    return Endpoint(host, source[1])
