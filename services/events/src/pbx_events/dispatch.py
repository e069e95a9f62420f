"""Reads the outbox with a consumer group and acknowledges only what is in the store.

What a reader that died had taken and not acknowledged is claimed by the others. The stream is trimmed behind what all
have acknowledged, never before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import redis.asyncio
from redis.exceptions import RedisError, ResponseError

from pbx_events.envelope import Envelope, decode
from pbx_events.storage.store import Store, Webhook
from pbx_runtime import logs
from pbx_runtime.errors import Unavailable

STREAM: Final = "evt:outbox"
GROUP: Final = "events"
BATCH: Final = 500
BLOCK_MS: Final = 1000
CLAIM_AFTER_MS: Final = 30_000
"""What a reader has held so long it will not acknowledge any more: it is dead, or its batch failed."""
GATHER_S: Final = 0.1
"""A batch waits this long for company: a commit (with its fsync) costs more than many events."""
RETRY_S: Final = 0.5

_log = logs.get_logger("dispatch")


class Dispatch:
    """The one loop from the outbox to the store."""

    def __init__(self, client: redis.asyncio.Redis, consumer: str, store: Store) -> None:
        self._redis = client
        self._consumer = consumer
        self._store = store
        self.hooks: list[Webhook] = []
        self.taken = 0
        self.unreadable = 0
        self.is_current = False
        """Whether the last read found nothing new: all that was written is stored."""
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
                await self._turn()
            except (RedisError, OSError, Unavailable) as error:
                if ready:
                    _log.warning("the outbox cannot be read", reason=str(error) or type(error).__name__)
                    self.on_state(False, type(error).__name__)
                ready = self.is_current = False
                await asyncio.sleep(RETRY_S)

    async def _create_group(self) -> None:
        try:
            await self._redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        # What this consumer had taken before it was restarted is taken first.
        while entries := await self._read("0"):
            await self._take(entries)

    async def _turn(self) -> None:
        entries = await self._read(">")
        self.is_current = not entries
        if not entries:
            await self._claim()
            return
        if len(entries) < BATCH:
            await asyncio.sleep(GATHER_S)
            entries += await self._read(">", block=False)
        await self._take(entries)

    async def _read(self, start: str, *, block: bool = True) -> list[tuple[bytes, dict[bytes, bytes]]]:
        wait = BLOCK_MS if block and start == ">" else None
        reply: Any = await self._redis.xreadgroup(GROUP, self._consumer, {STREAM: start}, count=BATCH, block=wait)
        if not reply:
            return []
        streams = reply.values() if isinstance(reply, dict) else (entries for _, entries in reply)
        found: list[tuple[bytes, dict[bytes, bytes]]] = []
        for entries in streams:
            if entries and isinstance(entries[0], list):
                entries = entries[0]
            found += entries
        return found

    async def _claim(self) -> None:
        _, entries, *_ = await self._redis.xautoclaim(
            STREAM, GROUP, self._consumer, CLAIM_AFTER_MS, start_id="0-0", count=BATCH
        )
        if entries:
            _log.info("events of another reader claimed", count=len(entries))
            await self._take(entries)

    async def take(self, batch: list[Envelope]) -> None:
        """Stores events that came another way than by the stream. Raises Unavailable."""
        await self._store.take(batch, self.hooks)
        self.on_batch(batch)

    async def _take(self, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        """Stores, then acknowledges, then forgets."""
        batch: list[Envelope] = []
        for _, fields in entries:
            event = decode(fields.get(b"e", b"")) if fields else None
            if event is not None:
                batch.append(event)
            else:
                self.unreadable += 1
        if batch:
            await self._store.take(batch, self.hooks)
        ids = [entry_id for entry_id, _ in entries]
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xack(STREAM, GROUP, *ids)
            pipe.xdel(STREAM, *ids)
            await pipe.execute()
        self.taken += len(batch)
        self.on_batch(batch)
