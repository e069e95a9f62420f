"""Transport addresses of media, as values: one canonical text form per address, no names, no sockets.

IPv4-mapped IPv6 literals become IPv4, so that an address compares equal however it was learned. Which addresses can be
endpoints at all is `pbx_runtime.media_address`'s word, which signaling goes by too.
"""

from __future__ import annotations

import socket
from typing import Final, NamedTuple

from pbx_runtime.media_address import CACHE as CANONICAL_CACHE
from pbx_runtime.media_address import canonical as canonical_host

__all__ = ["CANONICAL_CACHE", "Endpoint", "canonical_host", "received_from"]

MAPPED_PREFIX: Final = "::ffff:"


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


def received_from(source: tuple[str, int] | tuple[str, int, int, int]) -> Endpoint:
    """The endpoint that a socket's recvfrom told; link-local zones are cut, mapped addresses unwrapped."""
    host = source[0]
    if ":" in host:
        host = host.partition("%")[0]
        if host.startswith(MAPPED_PREFIX) and "." in host:
            host = host[len(MAPPED_PREFIX) :]
    return Endpoint(host, source[1])
