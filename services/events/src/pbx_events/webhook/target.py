"""Where a delivery may go: the name is resolved once, checked, and the connection made to that very address.

Threat: a subscription that makes this service ask its own network (SSRF), also by a name whose address changes between
check and use (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from yarl import URL

from pbx_runtime.errors import InvalidArgument, Unavailable


@dataclass(frozen=True, slots=True)
class Target:
    """What to connect to, and under which name."""

    address: URL
    """With the address in place of the name."""
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


def is_public(address: str) -> bool:
    """Whether an address belongs to the Internet: neither private, loopback, link-local, shared nor multicast."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is not None and not is_public(str(inner)):
            return False
    return found.is_global and not found.is_multicast


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
    addresses = [str(entry[4][0]) for entry in found]
    if not allow_private and not all(map(is_public, addresses)):
        raise InvalidArgument(f"{parts.host} is not at a public address")
    address = URL(str(parts.copy_with(host=addresses[0])), encoded=True)
    return Target(address, parts.netloc.decode(), parts.host if parts.scheme == "https" else None)
