"""The keys of Redis that a backup needs, as Redis' own DUMP gives them: the outbox of events, and registrations.

What is not taken means nothing after a restore: snapshots of calls and leases, of processes that are gone. Each key is
copied as it is at one moment; between two of them others go on, which is why SQL is copied after Redis, never before.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import BinaryIO, Final, TypeVar

from pbx_cli.errors import CliError
from pbx_runtime.errors import ServiceError
from pbx_runtime.redis_pipe import PipelinedRedis

PREFIXES: Final = ("evt:", "reg:")
"""Owners' prefixes: events, registrar."""
BATCH: Final = 500
HEAD: Final = struct.Struct("!IqI")
"""Length of the key, milliseconds that it still lives (0: for ever), length of its content."""
CONNECT_S: Final = 10.0
ANSWER_S: Final = 60.0
"""For one key: an outbox that nobody read for days is one."""
R = TypeVar("R")
Entry = tuple[bytes, int, bytes]


def dump(url: str, file: BinaryIO) -> int:
    """Writes all keys of `PREFIXES` and returns how many. Raises CliError."""

    async def work(redis: PipelinedRedis) -> int:
        count = 0
        async for key, lives_ms, content in _entries(redis):
            file.write(HEAD.pack(len(key), lives_ms, len(content)) + key + content)
            count += 1
        return count

    return _with_redis(url, work)


def load(url: str, file: BinaryIO, *, replace: bool) -> int:
    """Puts keys in place and returns how many. Raises CliError where some are there already, unless `replace`."""

    async def work(redis: PipelinedRedis) -> int:
        there = [key for prefix in PREFIXES async for key in _keys(redis, prefix)]
        if there and not replace:
            raise CliError(f"Redis holds {len(there)} keys of an installation: name --replace to delete them first")
        for at in range(0, len(there), BATCH):
            await redis.submit("DEL", *there[at : at + BATCH], timeout_s=ANSWER_S)
        count = 0
        for key, lives_ms, content in read(file):
            await redis.submit("RESTORE", key, lives_ms, content, timeout_s=ANSWER_S)
            count += 1
        return count

    return _with_redis(url, work)


def read(file: BinaryIO) -> Iterator[Entry]:
    """The entries of what `dump` wrote. Raises CliError where it breaks off."""
    while head := file.read(HEAD.size):
        if len(head) < HEAD.size:
            raise CliError("the backup breaks off among Redis' keys")
        key_length, lives_ms, length = HEAD.unpack(head)
        key, content = file.read(key_length), file.read(length)
        if len(content) < length:
            raise CliError("the backup breaks off among Redis' keys")
        yield key, lives_ms, content


async def _entries(redis: PipelinedRedis) -> AsyncIterator[Entry]:
    for prefix in PREFIXES:
        async for key in _keys(redis, prefix):
            lives_ms, content = await asyncio.gather(
                redis.submit("PTTL", key, timeout_s=ANSWER_S), redis.submit("DUMP", key, timeout_s=ANSWER_S)
            )
            if content is not None:  # else it has ended meanwhile
                yield key, max(lives_ms, 0), content


async def _keys(redis: PipelinedRedis, prefix: str) -> AsyncIterator[bytes]:
    """Each once; what comes or goes meanwhile may be missing."""
    cursor, seen = b"0", set[bytes]()
    while True:
        cursor, found = await redis.submit("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", BATCH, timeout_s=ANSWER_S)
        for key in found:
            if key not in seen:
                seen.add(key)
                yield key
        if cursor == b"0":
            return


def _with_redis(url: str, work: Callable[[PipelinedRedis], Awaitable[R]]) -> R:
    async def run() -> R:
        redis = PipelinedRedis(url, name="backup")
        connection = asyncio.create_task(redis.run())
        try:
            async with asyncio.timeout(CONNECT_S):
                while not redis.is_up:  # noqa: ASYNC110  # a command's few hundred milliseconds
                    await asyncio.sleep(0.02)
            return await work(redis)
        except TimeoutError:
            raise CliError("Redis does not answer: is PBX_REDIS_URL right?") from None
        finally:
            connection.cancel()
            with suppress(asyncio.CancelledError):
                await connection

    try:
        return asyncio.run(run())
    except ServiceError as error:
        raise CliError(f"Redis refuses: {error.detail}") from None
