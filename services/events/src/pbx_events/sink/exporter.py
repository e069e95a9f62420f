"""Takes CDRs from the queue of a sink to the sink: in order, in batches, as long as it takes.

Theory of operation. The row of a queue is written in the transaction of its CDR and removed after the sink has said
that it has it: a crash in between repeats a batch, nothing is lost. Of several replicas one exports, by a lease. A
sink that fails is tried again after pauses that double up to a minute; it delays nobody but itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from pbx_events.sink.base import Sink, SinkError
from pbx_events.storage.exports import Export
from pbx_events.storage.store import Store
from pbx_runtime import logs
from pbx_runtime.backoff import Backoff
from pbx_runtime.clock import Clock, SystemClock
from pbx_runtime.errors import Unavailable

BATCH: Final = 500
"""CDRs of one batch: about half a MiB."""
IDLE_S: Final = 1.0
"""Between two looks at an empty queue."""
LEASE_MS: Final = 90_000
LEASE_MARGIN_MS: Final = 45_000
"""A batch needs so much of a lease at the most."""

_log = logs.get_logger("sink")


class Exporter:
    """One sink's."""

    def __init__(self, store: Store, sink: Sink, holder: str, clock: Clock | None = None) -> None:
        self.sink = sink
        self.exported = 0
        self.failures = 0
        self.backlog = 0
        """As counted last."""
        self._store = store
        self._holder = holder
        self._clock = clock or SystemClock()
        self._leased_until_ms = 0
        self._pauses = Backoff(first_s=1.0, most_s=60.0)
        self._is_down = False
        self._batch: list[Export] = []
        """What is offered to the sink until it takes it: a batch that is sent again is the same."""

    async def run(self) -> None:
        """Exports until cancelled."""
        while True:
            pause_s = await self.turn()
            if pause_s:
                await asyncio.sleep(pause_s)

    async def close(self) -> None:
        """Lets go of the sink."""
        with contextlib.suppress(SinkError):
            await self.sink.close()

    async def count(self) -> None:
        """Counts what waits. Raises Unavailable."""
        self.backlog = await self._store.export_backlog(self.sink.name)

    async def turn(self) -> float:
        """Exports a batch. Returns seconds until the next turn: 0 while there is more."""
        try:
            if not await self._has_lease():
                self._batch = []  # another replica exports them
                return LEASE_MARGIN_MS / 1000
            batch = self._batch = self._batch or await self._store.next_exports(self.sink.name, BATCH)
            if not batch:
                return IDLE_S
            await self.sink.put(f"{self.sink.name}-{batch[0].id}-{batch[-1].id}", [line_of(each) for each in batch])
            await self._store.exported(self.sink.name, batch)
        except Unavailable as error:
            _log.warning("exports wait for the store", sink=self.sink.name, reason=error.detail)
            return IDLE_S
        except SinkError as error:
            return self._failed(str(error))
        self._succeeded(len(batch))
        return 0.0 if len(batch) == BATCH else IDLE_S

    def _failed(self, reason: str) -> float:
        self.failures += 1
        pause_s = self._pauses.next()
        if not self._is_down:
            _log.error("the sink takes nothing; CDRs wait", sink=self.sink.name, reason=reason, again_s=pause_s)
        self._is_down = True
        return pause_s

    def _succeeded(self, count: int) -> None:
        self.exported += count
        self._batch = []
        self._pauses.reset()
        if self._is_down:
            _log.info("the sink takes CDRs again", sink=self.sink.name)
        self._is_down = False

    async def _has_lease(self) -> bool:
        now_ms = self._clock.epoch_ms()
        if self._leased_until_ms - now_ms < LEASE_MARGIN_MS:
            until_ms = now_ms + LEASE_MS
            if not await self._store.hold(f"sink {self.sink.name}", self._holder, now_ms, until_ms):
                return False
            self._leased_until_ms = until_ms
        return True


def line_of(export: Export) -> bytes:
    """The CDR with its revision, as the API shows it."""
    return f'{export.document[:-1]},"revision":{export.revision}}}'.encode()
