"""The reaper: closes the CDR of a call whose owner vanished, as `node_lost`.

A signaling instance keeps a lease in Redis (key `sig:inst:<instance>`) and says there which of its incarnations lives
(`sig:run:<instance>`); both are contracts that this service only reads. Once the incarnation that held a call has
been gone for GRACE_S, nobody will write the end of that call any more: the reaper does, through the same door as every
event, so that CDR and webhooks tell of it. An owner that speaks again after all corrects the CDR.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ulid import ULID

from pbx_events.cdr.builder import node_lost
from pbx_events.envelope import Envelope
from pbx_events.storage.store import Store
from pbx_runtime import logs
from pbx_runtime.errors import ServiceError
from pbx_runtime.redis_pipe import PipelinedRedis

LEASE: Final = "sig:inst:"
RUN: Final = "sig:run:"
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
        redis: PipelinedRedis,
        store: Store,
        take: Callable[[list[Envelope]], Awaitable[None]],
        is_current: Callable[[], bool],
        absence: Absence | None = None,
    ) -> None:
        self._redis = redis
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
            except ServiceError as error:
                self._absence.forget()
                _log.warning("the reaper cannot look", reason=error.detail)

    async def look(self, now: float) -> None:
        """Closes the calls of every instance that is gone."""
        if not self._is_current():
            self._absence.forget()
            return
        holding = await self._store.open_instances()
        for instance in self._absence.gone(holding, await self._alive(holding), now):
            await self._close(instance)

    async def _alive(self, holding: Sequence[str]) -> set[str]:
        """Of those that hold calls ("s1.m3x9": instance and incarnation) who lives."""
        if not holding:
            return set()
        names = [holder.partition(".") for holder in holding]
        keys = [key for name, _, _ in names for key in (LEASE + name, RUN + name)]
        found = await self._redis.submit("MGET", *keys)
        return {
            holder
            for holder, (_, _, run), lease, now in zip(holding, names, found[::2], found[1::2], strict=True)
            if lease is not None and (not run or now is None or now.decode() == run)
        }

    async def _close(self, instance: str) -> None:
        while lost := await self._store.open_calls(instance, BATCH):
            at_ms = int(time.time() * 1000)
            await self._take(
                [node_lost(call.last, event_id_of(call.last), at_ms, answered=call.answered) for call in lost]
            )
            self.closed += len(lost)
            for call in lost:
                _log.warning("call closed: its owner vanished", call_id=call.last.call_id, owner=instance)
