"""The slow-path client: bytes, bounded, errors mapped."""

from __future__ import annotations

import pytest

from pbx_runtime import errors
from pbx_runtime.redis_pool import map_redis_errors, open_redis
from support.redis_server import redis_server


async def test_answers_are_bytes_and_a_restart_is_survived() -> None:
    with redis_server() as server:
        client = open_redis(server.url)
        try:
            await client.set("k", b"\x00v")
            assert await client.get("k") == b"\x00v"
            server.restart()
            assert await client.get("k") is None  # the pool's old connection was replaced
        finally:
            await client.aclose()


async def test_errors_are_domain_errors() -> None:
    with redis_server() as server:
        client = open_redis(server.url)
        try:
            await client.set("k", "text")
            with pytest.raises(errors.Internal, match="not an integer"), map_redis_errors():
                await client.incr("k")
            server.kill()
            with pytest.raises(errors.Unavailable), map_redis_errors():
                await client.get("k")
        finally:
            await client.aclose()
