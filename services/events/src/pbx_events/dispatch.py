"""Reads the outbox with a consumer group and acknowledges only what is in the store.

Of several replicas one reads, by a lease in SQL: two would store the events of a call in any order (and write
transactions take turns anyhow). Whoever gets the lease first takes what others had read and not acknowledged, so that
events are stored in the order of the stream also where a reader died. The stream is trimmed behind what is
acknowledged, never before it.

Theory of operation. An idle reader waits in one blocking read. Once there is work it reads every GATHER_S: one
read, one transaction in SQL, one acknowledgement that leaves with the next read, however many events that are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from pbx_events.envelope import Envelope, decode
from pbx_events.storage.store import Store
from pbx_events.storage.subscription import Webhook
from pbx_runtime import logs
from pbx_runtime.clock import Clock, SystemClock
from pbx_runtime.errors import InvalidArgument, ServiceError
from pbx_runtime.redis_pipe import PipelinedRedis, RedisError

STREAM: Final = "evt:outbox"
GROUP: Final = "events"
BATCH: Final = 1000
"""Events of one transaction: some MiB at the most."""
BLOCK_MS: Final = 2000
READ_S: Final = 5.0
"""Longer than a read that blocks: no answer by then means that Redis hangs."""
CLAIM_AFTER_MS: Final = 30_000
"""What another reader has held so long it will not acknowledge any more: it lost the lease, and died."""
UNSTORABLE: Final = "evt:unstorable"
"""Stream of events that SQL refuses for what is in them."""
UNSTORABLE_MAX: Final = 10_000
LEASE: Final = "outbox"
LEASE_MS: Final = 20_000
LEASE_MARGIN_MS: Final = 10_000
"""A turn needs so much of a lease: READ_S, and a transaction."""
STANDBY_S: Final = 2.0
"""Between two looks of a replica whether the lease is free."""
GATHER_S: Final = 0.1
"""Between two reads: a commit (with its fsync) costs more than many events."""
RETRY_S: Final = 0.5

Entries = list[tuple[bytes, bytes]]
"""Ids of the stream, and the event of each."""

_log = logs.get_logger("dispatch")


class Dispatch:
    """The one loop from the outbox to the store. `redis` is this loop's own: its reads block."""

    def __init__(self, redis: PipelinedRedis, consumer: str, store: Store, clock: Clock | None = None) -> None:
        self._redis = redis
        self._consumer = consumer
        self._store = store
        self._clock = clock or SystemClock()
        self._loop = asyncio.get_running_loop()
        self._leased_until_ms = 0
        self.is_reader = False
        """Whether this replica reads; what the reader before it had read is stored."""
        self.hooks: list[Webhook] = []
        self.taken = 0
        self.unreadable = 0
        self.unstorable = 0
        self.is_current = False
        """Whether the last read came to the end of the stream: all that was written before it is stored."""
        self.on_batch: Callable[[list[Envelope]], None] = lambda batch: None
        self.on_state: Callable[[bool, str], None] = lambda ok, detail: None

    async def run(self) -> None:
        """Reads until cancelled; errors of Redis or SQL are waited out."""
        ready = False
        while True:
            try:
                if not ready:
                    await self._create_group()
                    ready = True
                    self.on_state(True, "")
                if await self._may_read():
                    await self._turn()
                else:
                    self._stand_by()
                    await asyncio.sleep(STANDBY_S)
            except ServiceError as error:
                if ready:
                    _log.warning("the outbox cannot be read", reason=error.detail)
                    self.on_state(False, type(error).__name__)
                ready = False
                self._stand_by()
                await asyncio.sleep(RETRY_S)

    def _stand_by(self) -> None:
        self.is_reader = self.is_current = False

    async def _create_group(self) -> None:
        try:
            await self._redis.submit("XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM")
        except RedisError as error:
            if error.code != "BUSYGROUP":
                raise

    async def _may_read(self) -> bool:
        """Whether this replica has the lease, and what was read before by whomever is stored."""
        if not self._store.is_sqlite and not await self._has_lease():
            return False
        if not self.is_reader:
            await self._take_over(0)
            self.is_reader = True
        return True

    async def _has_lease(self) -> bool:
        now_ms = self._clock.epoch_ms()
        if self._leased_until_ms - now_ms < LEASE_MARGIN_MS:
            until_ms = now_ms + LEASE_MS
            if not await self._store.hold(LEASE, self._consumer, now_ms, until_ms):
                return False
            if self._leased_until_ms < now_ms:
                self._stand_by()  # somebody else may have read meanwhile
            self._leased_until_ms = until_ms
            if self.is_reader:
                await self._take_over(CLAIM_AFTER_MS)
        return self._leased_until_ms - self._clock.epoch_ms() >= LEASE_MARGIN_MS

    async def _turn(self) -> None:
        started = self._loop.time()
        entries = await self._read(">", block_ms=BLOCK_MS if self.is_current else 0)
        if entries:
            await self._take(entries)
        self.is_current = len(entries) < BATCH
        if entries and len(entries) < BATCH:
            await asyncio.sleep(started + GATHER_S - self._loop.time())

    async def _read(self, start: str, *, block_ms: int = 0) -> Entries:
        wait = ("BLOCK", block_ms) if block_ms else ()
        group = ("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", BATCH)
        reply = await self._redis.submit(*group, *wait, "STREAMS", STREAM, start, timeout_s=READ_S)
        return _entries(reply[0][1]) if reply else []

    async def _take_over(self, idle_ms: int) -> None:
        """What was read so long ago and not acknowledged, by this consumer before or by others, oldest first."""
        start, count = b"0-0", 0
        while True:
            asked = ("XAUTOCLAIM", STREAM, GROUP, self._consumer, idle_ms, start, "COUNT", BATCH)
            start, found, *_ = await self._redis.submit(*asked, timeout_s=READ_S)
            if entries := _entries(found):
                await self._take(entries)
                count += len(entries)
            if start == b"0-0":
                break
        if count or not idle_ms:
            _log.info("reading the outbox", taken_over=count)

    async def take(self, batch: list[Envelope]) -> None:
        """Stores events that came another way than by the stream. Raises Unavailable."""
        await self._store.take(batch, self.hooks)
        self.on_batch(batch)

    async def _store_all(self, batch: list[Envelope]) -> None:
        """Stores a batch; what SQL refuses for its content is set aside, and stops nothing else."""
        try:
            await self._store.take(batch, self.hooks)
            self.taken += len(batch)
        except InvalidArgument as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._store_all(batch[:middle])
                await self._store_all(batch[middle:])
                return
            (event,) = batch
            text = "an event cannot be stored, and is set aside"
            _log.error(text, event_id=event.id, call_id=event.call_id or None, reason=error.detail)
            kept = ("XADD", UNSTORABLE, "MAXLEN", "~", UNSTORABLE_MAX, "*", "e", event.raw)
            await self._redis.submit(*kept, timeout_s=READ_S)
            self.unstorable += 1

    async def _take(self, entries: Entries) -> None:
        """Stores, then acknowledges, then forgets."""
        batch = [event for _, raw in entries if (event := decode(raw)) is not None]
        self.unreadable += len(entries) - len(batch)
        if batch:
            await self._store_all(batch)
            self.on_batch(batch)
        ids = [entry_id for entry_id, _ in entries]
        # Not waited for: it leaves before the next read, and where it fails that read fails as well. What is read
        # again then is known by its id.
        self._redis.transaction([("XACK", STREAM, GROUP, *ids), ("XDEL", STREAM, *ids)], _acknowledged)


def _acknowledged(_: Any, error: ServiceError | None) -> None:
    if error is not None:
        _log.warning("events stay in the outbox", reason=error.detail)


def _entries(found: list[Any]) -> Entries:
    """Entries as (id, event); one that was deleted meanwhile has no fields, or is nil (Redis 6.2's XAUTOCLAIM)."""
    return [(entry[0], _event_in(entry[1] or ())) for entry in found if entry is not None]


def _event_in(fields: Any) -> bytes:
    pairs = dict(zip(fields[::2], fields[1::2], strict=False))
    return bytes(pairs.get(b"e", b""))
