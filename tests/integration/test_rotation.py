"""Redis' password changed as docs/operations.md says, with connections standing: nobody is cut off."""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from pbx_runtime.redis_pipe import PipelinedRedis
from support.eventually import eventually
from support.redis_server import redis_server

pytestmark = pytest.mark.integration
PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def steps() -> list[list[str]]:
    """The commands that the page gives to redis-cli, without its name."""
    found = re.findall(r"-- redis-cli (ACL SETUSER .*?)(?:\s{2,}#.*)?$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) == 2, found
    return [shlex.split(each) for each in found]


async def test_the_password_of_redis_changes_without_an_interruption() -> None:
    both, new_alone = steps()
    with redis_server("--requirepass", "OLD") as server:
        path = str(server.socket_path)
        service = PipelinedRedis(f"unix://:OLD@{path}")
        running = asyncio.create_task(service.run())
        await eventually(lambda: service.is_up, what="the service is connected")
        with Redis(unix_socket_path=path, password="OLD") as admin:
            admin.execute_command(*both)
            assert await service.submit("SET", "a", "1") == b"OK"
            with Redis(unix_socket_path=path, password="NEW") as restarted:
                assert restarted.get("a") == b"1", "a pod that was started anew"
            with Redis(unix_socket_path=path, password="OLD") as late:
                assert late.get("a") == b"1", "one that was not yet"
            admin.execute_command(*new_alone)
        assert await service.submit("GET", "a") == b"1", "a connection that stands goes on"
        with Redis(unix_socket_path=path, password="OLD") as forgotten, pytest.raises(AuthenticationError):
            forgotten.get("a")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
