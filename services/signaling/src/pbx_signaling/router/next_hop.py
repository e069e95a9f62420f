"""Where signaling may send: the one rule about next hops that peers name. Pure.

Path, Record-Route and Contact are text of a peer; whoever may choose freely where we send it has a port scanner, and a
voice inside our network. So to a phone we speak on its flow, or at the address from which it speaks to us; elsewhere
only a proxy that a setting lists may send us, and it, too, neither to this machine nor to private networks that no
setting names. What is not followed is not refused: the message goes down the flow.

Deliberately without names: an address literal is followed, a host name is not looked up (DESIGN: addressing).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pbx_runtime.address_kind import Address, Kind, kind_of, parse
from pbx_signaling.border.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pbx_sip.address import HostPort

SYSTEM_PORTS: Final = 1_024
"""Ports below are those of other services (ssh, SMTP, HTTP): no phone listens there (RFC 6335 section 6)."""


@dataclass(slots=True)
class NextHops:
    """What one instance may be sent to, and by whom."""

    proxies: Trust = field(default_factory=Trust)
    """Peers whose Path, Record-Route and Contacts may lead elsewhere."""
    reachable: Trust = field(default_factory=Trust)
    """Private networks into which they may lead."""
    _own_hosts: set[Address] = field(default_factory=set)
    _own_ports: set[int] = field(default_factory=set)

    def note_own(self, host: str, ports: Iterable[int] = ()) -> None:
        """Notes an address of ours or of another replica, and ports on which we listen."""
        address = parse(host)
        if address is not None:
            self._own_hosts.add(address)
        self._own_ports.update(ports)

    def means_us(self, host: str, view: str = "") -> bool:
        """Whether a host in a URI may be this product: a name (which is judged elsewhere), or an address of ours.

        `view`: the host of the peer's own address, for it may know us by an address that we do not know ourselves.
        """
        address = parse(host)
        if address is None or address in self._own_hosts or kind_of(address) is Kind.LOOPBACK:
            return True
        return bool(view) and address == parse(view)

    def are_of_proxy(self, host: str) -> bool:
        """Whether routes that a peer at that address names are followed."""
        return self.proxies.covers(host)

    def admits(self, hop: HostPort, source: HostPort) -> bool:
        """Whether a request may go to a hop that the peer at `source` named."""
        address = parse(hop.host)
        if address is None:
            return False
        if hop.port < SYSTEM_PORTS and hop.port != source.port and not self.proxies.covers(hop.host):
            return False
        if address == parse(source.host):
            return hop.port == source.port or not self._is_ours(address, hop.port)
        return self.proxies.covers(source.host) and self._is_open_to_proxies(address, hop.host)

    def _is_ours(self, address: Address, port: int) -> bool:
        """Whether a port at the peer's own address is one of ours: it speaks from this machine."""
        return port in self._own_ports and (address in self._own_hosts or kind_of(address) is Kind.LOOPBACK)

    def _is_open_to_proxies(self, address: Address, host: str) -> bool:
        kind = kind_of(address)
        if address in self._own_hosts or kind > Kind.PRIVATE:
            return False
        return kind is Kind.PUBLIC or self.reachable.covers(host) or self.proxies.covers(host)
