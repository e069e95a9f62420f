"""Accounts in memory for a while, so that a call costs no SQL. Bounded; unknown users are remembered too.

A change on this replica is seen at once; changes of others through a counter in Redis (reg:accounts), looked at every
second by `watch`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pbx_registrar.accounts.model import Account, AccountStore
from pbx_runtime.errors import ServiceError
from pbx_runtime.redis_pipe import PipelinedRedis

ENTRIES_MAX: Final = 50_000
"""Users remembered, unknown ones included. Threat: a scan through user names; the oldest go."""
KNOWN_S: Final = 60.0
UNKNOWN_S: Final = 5.0
"""Short, so that an account made on another way than this service works soon."""
COUNTER: Final = "reg:accounts"


class AccountCache:
    """Reads through to the store."""

    def __init__(self, store: AccountStore, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._entries: dict[tuple[str, str], tuple[float, Account | None]] = {}
        self._version: bytes | None = None

    async def get(self, user: str, domain: str) -> Account | None:
        """One account. Raises ServiceError where it is not in memory and the store is out of reach."""
        found = self.peek(user, domain)
        return found[0] if found is not None else await self._load(user, domain)

    def peek(self, user: str, domain: str) -> tuple[Account | None] | None:
        """What is in memory: a tuple with the account or None; None where nothing is known."""
        entry = self._entries.get((user, domain))
        return (entry[1],) if entry is not None and entry[0] > self._clock() else None

    async def _load(self, user: str, domain: str) -> Account | None:
        account = await self._store.get(user, domain)
        while len(self._entries) >= ENTRIES_MAX:
            del self._entries[next(iter(self._entries))]
        self._entries.pop((user, domain), None)
        lifetime = KNOWN_S if account is not None else UNKNOWN_S
        self._entries[user, domain] = (self._clock() + lifetime, account)
        return account

    def forget(self) -> None:
        """Something changed."""
        self._entries.clear()

    async def changed(self, redis: PipelinedRedis) -> None:
        """This replica changed something: the others are told."""
        self.forget()
        await redis.submit("INCR", COUNTER)

    async def watch(self, redis: PipelinedRedis) -> None:
        """Forgets whenever another replica changed something; until cancelled."""
        while True:
            try:
                version = await redis.submit("GET", COUNTER)
                if version != self._version:
                    self._version = version
                    self.forget()
            except ServiceError:
                pass  # entries run out on their own
            await asyncio.sleep(1.0)
