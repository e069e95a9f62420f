"""Fairness between sources: what one of them may ask for outside of dialogs before others would suffer. Pure.

Each such request costs its source a token, and one that proves its user gets them back: a busy trunk with the right
password is never slowed down, a flood of OPTIONS, unauthenticated INVITE or REGISTER, or garbage soon is. An empty
bucket means 503 with Retry-After, without state; a source that goes on all the same is not even read for a while.
Requests inside dialogs that there are cost nothing here. There are two buckets for each: of the address and port, and
of the address (IPv6: of its /64) with more room, so that one phone behind a NAT does not silence the office.

Anybody can write a source address into a datagram. So requests with a nonce that was sent to their source have buckets
of their own, which nobody else's datagrams empty; what empties them are wrong passwords. And an address and port that
proved a user lately has its own bucket alone: floods in the name of its address do not keep it from being challenged.
"""

from __future__ import annotations

from typing import Final

from pbx_signaling.bucket import Bucket
from pbx_sip.address import HostPort, network_of

SOURCES_MAX: Final = 20_000
"""Buckets kept. Threat: spoofed sources filling memory; the oldest is dropped for a new one, and is full again."""
ADDRESS_ROOM: Final = 5.0
"""How much more an address may than each of its ports."""
ANSWERS_PER_S: Final = 10.0
"""Wrong answers to challenges that a port may send, per second, once its burst is used up. Threat: guessing, and the
registrar's work for it. Right ones are paid back."""
ANSWERS_BURST: Final = 500.0
"""How many at once: what is on its way to the registrar and not judged yet counts too, and it may take some seconds."""
CARRIED_ROOM: Final = 5.0
"""How much more may be carried to other replicas for an address and port: requests of their calls among it."""
KNOWN_S: Final = 7_200.0
"""How long a source that proved a user counts as one that did: the longest registration."""
UNREAD_S: Final = 0.25
"""How long a source that goes on is not read: its next requests cost some microseconds each."""
UNREAD_AFTER: Final = 20
"""Refusals in a row after which that happens: who waits as Retry-After says never gets there."""
READABLE: Final = (b"ACK ", b"BYE ", b"CANCEL ", b"PRACK ", b"UPDATE ", b"INFO ", b"SIP/2.0 ")
"""What is read even so: it belongs to calls that there are."""


Buckets = dict[str | HostPort, Bucket]
"""By address and port, and by network."""


class Sources:
    """The buckets of all sources of one instance."""

    __slots__ = ("_answers", "_carried", "_known", "_strangers", "burst", "rate", "unread")

    def __init__(self, rate: float, burst: float) -> None:
        """`rate`: tokens per second of an address and port, 0 for no limit; `burst`: how many it may save."""
        self.rate = rate
        self.burst = burst
        self._strangers: Buckets = {}
        self._answers: Buckets = {}
        self._carried: Buckets = {}
        self._known: dict[HostPort, float] = {}
        """Sources that proved a user, and until when that counts."""
        self.unread: dict[HostPort, float] = {}
        """Sources that are not read, and until when."""

    def admits(self, source: HostPort, now: float, *, answers: bool = False) -> bool:
        """Charges a source for a request outside of a dialog; False: refuse it.

        `answers`: it holds a nonce that was sent to the source.
        """
        if not self.rate:
            return True
        table, rate, burst = self._strangers, self.rate, self.burst
        if answers:
            table, rate, burst = self._answers, min(rate, ANSWERS_PER_S), min(burst, ANSWERS_BURST)
        own, address = _bucket(table, source, burst, now), None
        if own.take(rate, burst, now):
            if self.is_known(source, now):
                return True
            rate, burst = rate * ADDRESS_ROOM, burst * ADDRESS_ROOM
            address = _bucket(table, network_of(source.host), burst, now)
            if address.take(rate, burst, now):
                return True
        if not answers and (own if address is None else address).refused > UNREAD_AFTER:
            self._leave_unread(source, now)
        return False

    def carries(self, source: HostPort, now: float) -> bool:
        """Charges a source for a message that seems to be another replica's; False: drop it."""
        rate, burst = self.rate * CARRIED_ROOM, self.burst * CARRIED_ROOM
        return not rate or _bucket(self._carried, source, burst, now).take(rate, burst, now)

    def proved(self, source: HostPort, now: float) -> None:
        """A request of the source proved its user: it gets back what it and its challenge cost."""
        for table in (self._strangers, self._answers):
            for key in (source, network_of(source.host)):
                bucket = table.get(key)
                if bucket is not None:
                    bucket.tokens += 1.0
        known = self._known
        known.pop(source, None)
        if len(known) >= SOURCES_MAX:
            del known[next(iter(known))]
        known[source] = now + KNOWN_S

    def is_known(self, source: HostPort, now: float) -> bool:
        """Whether the source proved a user lately."""
        return self._known.get(source, 0.0) > now

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


def _bucket(table: Buckets, key: str | HostPort, burst: float, now: float) -> Bucket:
    bucket = table.get(key)
    if bucket is None:
        if len(table) >= SOURCES_MAX:
            del table[next(iter(table))]
        bucket = table[key] = Bucket(burst, now)
    return bucket
