"""PipelinedRedis against a real server: order, batching, transactions, scripts, every kind of failure."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from pbx_runtime import errors
from pbx_runtime.redis_pipe import PipelinedRedis, RedisError, RedisNotWritable
from pbx_runtime.redis_script import Script
from support.eventually import eventually
from support.redis_server import RedisServer, redis_server


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@contextlib.asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[PipelinedRedis]:
    client = PipelinedRedis(url, **options)
    task = asyncio.ensure_future(client.run())
    try:
        yield client
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_commands_submitted_before_the_connection_wait_for_it(server: RedisServer) -> None:
    client = PipelinedRedis(server.url)
    future = client.submit("ECHO", "early")
    task = asyncio.ensure_future(client.run())
    assert await future == b"early"
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_replies_come_in_the_order_of_the_commands(server: RedisServer) -> None:
    async with connected(server.url) as client:
        seen: list[tuple[Any, errors.ServiceError | None]] = []
        for number in range(1000):
            client.submit("ECHO", number, callback=lambda reply, error: seen.append((reply, error)))
        await client.submit("PING")
        assert seen == [(str(number).encode(), None) for number in range(1000)]
        assert client.in_flight == 0


async def test_one_turn_is_one_write(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(server.url) as client:
        await client.submit("PING")
        assert client._link is not None
        writes: list[bytes] = []
        write = client._link.write
        monkeypatch.setattr(client._link, "write", lambda data: (writes.append(data), write(data)))
        await asyncio.gather(*[client.submit("PING") for _ in range(50)])
        assert len(writes) == 1


async def test_binary_values_survive(server: RedisServer) -> None:
    async with connected(server.url) as client:
        value = bytes(range(256)) * 4
        await client.submit("SET", "binary", value)
        assert await client.submit("GET", b"binary") == value
        assert await client.submit("GET", "absent") is None


async def test_a_refused_command_is_an_error_of_its_own(server: RedisServer) -> None:
    async with connected(server.url) as client:
        good, bad = client.submit("SET", "text", "x"), client.submit("INCR", "text")
        assert await good == b"OK"
        with pytest.raises(RedisError, match="not an integer") as caught:
            await bad
        assert caught.value.code == "ERR"
        assert await client.submit("PING") == b"PONG"


async def test_a_transaction_answers_all_its_replies(server: RedisServer) -> None:
    async with connected(server.url) as client:
        await client.submit("DEL", "n", "s")
        replies = await client.transaction([("INCR", "n"), ("XADD", "s", "*", "e", b"\x00"), ("GET", "n")])
        assert replies[0] == 1
        assert replies[2] == b"1"


async def test_a_transaction_with_a_malformed_command_changes_nothing(server: RedisServer) -> None:
    async with connected(server.url) as client:
        await client.submit("DEL", "tx")
        with pytest.raises(RedisError, match="wrong number of arguments"):
            await client.transaction([("SET", "tx", "1"), ("SET", "tx")])
        assert await client.submit("GET", "tx") is None


async def test_an_error_inside_exec_is_told(server: RedisServer) -> None:
    async with connected(server.url) as client:
        await client.submit("SET", "text", "x")
        with pytest.raises(RedisError, match="WRONGTYPE"):
            await client.transaction([("LPUSH", "text", "1"), ("PING",)])
        assert await client.submit("PING") == b"PONG"


async def test_a_script_runs_by_hash_and_survives_a_script_flush(server: RedisServer) -> None:
    script = Script("return {KEYS[1], ARGV[1], redis.call('INCR', KEYS[1])}")
    async with connected(server.url) as client:
        await client.submit("DEL", "counter")
        client.register(script)
        assert await client.evaluate(script, ["counter"], ["a"]) == [b"counter", b"a", 1]
        await client.submit("SCRIPT", "FLUSH")
        assert await client.evaluate(script, ["counter"], ["b"]) == [b"counter", b"b", 2]
        # EVAL loaded it again: it can stand in a transaction.
        assert (await client.transaction([script.command(["counter"], ["c"])]))[0][2] == 3


async def test_registered_scripts_are_loaded_on_every_connection() -> None:
    script = Script("return 7")
    with redis_server() as server:
        async with connected(server.url) as client:
            client.register(script)
            await client.submit("PING")
            server.kill()
            await eventually(lambda: not client.is_up)
            server.start()
            await until_up(client)
            assert await client.transaction([script.command([])]) == [7]


async def test_a_dead_server_fails_commands_at_once_and_its_return_heals() -> None:
    states: list[bool] = []
    with redis_server() as server:
        async with connected(server.url, on_state=states.append) as client:
            await client.submit("PING")
            server.kill()
            await eventually(lambda: not client.is_up)
            before = asyncio.get_running_loop().time()
            with pytest.raises(errors.Unavailable):
                await client.submit("PING")
            assert asyncio.get_running_loop().time() - before < 0.5
            server.start()
            await until_up(client)
            assert await client.submit("PING") == b"PONG"
    assert states[:3] == [True, False, True]


async def test_a_hanging_server_times_out_everything_in_flight() -> None:
    with redis_server() as server:
        async with connected(server.url) as client:
            await client.submit("PING")
            server.pause()
            waiting = [client.submit("PING", timeout_s=0.3) for _ in range(5)]
            answers = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(answer) for answer in answers] == [errors.DeadlineExceeded] * 5
            server.resume()
            await until_up(client)
            assert await client.submit("PING") == b"PONG"


async def test_a_callback_that_raises_harms_no_other(server: RedisServer) -> None:
    async with connected(server.url) as client:
        client.submit("PING", callback=lambda reply, error: 1 / 0)  # type: ignore[arg-type, return-value]
        assert await client.submit("ECHO", "alive") == b"alive"


async def test_the_number_in_flight_is_bounded(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbx_runtime.redis_pipe.IN_FLIGHT_MAX", 3)
    async with connected(server.url) as client:
        futures = [client.submit("PING") for _ in range(4)]
        answers = await asyncio.gather(*futures, return_exceptions=True)
        assert answers[:3] == [b"PONG"] * 3
        assert isinstance(answers[3], errors.ResourceExhausted)


async def test_a_server_without_memory_is_unavailable_not_internal() -> None:
    with redis_server("--maxmemory", "1mb") as server:
        async with connected(server.url) as client:
            await client.submit("PING")
            fill = [client.submit("SET", f"k{number}", b"x" * 100_000) for number in range(100)]
            refused = [e for e in await asyncio.gather(*fill, return_exceptions=True) if e != b"OK"]
            assert refused
            assert all(isinstance(error, RedisNotWritable) and "OOM" in error.detail for error in refused)


async def test_wrong_password_says_so() -> None:
    with redis_server("--requirepass", "right") as server:
        async with connected(f"unix://:wrong@{server.socket_path}") as client:
            with pytest.raises(errors.Unavailable, match=r"WRONGPASS|invalid password"):
                await client.submit("PING")
        async with connected(f"unix://:right@{server.socket_path}?db=3") as client:
            assert await client.submit("SET", "a", 1) == b"OK"


async def test_closing_fails_what_is_in_flight(server: RedisServer) -> None:
    async with connected(server.url) as client:
        await client.submit("PING")
        blocked = client.submit("BLPOP", "never", 0, timeout_s=60)
        await asyncio.sleep(0)
    with pytest.raises(errors.Unavailable, match="closed"):
        await blocked


async def until_up(client: PipelinedRedis) -> None:
    await eventually(lambda: client.is_up)


@contextlib.asynccontextmanager
async def speaking(answer: bytes | None) -> AsyncIterator[str]:
    """A server that answers everything with the same bytes; None: with nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                if answer is not None:
                    writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\xff" * 50, b"$-7\r\n", b"-LOADING wait\r\n"]
)
async def test_what_is_no_redis_is_unavailable(answer: bytes) -> None:
    async with speaking(answer) as url, connected(url) as client:
        with pytest.raises(errors.Unavailable):
            await client.submit("PING")
        assert not client.is_up


async def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbx_runtime.redis_pipe.CONNECT_S", 0.1)
    async with speaking(None) as url, connected(url) as client:
        with pytest.raises(errors.Unavailable, match=r"no connection within 0\.1 s"):
            await client.submit("PING")


async def test_replies_that_nobody_asked_for_end_the_connection() -> None:
    async with speaking(b"+PONG\r\n+PONG\r\n") as url, connected(url) as client:
        await client.submit("PING")
        await eventually(lambda: not client.is_up)
