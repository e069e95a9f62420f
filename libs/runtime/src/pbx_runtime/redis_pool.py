"""redis.asyncio for slow paths: scans, blocking reads, tools. Hot paths use `redis_pipe`.

`map_redis_errors` is the one place where redis-py's exceptions become `ServiceError`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import redis.asyncio
import redis.asyncio.sentinel
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

from pbx_runtime import errors
from pbx_runtime.redis_url import RedisUrl, parse_redis_url

CONNECTIONS_MAX = 16
CONNECT_S = 2.0
COMMAND_S = 5.0
RETRIES = 1
"""Once more over a new connection: a server that was restarted leaves dead ones in the pool."""


def open_redis(url: str, *, command_s: float | None = COMMAND_S) -> redis.asyncio.Redis:
    """A client with a bounded pool; answers are bytes. `command_s` None: blocking reads. Close it.

    Where the URL names Sentinels, each new connection goes to the primary of that moment.
    """
    where = parse_redis_url(url)
    if where.sentinels:
        return _of_sentinels(where, command_s)
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS_MAX,
        timeout=CONNECT_S,
        socket_connect_timeout=CONNECT_S,
        socket_timeout=command_s,
        retry=Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.05), RETRIES),
        protocol=2,
    )
    return redis.asyncio.Redis.from_pool(pool)


class _Watched(redis.asyncio.Redis):
    """A client that also closes what it asks the Sentinels with; redis-py's own leaves that open."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections."""
        await super().aclose(close_connection_pool)
        pool = self.connection_pool
        assert isinstance(pool, redis.asyncio.sentinel.SentinelConnectionPool)
        for client in pool.sentinel_manager.sentinels:
            await client.aclose()


def _of_sentinels(where: RedisUrl, command_s: float | None) -> redis.asyncio.Redis:
    sentinel = redis.asyncio.sentinel.Sentinel(  # type: ignore[no-untyped-call]  # not typed by redis-py
        where.sentinels,
        sentinel_kwargs={"password": where.sentinel_password or None, "socket_timeout": CONNECT_S},
    )
    client: redis.asyncio.Redis = sentinel.master_for(
        where.name,
        redis_class=_Watched,
        db=where.db,
        username=where.user or None,
        password=where.password or None,
        max_connections=CONNECTIONS_MAX,
        socket_connect_timeout=CONNECT_S,
        socket_timeout=command_s,
        retry=Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.05), RETRIES),
        protocol=2,
    )
    return client


def map_redis_errors() -> AbstractContextManager[None]:
    """Raise the `ServiceError` that stands for the redis-py error raised inside."""
    return errors.map_errors(
        {
            redis.exceptions.TimeoutError: errors.DeadlineExceeded,
            redis.exceptions.ConnectionError: errors.Unavailable,
            redis.exceptions.ReadOnlyError: errors.Unavailable,
            redis.exceptions.ResponseError: errors.Internal,
            redis.exceptions.RedisError: errors.Internal,
        }
    )
