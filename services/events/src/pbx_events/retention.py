"""Forgets what is older than it is to be kept: CDRs, events, the log of deliveries. One replica does it for all.

Rows go by the hundred, in transactions of their own with a pause between them, so that taking events waits for some
ten milliseconds at the most. Partitions by month would make it one statement on PostgreSQL; SQLite has none, and both
are to behave the same (docs/adr/0011).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from pbx_events.storage.store import Store
from pbx_runtime import logs
from pbx_runtime.clock import Clock, SystemClock
from pbx_runtime.errors import Unavailable

PERIOD_S: Final = 600.0
PAUSE_S: Final = 0.05
"""Between two batches."""
LEASE_MS: Final = 1_500_000
"""Longer than two periods: the replica that did it last does it again."""
DAY_MS: Final = 86_400_000

_log = logs.get_logger("retention")


@dataclass(frozen=True, slots=True)
class Days:
    """How long things are kept; 0: for ever."""

    cdrs: int
    events: int


class Retention:
    """The loop."""

    def __init__(self, store: Store, days: Days, holder: str, clock: Clock | None = None) -> None:
        self.forgotten: dict[str, int] = dict.fromkeys(("cdrs", "events", "deliveries", "attempts"), 0)
        """Rows, by what they were; for metrics."""
        self._store = store
        self._days = days
        self._holder = holder
        self._clock = clock or SystemClock()

    async def run(self) -> None:
        """Forgets until cancelled."""
        while True:
            try:
                async for _ in self.batches():
                    await asyncio.sleep(PAUSE_S)
            except Unavailable as error:
                _log.warning("nothing is forgotten: no store", reason=error.detail)
            await asyncio.sleep(PERIOD_S)

    async def batches(self) -> AsyncIterator[int]:
        """Forgets what is old, and yields the size of each batch after it. Raises Unavailable."""
        now_ms = self._clock.epoch_ms()
        if not await self._store.hold("retention", self._holder, now_ms, now_ms + LEASE_MS):
            return
        for what, forget, before_ms in await self._tasks(now_ms):
            while count := await forget(before_ms):
                self.forgotten[what] += count
                yield count

    async def _tasks(self, now_ms: int) -> list[tuple[str, Callable[[int], Awaitable[int]], int]]:
        """Deliveries before their events: an event stays as long as a delivery may need it."""
        tasks: list[tuple[str, Callable[[int], Awaitable[int]], int]] = []
        if self._days.cdrs:
            tasks.append(("cdrs", self._store.forget_cdrs, now_ms - self._days.cdrs * DAY_MS))
        if self._days.events:
            before_ms = now_ms - self._days.events * DAY_MS
            hooks = await self._store.list_webhooks()
            tasks.extend(("deliveries", _of(self._store, hook.id), before_ms) for hook in hooks)
            tasks.append(("attempts", self._store.forget_attempts, before_ms))
            tasks.append(("events", self._store.forget_events, before_ms))
        return tasks


def _of(store: Store, webhook_id: str) -> Callable[[int], Awaitable[int]]:
    return lambda before_ms: store.forget_deliveries(webhook_id, before_ms)
