"""What the kernel says of this network namespace, over rtnetlink: addresses, interfaces, routes. Nothing is changed.

/sys is not read: it shows the namespace in which it was mounted, not the caller's.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pbx_media_relay.ebpf.abi import host_text, packed

NEWLINK_GET, ADDR_GET, ROUTE_GET = 18, 22, 26
ERROR, DONE = 2, 3
REQUEST, DUMP = 1, 0x300
BUFFER: Final = 1 << 16
HEADER: Final = struct.Struct("=IHHII")
LINK: Final = struct.Struct("=BxHiII")
ADDRESS: Final = struct.Struct("=BBBBI")
ROUTE: Final = struct.Struct("=BBBBBBBBI")
ETHERNET, LOOPBACK_TYPE = 1, 772
"""ARPHRD_*: link layers with an Ethernet header, which the program expects."""
IFF_UP: Final = 1
RTN_UNICAST, RTN_LOCAL = 1, 2
A_DST, A_OIF, A_GATEWAY, A_PREFSRC, A_METRICS = 1, 4, 5, 7, 8
IFLA_MTU, IFA_ADDRESS, IFA_LOCAL = 4, 1, 2
RTAX_MTU: Final = 2


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface that is up."""

    index: int
    kind: int
    mtu: int


@dataclass(frozen=True, slots=True)
class Route:
    """How a host is reached."""

    ifindex: int
    nexthop: str
    """The host itself or its gateway; empty: the kernel is to look it up (local hosts, gateways of another
    family)."""
    local: str
    """The source address that the kernel would take."""
    mtu: int
    """0: the interface's."""


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + size]
        at += (size + 3) & ~3
    return found


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) & 3)


def ask(kind: int, flags: int, body: bytes) -> Iterator[bytes]:
    """The bodies of the kernel's answers. Raises OSError with its errno."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.settimeout(2)
        link.send(HEADER.pack(HEADER.size + len(body), kind, REQUEST | flags, 1, 0) + body)
        while True:
            data, at = link.recv(BUFFER), 0
            while at + HEADER.size <= len(data):
                size, answer, _, _, _ = HEADER.unpack_from(data, at)
                inside = data[at + HEADER.size : at + size]
                if answer == DONE:
                    return
                if answer == ERROR:
                    (code,) = struct.unpack_from("=i", inside)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return
                yield inside
                at += (size + 3) & ~3
            if not flags & DUMP:
                return


def interfaces() -> list[Interface]:
    """The interfaces that are up."""
    found = []
    for body in ask(NEWLINK_GET, DUMP, LINK.pack(0, 0, 0, 0, 0)):
        _, kind, index, flags, _ = LINK.unpack_from(body)
        if flags & IFF_UP:
            mtu = _attributes(body[LINK.size :]).get(IFLA_MTU, bytes(4))
            found.append(Interface(index, kind, int.from_bytes(mtu, "little")))
    return found


def addresses() -> list[tuple[int, str]]:
    """Every local address with its interface; link-local IPv6 ones are left out (they need a zone)."""
    found = []
    for body in ask(ADDR_GET, DUMP, ADDRESS.pack(0, 0, 0, 0, 0)):
        family, _, _, _, index = ADDRESS.unpack_from(body)
        attributes = _attributes(body[ADDRESS.size :])
        octets = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS)
        if octets and family in (socket.AF_INET, socket.AF_INET6):
            host = host_text(octets, family)
            if not host.startswith("fe80:"):
                found.append((index, host))
    return found


def route(host: str) -> Route | None:
    """The route to a host; None where there is none."""
    family, octets = packed(host)
    octets = octets[: 4 if family == socket.AF_INET else 16]
    body = ROUTE.pack(family, len(octets) * 8, 0, 0, 0, 0, 0, 0, 0) + attribute(A_DST, octets)
    try:
        answer = next(iter(ask(ROUTE_GET, 0, body)), None)
    except OSError:
        return None
    if answer is None:
        return None
    kind = ROUTE.unpack_from(answer)[7]
    attributes = _attributes(answer[ROUTE.size :])
    if kind not in (RTN_UNICAST, RTN_LOCAL) or A_OIF not in attributes:
        return None
    gateway = attributes.get(A_GATEWAY)
    nexthop = host_text(gateway, family) if gateway else host
    source = attributes.get(A_PREFSRC)
    metrics = _attributes(attributes.get(A_METRICS, b""))
    return Route(
        ifindex=int.from_bytes(attributes[A_OIF], "little"),
        nexthop="" if kind == RTN_LOCAL else nexthop,
        local=host_text(source, family) if source else "",
        mtu=int.from_bytes(metrics.get(RTAX_MTU, b""), "little"),
    )
