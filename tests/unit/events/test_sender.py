"""One attempt: what counts as an answer, and to which addresses it goes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from pbx_events.storage.subscription import Webhook
from pbx_events.webhook import sender as module
from pbx_events.webhook.policy import RETRY_AFTER_MAX_S
from pbx_events.webhook.sender import Answer, Sender, retry_after_s
from pbx_events.webhook.signing import new_secret
from pbx_events.webhook.target import ADDRESSES_MAX, interleaved, is_public

Behave = Callable[[asyncio.StreamWriter], Any]


class Endpoint:
    """A receiver that speaks raw octets."""

    def __init__(self, behave: Behave) -> None:
        self.requests: list[bytes] = []
        self._serving: set[asyncio.Task[Any] | None] = set()
        self._behave = behave

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.current_task())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
                self.requests.append(head)
                if await self._behave(writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self._serving.discard(asyncio.current_task())

    async def stop(self) -> None:
        tasks = [task for task in self._serving if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


@contextlib.asynccontextmanager
async def serving(behave: Behave, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[tuple[Endpoint, int]]:
    endpoint = Endpoint(behave)
    server = await asyncio.start_server(endpoint.serve, host, port)
    try:
        yield endpoint, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await endpoint.stop()


@contextlib.asynccontextmanager
async def sending() -> AsyncIterator[Sender]:
    made = Sender(allow_private=True)
    try:
        yield made
    finally:
        await made.close()


def hook(url: str) -> Webhook:
    return Webhook("h", url, new_secret(), (), True, 0)


def saying(*parts: bytes, then_close: bool = True, each_s: float = 0.0) -> Behave:
    async def behave(writer: asyncio.StreamWriter) -> bool:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(each_s)
        return then_close

    return behave


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (OK + b"content-length: 100\r\n\r\nshort", 200),
        (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhel", 200),
        (OK + b"transfer-encoding: chunked\r\n\r\nno chunk\r\n", 200),
        (b"HTTP/1.1 202 Accepted\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc", 202),
        (b"HTTP/1.1 204 No Content\r\n\r\nnot allowed here", 204),
        (OK + b"x: " + b"y" * 9_000 + b"\r\ncontent-length: 0\r\n\r\n", 200),
        (OK + b"x: " + b"y" * 500_000 + b"\r\ncontent-length: 0\r\n\r\n", 200),
        (OK + b"x: y\r\n" * 400 + b"content-length: 0\r\n\r\n", 200),
        (OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nab", 200),
        (OK + b"content-length: ten\r\n\r\n", 200),
        (OK + b"transfer-encoding: chunked\r\ncontent-length: 1\r\n\r\na", 200),
        (OK + b"no header at all\r\n\r\n", 200),
        (OK, 200),
        (b"HTTP/1.0 200 OK\r\n\r\nold", 200),
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 9\r\n\r\nabc", 500),
        (b"HTTP/1.1 503 Busy\r\nx: " + b"y" * 500_000, 503),
        (b"HTTP/1.1 2", 0),
        (b"SMTP ready\r\n", 0),
        (b"", 0),
    ],
)
async def test_the_status_decides_whatever_follows_it(octets: bytes, status: int) -> None:
    async with serving(saying(octets)) as (endpoint, port), sending() as sender:
        answer = await sender.post(hook(f"http://127.0.0.1:{port}/h"), "m", b"{}")
    assert answer.status == status
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (OK + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (OK + b"\r\n", b"x"),
        (OK + b"content-length: 1000\r\n\r\n", b""),
    ],
)
async def test_a_body_without_end_holds_up_nothing(first: bytes, more: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXCERPT_S", 0.3)
    started = time.monotonic()
    behave = saying(first, *[more] * 100, each_s=0.05)
    async with serving(behave) as (_, port), sending() as sender:
        answer = await sender.post(hook(f"http://127.0.0.1:{port}/h"), "m", b"{}")
    assert answer.status == 200
    assert time.monotonic() - started < 3
    assert set(answer.excerpt) <= {"x"}


async def test_the_status_counts_where_the_body_outlasts_the_whole_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.4)

    async def behave(writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(0.3)
        writer.write(OK + b"content-length: 5\r\n\r\n")
        await asyncio.sleep(0.3)
        writer.write(b"hello")
        return True

    async with serving(behave) as (_, port), sending() as sender:
        assert await sender.post(hook(f"http://127.0.0.1:{port}/h"), "m", b"{}") == Answer(200, 0, "hello")


async def test_a_head_without_end_is_answered_by_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.4)
    async with serving(saying(OK, *[b"x: y\r\n"] * 100, each_s=0.05)) as (_, port), sending() as sender:
        answer = await sender.post(hook(f"http://127.0.0.1:{port}/h"), "m", b"{}")
    assert answer.status == 200


async def test_connections_are_used_again_and_a_former_status_is_not() -> None:
    replies = iter([OK + b"content-length: 2\r\n\r\nok", b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", b""])
    connections = set()

    async def behave(writer: asyncio.StreamWriter) -> bool:
        connections.add(writer.get_extra_info("peername"))
        reply = next(replies)
        writer.write(reply)
        return not reply

    async with serving(behave) as (_, port), sending() as sender:
        target = hook(f"http://127.0.0.1:{port}/h")
        assert [(await sender.post(target, "m", b"{}")).status for _ in range(3)] == [200, 410, 0]
    assert len(connections) == 1


async def test_a_redirect_is_not_followed() -> None:
    redirect = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
    async with serving(saying(redirect)) as (endpoint, port), sending() as sender:
        assert (await sender.post(hook(f"http://127.0.0.1:{port}/h"), "m", b"{}")).status == 302
    assert len(endpoint.requests) == 1


def names(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Lets every name have these addresses."""

    async def getaddrinfo(self: object, host: str, port: int, **_: Any) -> list[Any]:
        family = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(family[":" in a], socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", getaddrinfo, raising=False)


@pytest.mark.parametrize("dead", [("127.0.0.9",), ("::1",), ("127.0.0.9", "127.0.0.8", "::1")])
async def test_all_addresses_of_a_host_are_tried(dead: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(saying(OK + b"content-length: 0\r\n\r\n")) as (endpoint, port), sending() as sender:
        names(monkeypatch, *dead, "127.0.0.1")
        answer = await sender.post(hook(f"http://crm.example:{port}/h"), "m", b"{}")
    assert answer.status == 200, answer
    (request,) = endpoint.requests
    assert f"host: crm.example:{port}\r\n".encode() in request.lower()


async def test_a_name_with_one_private_address_is_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, "93.184.216.34", "10.0.0.1")
    sender = Sender(allow_private=False)
    answer = await sender.post(hook("https://crm.example/h"), "m", b"{}")
    await sender.close()
    assert (answer.status, answer.excerpt) == (0, "crm.example is not at a public address")


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("90", 90),
        (" 90 ", 90),
        ("", 0),
        ("-5", 0),
        ("soon", 0),
        ("1" * 30, RETRY_AFTER_MAX_S),
        (format_datetime(datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=75), usegmt=True), 75),
        ("Tue, 14 Nov 2023 22:14:05 -0000", 45),
        ("Tuesday, 14-Nov-23 22:14:05 GMT", 45),
        ("Tue Nov 14 22:14:05 2023", 45),
        (format_datetime(datetime.fromtimestamp(NOW, UTC) - timedelta(days=1), usegmt=True), 0),
        ("Tue, 99 Nov 2023 22:14:05 GMT", 0),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str, seconds: int) -> None:
    assert retry_after_s(value, NOW) == seconds


@pytest.mark.parametrize(
    ("addresses", "wanted"),
    [
        (["::1", "::2", "1.1.1.1", "::3"], ["::1", "1.1.1.1", "::2", "::3"]),
        (["1.1.1.1", "1.1.1.1", "2.2.2.2"], ["1.1.1.1", "2.2.2.2"]),
        ([f"10.0.0.{i}" for i in range(100)], [f"10.0.0.{i}" for i in range(ADDRESSES_MAX)]),
    ],
)
def test_families_take_turns(addresses: list[str], wanted: list[str]) -> None:
    assert interleaved(addresses) == wanted


@pytest.mark.parametrize(
    "address",
    [
        *("192.0.0.1", "192.0.0.9", "192.0.0.255", "192.88.99.1", "198.18.0.1", "240.0.0.1", "255.255.255.255"),
        *("64:ff9b::a00:1", "64:ff9b::808:808", "64:ff9b:1::1"),
        *("::10.0.0.1", "::808:808", "::ffff:8.8.8.8", "::ffff:0:10.0.0.1", "::ffff:0:808:808"),
        *("2002:a00:1::1", "2002:808:808::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
        *("fec0::1", "feff::1", "fe80::1", "fc00::1", "ff0e::1", "100::1", "2001:db8::1", "3fff::1", "5f00::1"),
        *("4000::1", "1::1"),
    ],
)
def test_every_way_to_say_an_address_that_is_not_the_internets(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "192.0.1.1", "192.88.98.1", "2001:4860:4860::8888", "2a00:1450:4001::1"]
)
def test_what_is_the_internets(address: str) -> None:
    assert is_public(address)
