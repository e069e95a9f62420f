"""An HTTP listener under people who open connections and do nothing with them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pbx_runtime.address import Listen
from pbx_runtime.http import serve_http, system_routes
from pbx_runtime.http_guard import HttpLimits, source_of
from pbx_runtime.lifecycle import Lifecycle
from support.eventually import eventually

HEAD = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"


class Server:
    """An application behind the guard: `/slow` answers when told, `/body` reads a body, `/big` sends much."""

    def __init__(self, limits: HttpLimits) -> None:
        self.life = Lifecycle("demo", 5)
        self.at = Listen("127.0.0.1", 0)
        self.go = asyncio.Event()
        self.bodies: list[str] = []
        self._limits = limits

    async def main(self) -> None:
        async def slow(request: Request) -> Response:
            await self.go.wait()
            return PlainTextResponse("at last")

        async def body(request: Request) -> Response:
            try:
                self.bodies.append(str(len(await request.body())))
            except ClientDisconnect:
                self.bodies.append("late")
            return PlainTextResponse("read")

        async def big(request: Request) -> Response:
            return PlainTextResponse(b"x" * 50_000_000)

        routes = [Route("/slow", slow), Route("/body", body, methods=["POST"]), Route("/big", big)]
        app = Starlette(routes=[*system_routes(self.life.health, self.life.registry), *routes])
        self.at = await serve_http(self.life, app, self.at, self._limits)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.at.host, self.at.port)

    async def ask(self, path: str) -> bytes:
        reader, writer = await self.connect()
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        return answer.split(b"\r\n", 1)[0]

    def metric(self, name: str) -> float:
        return self.life.registry.get_sample_value(name) or 0


@contextlib.asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[Server]:
    server = Server(HttpLimits(**limits))
    task = asyncio.ensure_future(server.life.run(server.main))
    await eventually(lambda: server.life.health.is_ready)
    try:
        yield server
    finally:
        server.go.set()
        server.life.stop()
        assert await task == 0


OK = b"HTTP/1.1 200 OK"
IDLE = 600
"""More than all places, from one source."""


@pytest.mark.parametrize("octets", [b"", b"G", HEAD, b"POST /body HTTP/1.1\r\ncontent-length: 9\r\n"])
async def test_many_idle_connections_hide_no_probe(octets: bytes) -> None:
    async with serving() as server:
        held = []
        for _ in range(IDLE):
            _, writer = await server.connect()
            writer.write(octets)
            held.append(writer)
        for path in ("/healthz", "/readyz", "/metrics"):
            assert await server.ask(path) == OK
        assert server.metric("pbx_http_connections") <= HttpLimits().per_source_max
        assert server.metric("pbx_http_connections_evicted") >= IDLE - HttpLimits().per_source_max
        for writer in held:
            writer.close()


async def test_what_is_being_answered_is_never_put_out_for_a_newcomer() -> None:
    async with serving(per_source_max=4, connections_max=8) as server:
        answers = [asyncio.ensure_future(server.ask("/slow")) for _ in range(3)]
        await eventually(lambda: server.metric("pbx_http_connections") == 3)
        held = [await server.connect() for _ in range(20)]
        assert await server.ask("/healthz") == OK
        server.go.set()
        assert await asyncio.gather(*answers) == [OK] * 3
        for _, writer in held:
            writer.close()


@pytest.mark.parametrize(
    "octets",
    [b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc", b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n"],
    ids=["bodies", "unread answers"],
)
async def test_who_waits_for_its_peer_makes_way_where_nobody_is_idle(octets: bytes) -> None:
    async with serving(per_source_max=4, connections_max=8) as server:
        held = []
        for _ in range(6):
            _, writer = await server.connect()
            writer.write(octets)
            await asyncio.sleep(0.1)
            held.append(writer)
        assert await server.ask("/healthz") == OK
        assert server.metric("pbx_http_connections_evicted") >= 3
        for writer in held:
            writer.close()


async def test_probes_pass_while_requests_are_too_many() -> None:
    async with serving(requests_max=2) as server:
        answers = [asyncio.ensure_future(server.ask("/slow")) for _ in range(2)]
        await eventually(lambda: server.metric("pbx_http_connections") == 2)
        await asyncio.sleep(0.05)
        assert await server.ask("/big") == b"HTTP/1.1 503 Service Unavailable"
        assert await server.ask("/metrics") == b"HTTP/1.1 503 Service Unavailable"
        assert (await server.ask("/healthz"), await server.ask("/readyz")) == (OK, OK)
        server.go.set()
        assert await asyncio.gather(*answers) == [OK] * 2


@pytest.mark.parametrize("before", [b"", HEAD + b"\r\n"], ids=["at once", "after an answer"])
async def test_a_head_that_never_ends_is_cut_off(before: bytes) -> None:
    async with serving(head_s=0.3) as server:
        reader, writer = await server.connect()
        writer.write(before)
        if before:
            assert (await reader.readuntil(b"}}")).startswith(OK)
        with contextlib.suppress(ConnectionError):
            for _ in range(40):  # an octet now and then does not help
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(5):
                assert await reader.read() == b""
        assert server.metric("pbx_http_connections") == 0
        writer.close()


async def test_a_body_that_never_ends_is_given_up() -> None:
    async with serving(body_s=0.3) as server:
        _, writer = await server.connect()
        writer.write(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\nabc")
        await eventually(lambda: server.bodies == ["late"])
        writer.close()


async def test_a_body_in_time_is_read() -> None:
    async with serving() as server:
        _, writer = await server.connect()
        writer.write(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nabc")
        await asyncio.sleep(0.1)
        writer.write(b"def")
        await eventually(lambda: server.bodies == ["6"])
        writer.close()


async def test_an_answer_that_nobody_reads_is_given_up() -> None:
    async with serving(stall_s=0.3) as server:
        _, writer = await server.connect()
        writer.write(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n")
        await eventually(lambda: server.metric("pbx_http_connections") == 1)
        await eventually(lambda: server.metric("pbx_http_connections") == 0)
        writer.close()


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_sources(host: str, source: str) -> None:
    assert source_of(host) == source
