"""Which addresses of a session description media may be sent to: one notion for signaling, which reads them, and the
relay, which sends there. Pure; no name is ever looked up (RFC 8866 section 5.7 allows names; a phone is where it is
heard from).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from pbx_runtime.address_kind import Kind, carried_by, kind_of, parse

CACHE: Final = 4_096
"""Addresses whose reading is remembered: phones are seen again with every offer. Bounded because peers choose them."""
PORT_MAX: Final = 65_535
NAME: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?")
NUMBER: Final = re.compile(r"[0-9.]+")
"""Digits and dots alone are an address that is none, and no name."""
HERE: Final = ("127.0.0.1", "::1")


class Use(enum.IntEnum):
    """What the text of an address is good for."""

    HOST = 0
    """The address of one host."""
    UNSPECIFIED = 1
    """`0.0.0.0` or `::`: nothing is to be sent there, which is the old way to hold (RFC 3264 section 8.4)."""
    ELSEWHERE = 2
    """A name, or an address with a zone that means nothing here: its owner is where it is heard from."""
    NONE = 3
    """A group, a broadcast: no peer at all."""


@lru_cache(maxsize=CACHE)
def read(text: str) -> tuple[Use, str]:
    """What an address is good for, and its one spelling; IPv4-mapped IPv6 literals become IPv4."""
    if "%" in text:
        return (Use.ELSEWHERE if parse(text) else Use.NONE), text
    address = parse(text)
    if address is None:
        return Use.ELSEWHERE if NAME.fullmatch(text) and not NUMBER.fullmatch(text) else Use.NONE, text
    if address.is_unspecified:
        return Use.UNSPECIFIED, str(address)
    return Use.NONE if kind_of(address) is Kind.NO_HOST else Use.HOST, str(address)


def canonical(text: str) -> str:
    """The one spelling of the address of one host. Raises ValueError for all that is none."""
    use, host = read(text)
    if use is not Use.HOST:
        raise ValueError(f"{text!r} cannot be a media endpoint")
    return host


def is_loopback(host: str) -> bool:
    """Whether an address, in its one spelling, is this machine's own in any case."""
    address = parse(host)
    return address is not None and address.is_loopback


class Barred:
    """Addresses to which nothing is sent because a peer says so: ours, this machine's, and internal networks.

    Threat: with a session description anybody who may call could make the relay talk to a service that trusts its
    neighbours. The source of the peer's own signaling is never barred: it could send there by itself.
    """

    __slots__ = ("_judged", "networks", "own")

    def __init__(self, networks: Iterable[str] = (), own: Iterable[str] = ()) -> None:
        """Raises ValueError where one of `networks` is none (`10.0.0.0/8`, `fd00::/8`)."""
        self.networks: tuple[IPv4Network | IPv6Network, ...] = tuple(ip_network(one, strict=False) for one in networks)
        self.own: frozenset[str] = frozenset()
        self._judged: dict[str, bool] = {}
        self.add_own(own)

    def add_own(self, hosts: Iterable[str]) -> None:
        """Takes in addresses of our own: of listeners, and of relays as they come."""
        fresh = {host for use, host in map(read, hosts) if use is Use.HOST} - self.own
        if fresh:
            self.own |= fresh
            self._judged.clear()

    def bars(self, host: str, source: str) -> bool:
        """Whether `host`, in its one spelling, is barred for a peer whose signaling comes from `source`."""
        barred = self._judged.get(host)
        if barred is None:
            if len(self._judged) >= CACHE:
                self._judged.clear()
            barred = self._judged[host] = self._is_barred(host)
        return barred and not self._is_its_own(host, read(source.partition("%")[0])[1])

    def _is_barred(self, host: str) -> bool:
        address = ip_address(host)
        if host in self.own or kind_of(address) > Kind.PRIVATE:
            return True
        inside = carried_by(address) if isinstance(address, IPv6Address) else []
        return any(
            str(each) in self.own or any(each in network for network in self.networks) for each in (address, *inside)
        )

    def _is_its_own(self, host: str, source: str) -> bool:
        """Whether a peer's media are where its signaling is; a peer on this machine has this machine's addresses."""
        here = source in HERE or source in self.own
        return host == source or (here and (host in HERE or host in self.own))
