"""Where a delivery may go: the name is resolved once, checked, and the connection made to those very addresses.

Threat: a subscription that makes this service ask its own network (SSRF), also by a name whose address changes between
check and use (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final
from urllib.parse import urlsplit

import httpx
from yarl import URL

from pbx_runtime.errors import InvalidArgument, Unavailable

ADDRESSES_MAX: Final = 8
"""Addresses of a name that are tried. Threat: a name with hundreds of them, each a connection of ours to somebody."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to connect to, and under which name."""

    url: URL
    addresses: tuple[str, ...]
    """Where the name leads, checked, in the order in which they are tried."""
    host_header: str
    server_name: str | None
    """For TLS: SNI, and what the certificate must name; None without TLS."""


def check_url(url: str, *, allow_private: bool) -> None:
    """Raises InvalidArgument for a URL that can never be a target."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL) as error:
        raise InvalidArgument(f"url cannot be read: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidArgument("url is no http or https URL")
    if parts.username or parts.password:
        raise InvalidArgument("url holds a user or password: deliveries are signed instead")
    if parts.scheme == "http" and not allow_private:
        raise InvalidArgument("url must be https (PBX_WEBHOOK_ALLOW_PRIVATE=1 allows http and private addresses)")
    if not allow_private and _is_literal(host) and not is_public(host):
        raise InvalidArgument(f"{host} is not a public address (PBX_WEBHOOK_ALLOW_PRIVATE=1 allows it)")


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


_NOT_PUBLIC: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            # IANA's special-purpose registries (RFC 6890), beyond what `ipaddress` calls private in all its versions
            "192.0.0.0/24",
            "192.88.99.0/24",  # relays of 6to4 (RFC 7526)
            "64:ff9b::/96",  # NAT64: the translator reaches what its own IPv4 network does (RFC 6052)
            "64:ff9b:1::/48",  # NAT64 of a site (RFC 8215)
            "::/96",  # IPv4-compatible (RFC 4291 section 2.5.5.1)
            "::ffff:0:0/96",  # IPv4-mapped
            "::ffff:0:0:0/96",  # IPv4-translated (RFC 2765)
            "100::/64",  # discard only (RFC 6666)
            "2001::/23",  # Teredo, ORCHID, benchmarking and other protocol assignments
            "2001:db8::/32",
            "2002::/16",  # 6to4: whatever IPv4 address stands inside
            "3fff::/20",  # documentation (RFC 9637)
            "5f00::/16",  # segment routing (RFC 9602)
            "fec0::/10",  # site-local (RFC 3879)
        ),
    )
)
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
"""All of IPv6 that IANA gave to the Internet; what it may give one day is none of ours to guess."""


def is_public(address: str) -> bool:
    """Whether an address belongs to the Internet: neither private nor shared, nor another way to say such a one."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found not in _GLOBAL_UNICAST:
        return False
    if any(found in network for network in _NOT_PUBLIC if network.version == found.version):
        return False
    return found.is_global and not found.is_multicast and not found.is_reserved


async def resolve(url: str, *, allow_private: bool) -> Target:
    """Look up the host of a URL. Raises InvalidArgument where that is not allowed, Unavailable where it fails."""
    check_url(url, allow_private=allow_private)
    parts = httpx.URL(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(parts.host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"{parts.host} has no address") from error
    addresses = interleaved([str(entry[4][0]) for entry in found])
    if not allow_private and not all(map(is_public, addresses)):
        raise InvalidArgument(f"{parts.host} is not at a public address")
    server_name = parts.host if parts.scheme == "https" else None
    return Target(URL(str(parts), encoded=True), tuple(addresses), parts.netloc.decode(), server_name)


def interleaved(addresses: Sequence[str]) -> list[str]:
    """Each once, the families in turn, so that one that is broken delays the other no further (RFC 8305 section 4)."""
    once = list(dict.fromkeys(addresses))[:ADDRESSES_MAX]
    first = [address for address in once if (":" in address) == (":" in once[0])]
    second = [address for address in once if address not in first]
    return [address for pair in zip_longest(first, second) for address in pair if address is not None]
