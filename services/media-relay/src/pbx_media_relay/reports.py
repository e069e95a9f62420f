"""What was measured of each call, written to the outbox once: `media.reported`, which the CDR is joined from.

A report leaves with others (`LINGER_S`) and is kept until Redis has it: one that Redis may have taken without saying so
is written again under the same id, and whoever reads the stream knows it. Redis may be away for as long as it likes;
beyond `WAITING_MAX` the oldest are given up, counted and told of, and their CDRs go without figures.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ulid import ULID

from pbx.events.v1 import events_pb2
from pbx.media.v1 import media_pb2
from pbx_media_relay.api.convert import statistics
from pbx_media_relay.civil import CivilTime
from pbx_media_relay.counters import StreamReport
from pbx_media_relay.outbox import OUTBOX_KEY
from pbx_media_relay.session import Call
from pbx_runtime import errors, logs
from pbx_runtime.trace import call_traceparent

LINGER_S: Final = 0.05
"""How long a report waits for others: a write and its reply wake this process and Redis once, however many it holds."""
BATCH: Final = 200
"""Reports in one write: some 100 KiB."""
RETRY_S: Final = 0.5
WAITING_MAX: Final = 20_000
"""Reports that wait for Redis, about half a KiB each: ten minutes of 30 calls a second. Beyond, the oldest go."""
_log = logs.get_logger("reports")


class Redis(Protocol):
    """What is used of `PipelinedRedis`."""

    def transaction(
        self,
        commands: Sequence[tuple[bytes | str | int | float, ...]],
        callback: Callable[[object, errors.ServiceError | None], None],
    ) -> object:
        """Send MULTI, the commands, EXEC."""


class Reports:
    """The reports of one relay on their way."""

    def __init__(self, redis: Redis, relay_id: str, source: str, civil: CivilTime) -> None:
        self.written = 0
        self.dropped = 0
        self._redis = redis
        self._relay_id = relay_id
        self._source = source
        self._civil = civil
        self._waiting: deque[bytes] = deque()
        self._writing: list[bytes] = []
        """Taken from there, in a write whose outcome is not known yet."""
        self._failing = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"<Reports of {self._relay_id}, {len(self)} waiting>"

    def __len__(self) -> int:
        """How many are not known to be written."""
        return len(self._waiting) + len(self._writing)

    def report(self, call: Call, reports: Sequence[StreamReport], now_ns: int) -> None:
        """Tell what flowed in a call that has given its slot back."""
        at_ms = self._civil.epoch_ms(now_ns)
        event = events_pb2.Event(id=str(ULID()), at_ms=at_ms, call_id=call.id, source=self._source)
        event.traceparent = call_traceparent(call.id, event.id)
        event.media_reported.CopyFrom(
            media_pb2.CallMedia(
                relay_id=self._relay_id,
                streams=[statistics(report, self._civil) for report in reports],
                held_ms=(now_ns - call.allocated_at_ns) // 1_000_000,
            )
        )
        self._waiting.append(event.SerializeToString())
        self._make_room()
        self._write_in(LINGER_S)

    async def flush(self, patience_s: float) -> bool:
        """Write what waits, now; False where it was not written in time."""
        deadline = self._loop.time() + patience_s
        self._write()
        while len(self) and self._loop.time() < deadline:  # noqa: ASYNC110 -- once, as the process ends; Redis decides
            await asyncio.sleep(0.01)
        return not len(self)

    def close(self) -> None:
        """Write nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write_in(self, delay_s: float) -> None:
        if self._timer is None and not self._writing:
            self._timer = self._loop.call_later(delay_s, self._write)

    def _write(self) -> None:
        self.close()
        if self._writing or not self._waiting:
            return
        self._writing = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        self._redis.transaction([("XADD", OUTBOX_KEY, "*", "e", event) for event in self._writing], self._wrote)

    def _wrote(self, reply: object, error: errors.ServiceError | None) -> None:
        batch, self._writing = self._writing, []
        if error is None:
            self.written += len(batch)
            if self._failing:
                _log.info("media figures are written again", waiting=len(self))
        else:
            self._waiting.extendleft(reversed(batch))
            self._make_room()
            if not self._failing:
                _log.warning("media figures wait for Redis", reason=error.detail)
        self._failing = error is not None
        if self._waiting:
            self._write_in(RETRY_S if self._failing else 0.0)

    def _make_room(self) -> None:
        while len(self._waiting) > WAITING_MAX:
            self._waiting.popleft()
            if not self.dropped:
                _log.error("media figures given up: their CDRs go without", waiting=WAITING_MAX)
            self.dropped += 1
