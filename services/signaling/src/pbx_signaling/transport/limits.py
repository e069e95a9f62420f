"""How many connections there may be, how long they may take, and who holds them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of connections; times in seconds."""

    connections_max: int = 10_000
    """Over all stream listeners. Threat: descriptors, memory (TLS holds some 30 KiB each)."""
    per_source_max: int = 500
    """Of one address (IPv6: one /64): an office behind a NAT, but not a flood."""
    idle_s: float = 900.0
    """Without any octet; phones keep alive every two minutes or so (RFC 5626 section 4.4.1)."""
    registered_idle_s: float = 7_500.0
    """The same where a phone is registered over it: the longest registration, and a little."""
    partial_s: float = 15.0
    """For a handshake, or one message, to come whole. Threat: slow loris."""
    first_message_s: float = 30.0
    """For the first SIP message to come. Threat: connections that are only held."""
    unsent_max: int = 262_144
    """Octets that a peer does not take. Beyond, it is dead or hostile: the connection is closed."""
    waiting_max: int = 64
    """Messages that wait for a connection to be made."""
    connect_s: float = 2.0
    """For a connection to be made: one lost SYN (1 s) is forgiven; callers wait for it."""
    sweep_s: float = 5.0
    """How often the times are looked at: they are late by at most so much."""


def _nobody(host: str) -> bool:
    return False


@dataclass(slots=True)
class Budget:
    """Connections that are open, over all listeners of an instance."""

    limits: Limits = field(default_factory=Limits)
    trusts: Callable[[str], bool] = _nobody
    """Hosts of peers of ours, such as an edge proxy with an office behind it: no limit for each of them."""
    open: int = 0
    _sources: dict[str, int] = field(default_factory=dict)

    def take(self, host: str) -> bool:
        """Counts a connection of a host in; False where there is no room for it."""
        source = source_of(host)
        held = self._sources.get(source, 0)
        if self.open >= self.limits.connections_max:
            return False
        if held >= self.limits.per_source_max and not self.trusts(host):
            return False
        self.open += 1
        self._sources[source] = held + 1
        return True

    def give(self, host: str) -> None:
        """Counts one out that was taken."""
        source = source_of(host)
        self.open -= 1
        self._sources[source] -= 1
        if not self._sources[source]:
            del self._sources[source]


def source_of(host: str) -> str:
    """Whom limits per source count: the address, or the /64 of an IPv6 address, which one subscriber has whole."""
    if ":" not in host:
        return host
    return IPv6Address(host.partition("%")[0]).exploded[:19]
