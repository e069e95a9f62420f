"""The reaper: closes the CDR of a call whose owner vanished, as `node_lost`.

A signaling instance keeps a lease in Redis (key `sig:inst:<instance>`, a contract that this service only reads). Once
it has been gone for GRACE_S, nobody will write the end of its calls any more: the reaper does, through the same door
as every event, so that CDR and webhooks tell of it. An owner that speaks again after all corrects the CDR.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import redis.asyncio
from redis.exceptions import RedisError
from ulid import ULID

from pbx_events.cdr.builder import node_lost
from pbx_events.envelope import Envelope
from pbx_events.storage.store import Store
from pbx_runtime import logs
from pbx_runtime.errors import Unavailable

LEASE: Final = "sig:inst:"
PERIOD_S: Final = 5.0
GRACE_S: Final = 45.0
"""Longer than a lease and than a restart of Redis takes, within the minute in which a CDR is expected."""
BATCH: Final = 500
"""Calls closed in one transaction."""

_log = logs.get_logger("reaper")


def event_id_of(last: Envelope) -> str:
    """The same for every replica that closes this call, so that it is closed once: a ULID made of its last event."""
    noise = hashlib.sha256(f"node_lost {last.id}".encode()).digest()[:10]
    return str(ULID.from_bytes(last.at_ms.to_bytes(6, "big") + noise))


class Absence:
    """Since when instances are gone. Pure: `now` is an argument, in seconds of a monotonic clock."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._since: dict[str, float] = {}

    def gone(self, holding: Sequence[str], alive: set[str], now: float) -> list[str]:
        """Of the instances that hold calls, those that have been gone for the whole grace."""
        missing = [name for name in holding if name not in alive]
        self._since = {name: self._since.get(name, now) for name in missing}
        return [name for name, since in self._since.items() if now - since >= self._grace_s]

    def forget(self) -> None:
        """Nothing is known any more: what could not be asked counts as alive."""
        self._since.clear()


class Reaper:
    """The loop. `is_current` says whether the outbox has been read to its end."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        store: Store,
        take: Callable[[list[Envelope]], Awaitable[None]],
        is_current: Callable[[], bool],
        absence: Absence | None = None,
    ) -> None:
        self._redis = client
        self._store = store
        self._take = take
        self._is_current = is_current
        self._absence = absence or Absence()
        self.closed = 0

    async def run(self) -> None:
        """Looks again and again until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                await self.look(time.monotonic())
            except (RedisError, OSError, Unavailable) as error:
                self._absence.forget()
                _log.warning("the reaper cannot look", reason=str(error) or type(error).__name__)

    async def look(self, now: float) -> None:
        """Closes the calls of every instance that is gone."""
        if not self._is_current():
            self._absence.forget()
            return
        holding = await self._store.open_instances()
        for instance in self._absence.gone(holding, await self._alive(holding), now):
            await self._close(instance)

    async def _alive(self, instances: Sequence[str]) -> set[str]:
        if not instances:
            return set()
        leases = await self._redis.mget([LEASE + name for name in instances])
        return {name for name, lease in zip(instances, leases, strict=True) if lease is not None}

    async def _close(self, instance: str) -> None:
        while lost := await self._store.open_calls(instance, BATCH):
            at_ms = int(time.time() * 1000)
            await self._take([node_lost(last, event_id_of(last), at_ms) for last in lost])
            self.closed += len(lost)
            _log.warning("calls closed whose owner vanished", instance=instance, count=len(lost))
