"""Fairness between sources: what one of them may ask for outside of dialogs before others would suffer. Pure.

Each such request costs its source a token, and one that proves its user gets them back: a busy trunk with the right
password is never slowed down, a flood of OPTIONS, unauthenticated INVITE or REGISTER, or garbage soon is. An empty
bucket means 503 with Retry-After, without state; a source that goes on all the same is not even read for a while.
Requests inside dialogs that there are cost nothing. There are two buckets for each: of the address and port, and of
the address (IPv6: of its /64) with more room, so that one phone behind a NAT does not silence the office.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Network
from typing import Final

from pbx_sip.address import HostPort

SOURCES_MAX: Final = 20_000
"""Buckets kept. Threat: spoofed sources filling memory; the oldest is dropped for a new one, and is full again."""
ADDRESS_ROOM: Final = 5.0
"""How much more an address may than each of its ports."""
UNREAD_S: Final = 0.25
"""How long a source that goes on is not read: its next requests cost some microseconds each."""
UNREAD_AFTER: Final = 20
"""Refusals in a row after which that happens: who waits as Retry-After says never gets there."""
IPV6_PREFIX: Final = 64
READABLE: Final = (b"ACK ", b"BYE ", b"CANCEL ", b"PRACK ", b"UPDATE ", b"INFO ", b"SIP/2.0 ")
"""What is read even so: it belongs to calls that there are."""


@dataclass(slots=True)
class Bucket:
    """A token bucket on an external clock."""

    tokens: float
    at: float
    refused: int = 0
    """In a row."""

    def take(self, rate: float, burst: float, now: float) -> bool:
        """Whether there is a token at `now`; takes it."""
        self.tokens = min(burst, self.tokens + (now - self.at) * rate)
        self.at = now
        if self.tokens < 1.0:
            self.refused += 1
            return False
        self.tokens -= 1.0
        self.refused = 0
        return True


class Sources:
    """The buckets of all sources of one instance."""

    __slots__ = ("_buckets", "burst", "rate", "unread")

    def __init__(self, rate: float, burst: float) -> None:
        """`rate`: tokens per second of an address and port, 0 for no limit; `burst`: how many it may save."""
        self.rate = rate
        self.burst = burst
        self._buckets: dict[str | HostPort, Bucket] = {}
        self.unread: dict[HostPort, float] = {}
        """Sources that are not read, and until when."""

    def admits(self, source: HostPort, now: float) -> bool:
        """Charges a source for a request outside of a dialog; False: refuse it."""
        if not self.rate:
            return True
        own, address = self._bucket(source, self.burst, now), None
        if own.take(self.rate, self.burst, now):
            rate, burst = self.rate * ADDRESS_ROOM, self.burst * ADDRESS_ROOM
            address = self._bucket(network_of(source.host), burst, now)
            if address.take(rate, burst, now):
                return True
        if (own if address is None else address).refused > UNREAD_AFTER:
            self._leave_unread(source, now)
        return False

    def proved(self, source: HostPort) -> None:
        """A request of the source proved its user: it gets back what it and its challenge cost."""
        for key in (source, network_of(source.host)):
            bucket = self._buckets.get(key)
            if bucket is not None:
                bucket.tokens += 2.0

    def is_unread(self, data: bytes, source: HostPort, now: float) -> bool:
        """Whether a message is to be dropped as it is; ask only where `unread` is not empty."""
        until = self.unread.get(source)
        if until is None:
            return False
        if now >= until:
            del self.unread[source]
            return False
        return not data.startswith(READABLE)

    def _leave_unread(self, source: HostPort, now: float) -> None:
        if len(self.unread) >= SOURCES_MAX:
            self.unread.clear()
        self.unread[source] = now + UNREAD_S

    def _bucket(self, key: str | HostPort, burst: float, now: float) -> Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= SOURCES_MAX:
                del self._buckets[next(iter(self._buckets))]
            bucket = self._buckets[key] = Bucket(burst, now)
        return bucket


def network_of(host: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 one."""
    if ":" not in host:
        return host
    try:
        return str(IPv6Network((host.partition("%")[0], IPV6_PREFIX), strict=False))
    except ValueError:
        return host
