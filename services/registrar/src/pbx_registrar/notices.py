"""What replicas and watchers are told at once, over Redis channels: changed accounts, changed bindings.

Told once and kept nowhere: whoever was away reads the state anew. So the cache of accounts doubts all of its entries
whenever the connection stood anew, followers' knowledge is renewed then, and a watcher's stream ends where its
connection does. Changes of bindings are numbered by all replicas together (`revision`): a number that is missing means
that one was missed, and counts as a connection that broke.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Protocol

from pbx_registrar.followers import Followers
from pbx_registrar.storage.redis import CHANGES_CHANNEL
from pbx_runtime import errors, logs
from pbx_runtime.backoff import Backoff
from pbx_runtime.redis_pool import map_redis_errors, open_redis
from pbx_runtime.redis_subscription import listen

ACCOUNTS_CHANNEL: Final = "reg:accounts"
POLL_S: Final = 5.0
"""Longest silence before a watcher's connection is asked for a sign of life."""
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


class Notices:
    """Tells cache and followers of every change, whichever replica made it."""

    def __init__(self, cache: Cache, followers: Followers, read: Callable[[bytes], tuple[str, int]]) -> None:
        """`read`: the address-of-record and the revision of a changed binding's notice."""
        self._cache = cache
        self._followers = followers
        self._read = read
        self._revision = 0
        """Of the notice before; 0 where it is not known."""
        self.gaps = 0
        """Notices that were missed."""

    async def run(self, url: str) -> None:
        """Listens until cancelled."""
        backoff = Backoff(first_s=0.1, most_s=2.0)
        while True:
            try:
                await listen(url, (CHANGES_CHANNEL, ACCOUNTS_CHANNEL), self.received, self.stand)
            except errors.ServiceError as error:
                if self.broken():
                    backoff.reset()
                _log.debug("notices interrupted", reason=error.detail)
            await asyncio.sleep(backoff.next())

    def stand(self) -> None:
        """Notices come from now on."""
        self._cache.doubt_all()
        self._followers.renew()

    def broken(self) -> bool:
        """Notices do not come any more; answers whether they did."""
        was_standing = self._followers.is_standing
        self._revision = 0
        self._cache.doubt_all()
        self._followers.doubt()
        return was_standing

    def received(self, channel: str, message: bytes) -> None:
        """One notice."""
        if channel == ACCOUNTS_CHANNEL:
            self._account_changed(message.decode())
            return
        aor, revision = self._read(message)
        before, self._revision = self._revision, revision
        if before and revision and revision != before + 1:
            self.gaps += 1
            _log.warning("changes of bindings were missed", before=before, revision=revision)
            self.stand()
        else:
            self._followers.changed(aor)

    def _account_changed(self, aor: str) -> None:
        self._cache.forget(aor)
        self._followers.changed(aor)
