"""GET /v1/calls over several signaling instances: one that is slow or gone costs its own calls and a second."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import grpc.aio
import pytest

from pbx.signaling.v1 import signaling_pb2 as pb
from pbx.signaling.v1 import signaling_pb2_grpc
from pbx_events.clients import Calls
from pbx_events.instances import Leases
from pbx_events.observe import RedisMemory
from pbx_runtime.errors import NotFound, Unavailable
from pbx_runtime.redis_pipe import PipelinedRedis
from support.redis_server import RedisServer, redis_server

DEADLINE_S = 0.3


class Replica(signaling_pb2_grpc.SignalingServiceServicer):
    """One instance with some calls; `slow` answers nothing."""

    def __init__(self, *calls: str, slow: bool = False) -> None:
        self.calls = calls
        self.slow = slow
        self.ended: list[str] = []

    async def ListCalls(self, request: Any, context: Any) -> pb.ListCallsResponse:
        """Its calls."""
        if self.slow:
            await asyncio.sleep(30)
        found = [call for call in self.calls if call > request.page_token][: request.page_size]
        more = found[-1] if found and found[-1] != self.calls[-1] else ""
        return pb.ListCallsResponse(calls=[pb.Call(call_id=call) for call in found], next_page_token=more)

    async def HangUp(self, request: Any, context: Any) -> pb.HangUpResponse:
        """Ends one of them."""
        if self.slow:
            await asyncio.sleep(30)
        if request.call_id not in self.calls:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such call")
        self.ended.append(request.call_id)
        return pb.HangUpResponse()


class Some:
    """Instances by name."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self.addresses = addresses

    async def alive(self) -> Mapping[str, str]:
        """All of them."""
        return self.addresses


@contextlib.asynccontextmanager
async def serving(**replicas: Replica) -> AsyncIterator[dict[str, str]]:
    """Servers of replicas; gives their addresses."""
    servers, addresses = [], {}
    for name, replica in replicas.items():
        server = grpc.aio.server()
        signaling_pb2_grpc.add_SignalingServiceServicer_to_server(replica, server)
        addresses[name] = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        servers.append(server)
    yield addresses
    for server in servers:
        await server.stop(None)


def ids(items: list[dict[str, Any]]) -> list[str]:
    return [item["call_id"] for item in items]


async def test_it_answers_with_what_it_has_and_names_who_is_silent() -> None:
    async with serving(s1=Replica("a", "c"), s2=Replica("b", slow=True)) as addresses:
        calls = Calls(Some({**addresses, "s3": "127.0.0.1:9"}), deadline_s=DEADLINE_S)
        begun = time.monotonic()
        items, cursor, silent = await calls.page("", 50, "")
        assert (ids(items), cursor, silent) == (["a", "c"], "", ["s2", "s3"])
        assert time.monotonic() - begun < 5
        await calls.close()


async def test_pages_go_over_all_instances() -> None:
    async with serving(s1=Replica("a", "c", "e"), s2=Replica("b", "d")) as addresses:
        calls = Calls(Some(addresses), deadline_s=5)
        seen: list[str] = []
        cursor = ""
        for _ in range(5):
            items, cursor, _ = await calls.page("", 2, cursor)
            seen += ids(items)
            if not cursor:
                break
        assert seen == ["a", "b", "c", "d", "e"]
        await calls.close()


async def test_where_none_answers_it_is_an_error_and_where_none_lives_it_is_empty() -> None:
    calls = Calls(Some({"s1": "127.0.0.1:9"}), deadline_s=DEADLINE_S)
    with pytest.raises(Unavailable, match="s1"):
        await calls.page("", 50, "")
    await calls.close()
    assert await Calls(Some({})).page("", 50, "") == ([], "", [])


async def test_hanging_up_does_not_wait_for_the_silent_ones_to_fail() -> None:
    living, slow = Replica("a"), Replica("b", slow=True)
    async with serving(s1=slow, s2=living) as addresses:
        calls = Calls(Some(addresses), deadline_s=DEADLINE_S)
        await calls.hang_up("a", "maintenance")
        assert living.ended == ["a"]
        with pytest.raises(Unavailable, match="s1"):
            await calls.hang_up("z", "")
        slow.slow = False
        with pytest.raises(NotFound):
            await calls.hang_up("z", "")
        await calls.close()


async def test_instances_are_those_whose_lease_has_not_ended() -> None:
    with redis_server() as server:
        await _leases(server)


async def _leases(server: RedisServer) -> None:
    redis = PipelinedRedis(server.url)
    running = asyncio.create_task(redis.run())
    leases = Leases(redis)
    for _ in range(100):
        if redis.is_up:
            break
        await asyncio.sleep(0.05)
    assert await leases.alive() == {}
    now = int(time.time() * 1000)
    for name, ends in (("alive", now + 60_000), ("ended", now - 1000), ("between", now + 60_000)):
        await redis.submit("ZADD", "sig:index", ends, name)
    await redis.submit("SET", "sig:inst:alive", "10.0.0.7:9102")
    await redis.submit("SET", "sig:inst:ended", "10.0.0.8:9102")
    assert await leases.alive() == {"alive": "10.0.0.7:9102"}
    memory = RedisMemory.of_info(await redis.submit("INFO", "memory"))
    assert memory.used_bytes > 100_000
    assert memory.max_bytes == 0
    running.cancel()


def test_memory_of_a_server_that_says_something_else_is_zero() -> None:
    assert RedisMemory.of_info(b"# Memory\r\nused_memory:12\r\nmaxmemory:many\r\n") == RedisMemory(12, 0)
