"""A primary is killed under its clients: they ask Sentinel, and go on with the replica that was promoted."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from pbx_runtime.errors import ServiceError, Unavailable
from pbx_runtime.redis_link import ask_sentinels
from pbx_runtime.redis_pipe import PipelinedRedis
from pbx_runtime.redis_pool import open_redis
from pbx_runtime.redis_url import parse_redis_url
from support.ports import free_port
from support.redis_server import executable

pytestmark = pytest.mark.integration
NAME = "pbx"
PASSWORD = "open-sesame"


@dataclass
class Watched:
    """A primary, its replica and a Sentinel that watches them."""

    primary: subprocess.Popen[bytes]
    ports: tuple[int, int]
    sentinel: int
    url: str


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    primary, replica, sentinel = (free_port() for _ in range(3))
    login = ["--requirepass", PASSWORD, "--masterauth", PASSWORD, "--bind", "127.0.0.1", "--save", ""]
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {sentinel}\nbind 127.0.0.1\n"
        f"sentinel monitor {NAME} 127.0.0.1 {primary} 1\n"
        f"sentinel auth-pass {NAME} {PASSWORD}\n"
        f"sentinel down-after-milliseconds {NAME} 500\n"
        f"sentinel failover-timeout {NAME} 3000\n"
    )
    commands = [
        ["--port", str(primary), *login],
        ["--port", str(replica), "--replicaof", "127.0.0.1", str(primary), "--repl-diskless-sync-delay", "0", *login],
        [str(config), "--sentinel"],
    ]
    with contextlib.ExitStack() as stack:
        running = []
        for number, arguments in enumerate(commands):
            log = stack.enter_context((tmp_path / f"{number}.log").open("wb"))
            process = subprocess.Popen([executable(), *arguments], cwd=tmp_path, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            running.append(process)
        url = f"redis+sentinel://:{PASSWORD}@127.0.0.1:1,127.0.0.1:{sentinel}/{NAME}/0"
        yield Watched(running[0], (primary, replica), sentinel, url)


async def eventually(ask: Any, wanted: Any, timeout_s: float = 30) -> None:
    """Until `ask` answers `wanted`; errors of a service count as another answer."""
    answer: Any = None
    async with asyncio.timeout(timeout_s):
        while answer != wanted:
            try:
                answer = await ask()
            except (ServiceError, RedisError, OSError) as error:
                answer = error
            await asyncio.sleep(0.05)


async def test_clients_follow_the_primary(watched: Watched) -> None:
    async def replicated() -> int:
        async with open_redis(f"redis://:{PASSWORD}@127.0.0.1:{watched.ports[0]}/0") as client:
            return int((await client.info("replication"))["connected_slaves"])

    async def known_replicas() -> int:
        async with open_redis(f"redis://127.0.0.1:{watched.sentinel}") as client:
            return len(await client.execute_command("SENTINEL", "REPLICAS", NAME))

    async def primary_port() -> int:
        return (await ask_sentinels(parse_redis_url(watched.url))).port

    await eventually(primary_port, watched.ports[0])
    states: list[bool] = []
    client = PipelinedRedis(watched.url, on_state=states.append)
    task = asyncio.ensure_future(client.run())
    pool = open_redis(watched.url)
    try:
        await eventually(lambda: client.submit("SET", "call", "up"), b"OK")
        assert await pool.get("call") == b"up"
        await eventually(replicated, 1)
        assert await pool.execute_command("WAIT", 1, 5000) == 1, "the replica has it"
        await eventually(known_replicas, 1)
        watched.primary.kill()
        await eventually(lambda: client.submit("GET", "call"), b"up", timeout_s=40)
        await eventually(lambda: client.submit("SET", "call", "still up"), b"OK", timeout_s=40)
        assert await pool.get("call") == b"still up"
        assert await primary_port() == watched.ports[1]
        assert states[:3] == [True, False, True]
    finally:
        task.cancel()
        await asyncio.wait({task})
        await pool.aclose()


async def test_what_no_sentinel_knows_is_said(watched: Watched) -> None:
    url = parse_redis_url(watched.url.replace(f"/{NAME}/", "/other/"))

    async def told() -> str:
        try:
            await ask_sentinels(url)
        except Unavailable as error:
            return "knows no other" if "knows no other" in str(error) else str(error)
        return "found"

    await eventually(told, "knows no other")
