"""Which signaling instances are alive, so that a vanished one leaks no slot for longer than a minute. Pure.

An instance lives while it has a stream; after the last one broke, and for instances that use unary calls
alone, for a lease that every word of theirs renews. (The relay's own lease in Redis is `announce.py`.)
"""

from __future__ import annotations

from typing import Final

SECOND_NS: Final = 1_000_000_000
LEASE_DEFAULT_S: Final = 30
LEASE_MAX_S: Final = 60
"""The contract's promise: nothing leaks for longer than a minute."""


class Leases:
    """The instances that own calls."""

    def __init__(self) -> None:
        self._streams: dict[str, int] = {}
        self._lease_ns: dict[str, int] = {}
        self._until_ns: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Leases {len(self._streams)} connected, {len(self._until_ns)} running out>"

    def connect(self, instance_id: str, lease_s: int) -> None:
        """A stream of the instance stands; `lease_s` 0 is the default, more than the maximum is cut."""
        self._streams[instance_id] = self._streams.get(instance_id, 0) + 1
        self._lease_ns[instance_id] = min(lease_s or LEASE_DEFAULT_S, LEASE_MAX_S) * SECOND_NS
        self._until_ns.pop(instance_id, None)

    def disconnect(self, instance_id: str, now_ns: int) -> None:
        """A stream of the instance ended; with the last one its lease begins to run."""
        left = self._streams.get(instance_id, 1) - 1
        if left:
            self._streams[instance_id] = left
            return
        self._streams.pop(instance_id, None)
        self.touch(instance_id, now_ns)

    def touch(self, instance_id: str, now_ns: int) -> None:
        """The instance said something without a stream."""
        if instance_id not in self._streams:
            self._until_ns[instance_id] = now_ns + self._lease_ns.get(instance_id, LEASE_MAX_S * SECOND_NS)

    def expire(self, now_ns: int) -> list[str]:
        """Forget and answer the instances whose lease ran out: their calls are to be released."""
        gone = [instance_id for instance_id, until_ns in self._until_ns.items() if until_ns <= now_ns]
        for instance_id in gone:
            del self._until_ns[instance_id]
            self._lease_ns.pop(instance_id, None)
        return gone

    def is_connected(self, instance_id: str) -> bool:
        """Whether the instance has a stream."""
        return instance_id in self._streams

    def connected(self) -> int:
        """How many instances have a stream."""
        return len(self._streams)
