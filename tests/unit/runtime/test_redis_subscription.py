"""A subscription: every message once, and its end is told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from pbx_runtime.errors import Unavailable
from pbx_runtime.redis_pipe import PipelinedRedis
from pbx_runtime.redis_subscription import listen
from support.eventually import eventually
from support.redis_server import RedisServer, redis_server


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


class Listener:
    """One that listens to two channels."""

    def __init__(self, url: str) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.stood = 0
        self.task = asyncio.ensure_future(
            listen(url, ("a", "b"), lambda channel, message: self.heard.append((channel, message)), self._stand)
        )

    def _stand(self) -> None:
        self.stood += 1

    async def stands(self) -> None:
        await eventually(lambda: self.stood == 1, what="standing")


async def test_messages_of_all_channels_come_in_order(redis: RedisServer) -> None:
    listener = Listener(redis.url)
    await listener.stands()
    pipe = PipelinedRedis(redis.url)
    running = asyncio.ensure_future(pipe.run())
    for channel, message in (("a", "1"), ("b", "2"), ("else", "x"), ("a", "3")):
        await pipe.submit("PUBLISH", channel, message)
    await eventually(lambda: len(listener.heard) == 3, what="three messages")
    assert listener.heard == [("a", b"1"), ("b", b"2"), ("a", b"3")]
    for task in (running, listener.task):
        task.cancel()
    await asyncio.wait({running, listener.task})
    assert listener.task.cancelled()


async def test_the_end_of_the_connection_is_told(redis: RedisServer) -> None:
    listener = Listener(redis.url)
    await listener.stands()
    redis.kill()
    with pytest.raises(Unavailable):
        await listener.task


async def test_a_server_that_hangs_is_given_up(redis: RedisServer) -> None:
    listener = Listener(redis.url)
    await listener.stands()
    redis.pause()
    try:
        with pytest.raises(Unavailable, match="silent"):
            await listener.task
    finally:
        redis.resume()


async def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(Unavailable):
        await listen("redis://127.0.0.1:1/0", ("a",), lambda channel, message: None, lambda: None)
