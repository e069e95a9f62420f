"""From the outbox in a real Redis to CDRs in SQL and a signed webhook at a real receiver."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from standardwebhooks import Webhook as Verifier

from pbx.events.v1 import events_pb2 as pb
from pbx_events.dispatch import GROUP, STREAM, Dispatch
from pbx_events.envelope import decode
from pbx_events.storage.archive import CdrFilter, EventFilter
from pbx_events.storage.store import Store
from pbx_events.storage.subscription import Webhook
from pbx_events.webhook import signing
from pbx_events.webhook.delivery import Deliveries
from pbx_runtime.redis_pipe import PipelinedRedis
from support.call_events import answered_call, cancelled_call
from support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.integration


@asynccontextmanager
async def running(server: RedisServer, path: Path, consumer: str = "c1") -> AsyncIterator[tuple[Dispatch, Store, Any]]:
    store = Store(f"sqlite+aiosqlite:///{path}/events.sqlite")
    await store.migrate()
    client = redis.asyncio.Redis.from_url(server.url)
    outbox = PipelinedRedis(server.url)
    dispatch = Dispatch(outbox, consumer, store)
    tasks = {asyncio.create_task(outbox.run()), asyncio.create_task(dispatch.run())}
    try:
        yield dispatch, store, client
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await client.aclose()
        await store.close()


async def write(client: Any, events: list[pb.Event]) -> None:
    for event in events:
        await client.xadd(STREAM, {"e": event.SerializeToString()})


async def until(condition: Any, what: str) -> Any:
    async with asyncio.timeout(15):
        while not (found := await condition()):
            await asyncio.sleep(0.02)
    assert found, what
    return found


async def test_events_become_cdrs_once_and_the_stream_is_emptied(tmp_path: Path):
    with redis_server() as server:
        async with running(server, tmp_path) as (_, store, client):
            await write(client, answered_call() + cancelled_call() + answered_call()[:2])
            await until(lambda: store.list_cdrs(CdrFilter(outcome=("cancelled",))), "the second call's CDR")
            cdrs = await store.list_cdrs()
            assert [cdr["id"] for cdr in cdrs] == ["01GONE", "01CALL"]
            assert (await store.cdr("01CALL"))["talk_ms"] == 10_000
            await until(lambda: _is_empty(client), "all acknowledged and trimmed")
            assert len(await store.list_events(EventFilter(limit=100))) == 11, "repetitions are stored once"


async def _is_empty(client: Any) -> bool:
    pending = await client.xpending(STREAM, GROUP)
    return bool(pending["pending"] == 0 and await client.xlen(STREAM) == 0)


async def test_a_reader_that_died_loses_nothing(tmp_path: Path):
    with redis_server("--appendonly", "yes") as server:
        client = redis.asyncio.Redis.from_url(server.url)
        await client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        await write(client, answered_call())
        # It had read all of it, and was killed before it stored anything.
        await client.xreadgroup(GROUP, "c1", {STREAM: ">"}, count=100)
        await client.aclose()
        async with running(server, tmp_path, "c1") as (_, store, _client):
            await until(lambda: store.list_cdrs(), "what the dead reader had taken")


async def test_redis_may_be_killed_meanwhile(tmp_path: Path):
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as server:
        async with running(server, tmp_path) as (_, store, client):
            await write(client, answered_call())
            await until(lambda: store.list_cdrs(), "the first call")
            server.restart()
            async with redis.asyncio.Redis.from_url(server.url) as fresh:
                await write(fresh, cancelled_call())
            await until(lambda: store.list_cdrs(CdrFilter(outcome=("cancelled",))), "the call after the restart")


class Receiver:
    """An HTTP endpoint that fails as often as it is told, then takes what comes."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.taken: list[tuple[dict[str, str], bytes]] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head.split("\r\n")[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        status = "204 No Content"
        if self.failures:
            self.failures -= 1
            status = "500 Broken"
        else:
            self.taken.append((headers, body))
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()


async def test_a_webhook_gets_each_event_of_a_call_in_order_and_signed(tmp_path: Path, monkeypatch: Any):
    monkeypatch.setattr("pbx_events.webhook.policy.STEPS_S", (0, *(0.05,) * 9))
    receiver = Receiver(failures=2)
    http = await asyncio.start_server(receiver.handle, "127.0.0.1", 0)
    port = http.sockets[0].getsockname()[1]
    hook = Webhook("w1", f"http://127.0.0.1:{port}/x", signing.new_secret(), ("call.*",), True, 1)
    with redis_server() as server:
        async with running(server, tmp_path) as (dispatch, store, client):
            await store.add_webhook(hook)
            dispatch.hooks = [hook]
            deliveries = Deliveries(store, lambda coro, name: asyncio.create_task(coro, name=name), allow_private=True)
            dispatch.on_batch = lambda batch: deliveries.wake()
            deliveries.serve([hook])
            await write(client, answered_call())

            async def all_there() -> bool:
                return len(receiver.taken) == 5

            await until(all_there, "five events")
            deliveries.serve([])
            await deliveries.close()
    http.close()
    bodies = [json.loads(body) for _, body in receiver.taken]
    assert [body["data"]["sequence"] for body in bodies] == [1, 2, 3, 4, 5]
    assert bodies[0]["type"] == "io.pbx.call.initiated.v1"
    for headers, body in receiver.taken:
        assert Verifier(hook.secret).verify(body.decode(), headers)


async def test_types_filter():
    hook = Webhook("w", "http://x", "", ("call.ended", "registration.*"), True, 1)
    events = [decode(event.SerializeToString()) for event in answered_call()]
    assert [event.type for event in events if event is not None and hook.wants(event)] == ["call.ended"]
