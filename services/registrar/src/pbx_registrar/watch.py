"""Changes of bindings, handed to whoever watches this replica."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from pbx.registrar.v1 import registrar_pb2 as pb
from pbx_registrar.bindings import Decision
from pbx_registrar.storage.redis import message_of

WAITING_MAX: Final = 10_000
"""Changes that a watcher has not taken. Beyond, it is cut off: it must list and watch anew."""


class Watchers:
    """The streams that watch."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[pb.WatchResponse | None]] = set()

    def tell(self, decision: Decision) -> None:
        """A REGISTER changed bindings."""
        if not self._queues:
            return
        new = {binding.key for binding in decision.added}
        for key, binding in decision.put.items():
            change = pb.CHANGE_ADDED if key in new else pb.CHANGE_REFRESHED
            self._tell(pb.WatchResponse(change=change, binding=message_of(binding)))
        for binding in decision.remove.values():
            self._tell(pb.WatchResponse(change=pb.CHANGE_REMOVED, binding=message_of(binding)))

    def _tell(self, change: pb.WatchResponse) -> None:
        for queue in tuple(self._queues):
            if queue.qsize() >= WAITING_MAX:
                self._queues.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(change)

    async def watch(self, aor: str) -> AsyncIterator[pb.WatchResponse]:
        """Changes of one address-of-record, or of all; ends where the watcher is too slow."""
        queue: asyncio.Queue[pb.WatchResponse | None] = asyncio.Queue()
        self._queues.add(queue)
        try:
            while (change := await queue.get()) is not None:
                if not aor or change.binding.aor == aor:
                    yield change
        finally:
            self._queues.discard(queue)
