"""redis.asyncio for slow paths: scans, blocking reads, tools. Hot paths use `redis_pipe`.

`map_redis_errors` is the one place where redis-py's exceptions become `ServiceError`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

from pbx_runtime import errors

CONNECTIONS_MAX = 16
CONNECT_S = 2.0
COMMAND_S = 5.0
RETRIES = 1
"""Once more over a new connection: a server that was restarted leaves dead ones in the pool."""


def open_redis(url: str, *, command_s: float | None = COMMAND_S) -> redis.asyncio.Redis:
    """A client with a bounded pool; answers are bytes. `command_s` None: blocking reads. Close it."""
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
