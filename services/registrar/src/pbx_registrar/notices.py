"""What replicas and watchers are told at once, over Redis channels: changed accounts, changed bindings.

Told once and kept nowhere: whoever was away reads the state anew. So the cache of accounts doubts all of its entries
whenever the connection stood anew, and a watcher's stream ends where its connection does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

from pbx_runtime import errors, logs
from pbx_runtime.backoff import Backoff
from pbx_runtime.redis_pool import map_redis_errors, open_redis

ACCOUNTS_CHANNEL: Final = "reg:accounts"
POLL_S: Final = 5.0
"""Longest silence before the connection is asked for a sign of life."""
_log = logs.get_logger("notices")


async def subscribe(url: str, channel: str) -> AsyncIterator[bytes | None]:
    """Messages of a channel; None once the subscription stands. Raises Unavailable where the connection ends."""
    client = open_redis(url, command_s=None)
    try:
        with map_redis_errors():
            subscription = client.pubsub()
            await subscription.subscribe(channel)
        yield None
        while True:
            with map_redis_errors():
                message: dict[str, Any] | None = await subscription.get_message(
                    ignore_subscribe_messages=True, timeout=POLL_S
                )
                if message is None:
                    await subscription.ping()
            if message is not None and message["type"] == "message":
                yield message["data"]
    finally:
        await client.aclose()


class Cache(Protocol):
    """What must know of changed accounts."""

    def forget(self, aor: str) -> None:
        """This account changed."""

    def doubt_all(self) -> None:
        """Any account may have changed."""


async def follow_accounts(url: str, cache: Cache) -> None:
    """Tell the cache of changed accounts until cancelled."""
    backoff = Backoff(first_s=0.1, most_s=2.0)
    while True:
        try:
            async for aor in subscribe(url, ACCOUNTS_CHANNEL):
                if aor is None:
                    backoff.reset()
                    cache.doubt_all()
                else:
                    cache.forget(aor.decode())
        except errors.ServiceError as error:
            _log.debug("notices of accounts interrupted", reason=error.detail)
        cache.doubt_all()
        await asyncio.sleep(backoff.next())
