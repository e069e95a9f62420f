"""Deadlines by the hundred thousand: buckets of 20 ms, a heap of bucket numbers, O(1) to set and to cancel.

Most deadlines are cancelled or linger for 32 s; neither may cost a heap operation of its own. A deadline fires in the
bucket that ends after it: up to 20 ms late, never early.
"""

from __future__ import annotations

import heapq
from typing import Any, Final

BUCKETS_PER_S: Final = 50


class Deadlines:
    """(owner, tag) pairs that fall due."""

    __slots__ = ("_buckets", "_count", "_heap")

    def __init__(self) -> None:
        self._buckets: dict[int, dict[int, tuple[Any, int]]] = {}
        self._heap: list[int] = []
        self._count = 0

    def schedule(self, at: float, owner: Any, tag: int) -> tuple[int, int]:
        """Sets a deadline in seconds of the caller's clock; the handle goes to `cancel`."""
        number = int(at * BUCKETS_PER_S) + 1
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = {}
            heapq.heappush(self._heap, number)
        self._count += 1
        bucket[self._count] = (owner, tag)
        return number, self._count

    def cancel(self, handle: tuple[int, int]) -> None:
        """Forgets a deadline; one that has fired is fine."""
        bucket = self._buckets.get(handle[0])
        if bucket is not None:
            bucket.pop(handle[1], None)

    @property
    def next_timeout(self) -> float | None:
        """When `expire` is due; None without deadlines. Buckets that were emptied are passed over."""
        heap, buckets = self._heap, self._buckets
        while heap and not buckets[heap[0]]:
            del buckets[heapq.heappop(heap)]
        return heap[0] / BUCKETS_PER_S if heap else None

    def expire(self, now: float) -> list[tuple[Any, int]]:
        """The deadlines of all buckets that ended by `now`, in order of bucket and of setting."""
        due: list[tuple[Any, int]] = []
        heap = self._heap
        while heap and heap[0] / BUCKETS_PER_S <= now:
            due.extend(self._buckets.pop(heapq.heappop(heap)).values())
        return due

    def __len__(self) -> int:
        """How many deadlines are set."""
        return sum(map(len, self._buckets.values()))
