"""The lease of this instance in Redis, and those of the others: who lives is who has one.

sig:inst:<id>   where the instance listens, EX LEASE_S; read by the reaper of events, too
sig:run:<id>    the incarnation that lives
sig:index       instances by the end of their lease, Unix milliseconds: so that replicas find each other
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pbx_runtime.address import Listen
from pbx_runtime.redis_pipe import PipelinedRedis

LEASE_S: Final = 5
"""How long this instance counts as alive without a sign of it."""
INDEX: Final = "sig:index"
INDEX_KEPT_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Living:
    """What a lease says."""

    instance: str
    listen: str
    incarnation: str


class Lease:
    """That of one instance; also sees the others'."""

    def __init__(
        self,
        redis: PipelinedRedis,
        living: Living,
        *,
        kept: Callable[[object], None],
        seen: Callable[[frozenset[str]], None],
        found: Callable[[Listen], None],
    ) -> None:
        """`kept`: the error that a write met, or None; `seen`: who else lives; `found`: where one of them listens."""
        self._redis = redis
        self._living = living
        self._kept = kept
        self._seen = seen
        self._found = found

    async def run(self) -> None:
        """Gives signs of life until it is cancelled; without Redis those lived that lived."""
        submit, living = self._redis.submit, self._living
        while True:
            now_ms = int(time.time() * 1000)
            submit("SET", f"sig:inst:{living.instance}", living.listen, "EX", LEASE_S, callback=self._written)
            submit("ZADD", INDEX, now_ms + LEASE_S * 1000, living.instance, callback=_ignore)
            submit("ZREMRANGEBYSCORE", INDEX, "-inf", now_ms - INDEX_KEPT_MS, callback=_ignore)
            submit("ZRANGEBYSCORE", INDEX, now_ms, "+inf", callback=self._listed)
            submit("SET", f"sig:run:{living.instance}", living.incarnation, "EX", LEASE_S, callback=_ignore)
            await asyncio.sleep(LEASE_S / 3)

    def look_up(self, instance: str) -> None:
        """Asks where another instance listens."""
        self._redis.submit("GET", f"sig:inst:{instance}", callback=self._looked_up)

    def _written(self, reply: Any, error: object) -> None:
        self._kept(error)

    def _listed(self, reply: Any, error: object) -> None:
        if error is None:
            self._seen(frozenset(name.decode() for name in reply) - {self._living.instance})

    def _looked_up(self, reply: Any, error: object) -> None:
        if error is None and reply is not None:
            with contextlib.suppress(ValueError):  # the path of a socket: it is on this machine
                self._found(Listen.parse(reply.decode()))


def _ignore(reply: object, error: object) -> None:
    """The lease is written again soon."""
