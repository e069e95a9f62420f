"""When a call's media has been silent for too long. Pure: a heap of moments at which to look, no timer per
packet.

A call is looked at once per timeout while it talks; reported once per silence, and again only after media
came back and went once more.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

DEAD_MIN: Final = 64
"""Moments of calls that are over, below which it is not worth while to look for them."""


class Silence(NamedTuple):
    """A call from which nothing came."""

    call_id: str
    silent_ns: int


class _Watched:
    __slots__ = ("number", "reported", "since_ns", "timeout_ns")

    def __init__(self, timeout_ns: int, since_ns: int, number: int) -> None:
        self.timeout_ns = timeout_ns
        self.since_ns = since_ns
        self.number = number
        self.reported = False


class SilenceWatch:
    """The calls watched."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str, int]] = []
        self._watched: dict[str, _Watched] = {}
        self._number = 0

    def __repr__(self) -> str:
        return f"<SilenceWatch {len(self._watched)} calls>"

    def watch(self, call_id: str, timeout_ns: int, now_ns: int) -> None:
        """Look after a call from now on; the silence before does not count. A timeout of 0 watches
        nothing."""
        if not timeout_ns:
            self.forget(call_id)
            return
        self._number += 1
        self._watched[call_id] = _Watched(timeout_ns, now_ns, self._number)
        heapq.heappush(self._heap, (now_ns + timeout_ns, call_id, self._number))
        if len(self._heap) > 2 * len(self._watched) + DEAD_MIN:
            self._sweep()

    def _sweep(self) -> None:
        """Takes out the moments of calls that are over: a timeout may be hours, and calls short."""
        self._heap = [each for each in self._heap if self._is_current(each[1], each[2])]
        heapq.heapify(self._heap)

    def _is_current(self, call_id: str, number: int) -> bool:
        watched = self._watched.get(call_id)
        return watched is not None and watched.number == number

    def forget(self, call_id: str) -> None:
        """The call is over, or on hold."""
        self._watched.pop(call_id, None)

    def is_watched(self, call_id: str) -> bool:
        """Whether the call is looked after."""
        return call_id in self._watched

    def due(self, now_ns: int, last_packet_ns: Callable[[str], int]) -> Iterator[Silence]:
        """The calls that have now been silent for their timeout, by the last packet that `last_packet_ns`
        knows."""
        while self._heap and self._heap[0][0] <= now_ns:
            _, call_id, number = heapq.heappop(self._heap)
            watched = self._watched.get(call_id)
            if watched is None or watched.number != number:
                continue
            last_ns = last_packet_ns(call_id)
            if watched.reported and last_ns <= watched.since_ns:
                look_ns = now_ns + watched.timeout_ns
            else:
                look_ns = max(watched.since_ns, last_ns) + watched.timeout_ns
                watched.reported = look_ns <= now_ns
                if watched.reported:
                    yield Silence(call_id, now_ns - look_ns + watched.timeout_ns)
                    watched.since_ns, look_ns = now_ns, now_ns + watched.timeout_ns
            heapq.heappush(self._heap, (look_ns, call_id, number))
