"""Events as they come, as server-sent events (HTML standard, section 9.2); resumed by Last-Event-ID.

Read from the store, so that any replica can go on with a feed. An event whose id is older than the last one sent (its
writer was slow) does not come here: consumers that must miss nothing use a webhook.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Final

import msgspec

from pbx_events.storage.archive import EventFilter
from pbx_events.storage.store import Store
from pbx_events.webhook.cloudevent import cloud_event
from pbx_runtime.errors import Unavailable

POLL_S: Final = 0.5
KEEP_ALIVE_S: Final = 15.0
"""A comment this often keeps proxies from closing a silent feed."""
PAGE: Final = 200
FIRST_ID: Final = "0" * 26
FEEDS_MAX: Final = 100
"""Feeds of a replica: each asks the store twice a second."""
MEDIA_TYPE: Final = "text/event-stream"


class Feeds:
    """The feeds that are open, no more than `most`."""

    def __init__(self, most: int = FEEDS_MAX) -> None:
        self.open = 0
        self._most = most

    def counted(self, stream: AsyncGenerator[str, None]) -> AsyncGenerator[str]:
        """The same feed; it counts while it is read. Raises Unavailable where there are too many."""
        if self.open >= self._most:
            raise Unavailable(f"{self._most} clients follow the feed already; ask another replica, or later")
        return self._count(stream)

    async def _count(self, stream: AsyncGenerator[str, None]) -> AsyncGenerator[str]:
        self.open += 1
        try:
            async with aclosing(stream):
                async for text in stream:
                    yield text
        finally:
            self.open -= 1


async def feed(store: Store, last_id: str, asked: EventFilter, stopping: asyncio.Event) -> AsyncGenerator[str, None]:
    """Events after `last_id`, or from now on where it is empty, until the client goes away or this process stops."""
    last = last_id or await _newest(store)
    spoke_at = time.monotonic()
    yield "retry: 2000\n\n"
    while not stopping.is_set():
        try:
            found = await store.in_context(await store.list_events(replace(asked, before="", after=last, limit=PAGE)))
        except Unavailable:
            found = []
        for event in found:
            last = event.id
            data = msgspec.json.encode(cloud_event(event)).decode()
            yield f"id: {event.id}\nevent: {event.type}\ndata: {data}\n\n"
        if found:
            spoke_at = time.monotonic()
            continue
        if time.monotonic() - spoke_at >= KEEP_ALIVE_S:
            spoke_at = time.monotonic()
            yield ": still here\n\n"
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), POLL_S)


async def _newest(store: Store) -> str:
    newest = await store.list_events(EventFilter(limit=1))
    return newest[0].id if newest else FIRST_ID
