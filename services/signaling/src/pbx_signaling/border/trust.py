"""Which peers are in our trust domain (RFC 3325 section 2.3, RFC 3324): those in the networks that a setting lists.

An address is as good as the network that carries it: list networks where no stranger can send from such an address.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

JUDGED_MAX: Final = 4_096
"""Addresses whose answer is remembered. Threat: addresses without end; the table starts anew beyond."""


class Trust:
    """The networks of one instance."""

    __slots__ = ("_judged", "_networks")

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """Raises ValueError where one of them is no address and no network (`192.0.2.0/24`, `2001:db8::/32`)."""
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(text, strict=False) for text in networks]
        self._judged: dict[str, bool] = {}

    def covers(self, host: str) -> bool:
        """Whether the peer at an address, an IPv4 or IPv6 literal, is trusted."""
        if not self._networks:
            return False
        found = self._judged.get(host)
        if found is None:
            if len(self._judged) >= JUDGED_MAX:
                self._judged.clear()
            found = self._judged[host] = self._is_inside(host)
        return found

    def _is_inside(self, host: str) -> bool:
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)
