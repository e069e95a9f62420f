"""How hosts are reached, remembered for a while; and which interfaces and addresses are this relay's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pbx_media_relay.ebpf import abi
from pbx_media_relay.ebpf.network import ETHERNET, LOOPBACK_TYPE, Interface, Route, addresses, interfaces, route
from pbx_media_relay.endpoint import Endpoint

WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 -- compared with, not bound
REMEMBERED: Final = 4096
"""Hosts: phones are seen again; bounded because callers choose them."""


class Ways:
    """Routes and addresses as the program needs them."""

    def __init__(self, bind_hosts: tuple[str, ...], find: Callable[[str], Route | None] = route) -> None:
        self._bound = {Endpoint(host, 0).family: host for host in bind_hosts}
        self._find = find
        self._known: dict[str, abi.WayC] = {}
        self._mtu: dict[int, int] = {}

    def look(self) -> tuple[list[str], set[int]]:
        """The local addresses at which packets are the relay's, and the interfaces that they may come in by.

        Forgets all routes.
        """
        self._known.clear()
        up = {each.index: each for each in interfaces() if each.kind in (ETHERNET, LOOPBACK_TYPE)}
        self._mtu = {each.index: each.mtu for each in up.values()}
        known = addresses()
        hosts = [host for _, host in known if self._is_bound(host)]
        return hosts, self._entrances(known, up)

    def _entrances(self, known: list[tuple[int, str]], up: dict[int, Interface]) -> set[int]:
        with_address = {index for index, _ in known}
        return with_address & set(up)

    def _is_bound(self, host: str) -> bool:
        bound = self._bound.get(Endpoint(host, 0).family)
        return bound is not None and (bound in WILDCARDS or bound == host)

    def way(self, host: str) -> abi.WayC:
        """How the host is reached; without an interface where it is not."""
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[host] = self._make(host)
        return known

    def _make(self, host: str) -> abi.WayC:
        made = abi.WayC()
        made.to = abi.host_c(host)
        bound = self._bound.get(Endpoint(host, 0).family)
        if bound is None or host.startswith("fe80:"):
            return made
        found = self._find(host)
        local = found.local if found and bound in WILDCARDS else bound
        if found is None or not local:
            return made
        made.ifindex = found.ifindex
        made.nexthop = abi.host_c(found.nexthop)
        made.local[:] = abi.host_c(local).address[:]
        made.mtu = found.mtu or self._mtu.get(found.ifindex, 0)
        return made
