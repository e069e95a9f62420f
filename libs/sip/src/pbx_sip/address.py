"""Transport addresses and flows, as values. No socket is touched here.

A flow (RFC 5626) is the path over which a peer was heard: transport, remote address, our listener, and for
connections their number. Messages go back down the flow on which they came.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network
from typing import Final, NamedTuple

IPV6_PREFIX: Final = 64
"""One customer has at least a /64: single addresses of it cost nothing (RFC 6177)."""


class Transport(enum.IntEnum):
    """SIP transports, numbered as in the proto contract."""

    UDP = 1
    TCP = 2
    TLS = 3
    WS = 4
    WSS = 5

    @property
    def reliable(self) -> bool:
        """Whether the transport itself retransmits (RFC 3261 section 17)."""
        return self is not Transport.UDP

    @property
    def secure(self) -> bool:
        """Whether the hop is encrypted."""
        return self in (Transport.TLS, Transport.WSS)

    @property
    def token(self) -> str:
        """The transport as in a Via: "UDP", "TCP", "TLS", "WS" or "WSS"."""
        return self.name

    @property
    def default_port(self) -> int:
        """The port that a URI without one means (RFC 3261 section 19.1.2, RFC 7118 section 8)."""
        return DEFAULT_PORTS[self]


DEFAULT_PORTS: Final = {
    Transport.UDP: 5060,
    Transport.TCP: 5060,
    Transport.TLS: 5061,
    Transport.WS: 80,
    Transport.WSS: 443,
}
TRANSPORTS: Final = {transport.name.lower(): transport for transport in Transport}


class HostPort(NamedTuple):
    """A host (IPv4 or IPv6 literal without brackets, or a name) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        """As in a URI: IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Flow(NamedTuple):
    """The path to and from one peer (RFC 5626 section 3.1)."""

    transport: Transport
    remote: HostPort
    listener: str = ""
    """Name of the listener of ours on which it ends, e.g. "udp4"; the driver maps it to a socket."""
    connection: int = 0
    """Number of the connection; 0 for UDP."""

    def __str__(self) -> str:
        """As in logs and CDRs: "udp:192.0.2.1:5060"."""
        return f"{self.transport.name.lower()}:{self.remote}"


@lru_cache(maxsize=4096)
def network_of(host: str) -> str:
    """What counts as one source: an IPv4 address (also where it is mapped into IPv6), or the /64 of an IPv6 one."""
    if ":" not in host:
        return host
    try:
        address = IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    return str(address.ipv4_mapped or IPv6Network((address, IPV6_PREFIX), strict=False))
