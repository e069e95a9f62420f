"""Deadlines by the hundred thousand: a wheel of 20 ms buckets in a dict, a heap of bucket numbers beside it.

Most deadlines are cancelled long before they are due, or linger for 32 s by the ten thousand; neither may
cost a heap operation of its own. A deadline fires in the bucket that ends at or after it: up to 20 ms late,
never early. Owners are whatever the caller likes (transactions, legs, calls); a tag tells an owner which of
its deadlines it was.
"""

from __future__ import annotations

import heapq
from math import ceil
from typing import Any, Final

BUCKETS_PER_S: Final = 50
"""Resolution. 20 ms are 4 % of T1, and at most 50 wake-ups a second."""

_SEQUENCE_BITS: Final = 40
"""A handle is bucket number and sequence number in one integer. 2^40 deadlines last 12 days at a million a second."""

NEVER: Final = 0
"""A handle that belongs to no deadline; cancelling it does nothing."""


class Deadlines:
    """Pairs of (owner, tag) that fall due. `len` is the number of those set, counted bucket by bucket."""

    __slots__ = ("_buckets", "_heap", "_sequence")

    def __init__(self) -> None:
        self._buckets: dict[int, dict[int, tuple[Any, int]]] = {}
        self._heap: list[int] = []
        """Numbers of buckets; those of buckets that were emptied stay until they are passed."""
        self._sequence = 0

    def schedule(self, at: float, owner: Any, tag: int) -> int:
        """Sets a deadline at `at` seconds of the caller's clock, and returns the handle for `cancel`."""
        number = ceil(at * BUCKETS_PER_S)
        if number / BUCKETS_PER_S < at:
            number += 1  # the product was rounded down; an owner that compares times must never be woken early
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = {}
            heapq.heappush(self._heap, number)
        self._sequence += 1
        handle = number << _SEQUENCE_BITS | self._sequence
        bucket[handle] = (owner, tag)
        return handle

    def cancel(self, handle: int) -> None:
        """Forgets a deadline, in O(1); one that has fired or was cancelled is fine."""
        number = handle >> _SEQUENCE_BITS
        bucket = self._buckets.get(number)
        if bucket is None or bucket.pop(handle, None) is None:
            return
        if not bucket:
            del self._buckets[number]

    def get(self, handle: int) -> tuple[float, int] | None:
        """When a deadline fires, to the resolution of this table, and its tag; None where it is not set (any more)."""
        number = handle >> _SEQUENCE_BITS
        found = self._buckets.get(number, {}).get(handle)
        return None if found is None else (number / BUCKETS_PER_S, found[1])

    @property
    def next_timeout(self) -> float | None:
        """When `expire` is due, in seconds of the caller's clock; None where nothing is set."""
        heap, buckets = self._heap, self._buckets
        while heap and heap[0] not in buckets:
            heapq.heappop(heap)
        return heap[0] / BUCKETS_PER_S if heap else None

    def expire(self, now: float) -> list[tuple[Any, int]]:
        """Takes out what is due at `now`: in order of buckets, and in the order of setting within one.

        The caller must be ready for a pair that it would have cancelled while handling an earlier one of the
        list.
        """
        due: list[tuple[Any, int]] = []
        heap, buckets = self._heap, self._buckets
        while heap and heap[0] / BUCKETS_PER_S <= now:
            bucket = buckets.pop(heapq.heappop(heap), None)
            if bucket is not None:
                due.extend(bucket.values())
        return due

    def __len__(self) -> int:
        """How many deadlines are set."""
        return sum(map(len, self._buckets.values()))

    def __repr__(self) -> str:
        """For a reader: how many, and when the next."""
        return f"<Deadlines {len(self)} set, next {self.next_timeout}>"
