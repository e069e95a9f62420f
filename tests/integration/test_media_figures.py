"""Media figures from a relay's process to the CDR: once each, whoever of relay, Redis and events dies meanwhile."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis.asyncio

from pbx.events.v1 import events_pb2
from pbx.relay.v1 import relay_pb2 as pb
from pbx_events.dispatch import STREAM, Dispatch
from pbx_events.envelope import encode
from pbx_events.overdue import Overdue
from pbx_events.storage import ledger
from pbx_events.storage.archive import EventFilter
from pbx_events.storage.store import Store
from pbx_runtime.redis_pipe import PipelinedRedis
from support.call_events import answered_call
from support.eventually import eventually
from support.redis_server import RedisServer, redis_server
from support.relay_process import RelayProcess, endpoint, instance, local, relay_process
from support.relay_rig import Phone, rtp_packet

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("relay")]
A, B = pb.SIDE_A, pb.SIDE_B
PACKETS = 5


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as made:
        yield made


@pytest.fixture
def relay(server: RedisServer) -> Iterator[RelayProcess]:
    with relay_process(server) as process:
        yield process


@pytest.fixture
def phones() -> Iterator[tuple[Phone, Phone]]:
    a, b = Phone("127.0.0.1"), Phone("127.0.0.1")
    yield a, b
    a.close()
    b.close()


class Events:
    """The reader of the outbox, its store and its loop that ends waiting."""

    def __init__(self, server: RedisServer, path: Path) -> None:
        self.store = Store(f"sqlite+aiosqlite:///{path}/events.sqlite")
        self._outbox = PipelinedRedis(server.url)
        self.dispatch = Dispatch(self._outbox, "c1", self.store)
        overdue = Overdue(self.store, lambda: self.dispatch.is_current)
        self._tasks = {asyncio.ensure_future(run) for run in (self._outbox.run(), self.dispatch.run(), overdue.run())}

    async def cdr(self, call_id: str) -> dict[str, object] | None:
        """The CDR, where it is written."""
        (found,) = [cdr for cdr in await self.store.list_cdrs() if cdr["id"] == call_id] or [None]
        return found

    async def close(self) -> None:
        """As a process that is killed: nothing is said to anybody."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self.store.close()


@asynccontextmanager
async def events(server: RedisServer, path: Path) -> AsyncIterator[Events]:
    first = Store(f"sqlite+aiosqlite:///{path}/events.sqlite")
    await first.migrate()
    await first.close()
    made = Events(server, path)
    try:
        yield made
    finally:
        await made.close()


def told_by_owner(relay: RelayProcess, call_id: str) -> list[bytes]:
    """What signaling writes of a call that this relay carries."""
    heard = answered_call(call_id)[:5]
    heard[1].call_dialing.relay_id = relay.relay_id
    return [event.SerializeToString() for event in heard]


async def write(server: RedisServer, *raw: bytes) -> None:
    async with redis.asyncio.Redis.from_url(server.url) as client:
        for event in raw:
            await client.xadd(STREAM, {"e": event})


async def media_in(server: RedisServer) -> list[events_pb2.Event]:
    """The figures in the stream."""
    async with redis.asyncio.Redis.from_url(server.url) as client:
        found = [events_pb2.Event.FromString(fields[b"e"]) for _, fields in await client.xrange(STREAM)]
    return [event for event in found if event.WhichOneof("payload") == "media_reported"]


async def talk(relay: RelayProcess, phones: tuple[Phone, Phone], call_id: str) -> None:
    """A call in which some packets go from A to B; it stays."""
    a, b = phones
    async with instance(relay, lease_s=60) as signaling:
        allocate = pb.AllocateRequest(call_id=call_id, endpoints=[endpoint(A, a), endpoint(B, b)])
        allocated = (await signaling.ask(allocate=allocate)).allocate
        for number in range(PACKETS):
            a.rtp.send(rtp_packet(number + 1), local(allocated, A))
            await b.rtp.receive()


async def release(relay: RelayProcess, call_id: str) -> None:
    async with instance(relay) as signaling:
        answer = await signaling.ask(release=pb.ReleaseRequest(call_id=call_id, quiet=True))
        assert list(answer.release.streams) == [], "the figures go another way"


async def test_a_call_has_its_figures_in_its_one_cdr(
    server: RedisServer, relay: RelayProcess, phones: tuple[Phone, Phone], tmp_path: Path
) -> None:
    async with events(server, tmp_path) as reader:
        await talk(relay, phones, "01CALL")
        await write(server, *told_by_owner(relay, "01CALL"))
        await release(relay, "01CALL")
        await eventually_async(lambda: reader.cdr("01CALL"))
        cdr = await reader.cdr("01CALL")
        assert cdr is not None
        (audio,) = cdr["legs"][0]["media"]  # type: ignore[index]
        assert (audio["packets"], audio["packets_lost"], cdr["revision"]) == (PACKETS, 0, 1)


async def test_redis_may_die_before_the_figures_are_written(
    server: RedisServer, relay: RelayProcess, phones: tuple[Phone, Phone], tmp_path: Path
) -> None:
    await talk(relay, phones, "01CALL")
    await write(server, *told_by_owner(relay, "01CALL"))
    async with instance(relay) as signaling:  # found by a lease, while there is one
        server.kill()
        await signaling.ask(release=pb.ReleaseRequest(call_id="01CALL", quiet=True))
    async with events(server, tmp_path) as reader:
        await asyncio.to_thread(server.start)
        await eventually_async(lambda: reader.cdr("01CALL"))
        cdr = await reader.cdr("01CALL")
        assert cdr is not None
        assert cdr["legs"][0]["media"][0]["packets"] == PACKETS  # type: ignore[index]
        assert (cdr["revision"], reader.store.media_missing) == (1, 0)


async def test_events_may_die_between_the_end_and_the_figures(
    server: RedisServer, relay: RelayProcess, phones: tuple[Phone, Phone], tmp_path: Path
) -> None:
    await talk(relay, phones, "01CALL")
    async with events(server, tmp_path) as reader:
        await write(server, *told_by_owner(relay, "01CALL"))
        await eventually_async(lambda: reader.store.list_events(EventFilter(kind=("call.ended",))))
        assert await reader.cdr("01CALL") is None
    await release(relay, "01CALL")
    await eventually_async(lambda: media_in(server))
    async with events(server, tmp_path) as reader:
        await eventually_async(lambda: reader.cdr("01CALL"))
        cdr = await reader.cdr("01CALL")
        assert cdr is not None
        assert (cdr["legs"][0]["media"][0]["packets"], cdr["revision"]) == (PACKETS, 1)  # type: ignore[index]


async def test_a_relay_that_dies_takes_the_figures_with_it_and_not_the_cdr(
    server: RedisServer,
    relay: RelayProcess,
    phones: tuple[Phone, Phone],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger, "MEDIA_WAIT_MS", 500)
    async with events(server, tmp_path) as reader:
        await talk(relay, phones, "01CALL")
        relay.send(signal.SIGKILL)
        await asyncio.to_thread(relay.wait)
        await write(server, *told_by_owner(relay, "01CALL"))
        await eventually_async(lambda: reader.cdr("01CALL"))
        cdr = await reader.cdr("01CALL")
        assert cdr is not None
        assert (cdr["legs"][0]["media"], cdr["revision"]) == ([], 1)  # type: ignore[index]
        assert reader.store.media_missing == 1
        # Back under its name it knows the call, and what it tells of it changes nothing any more.
        await asyncio.to_thread(relay.start)
        await release(relay, "01CALL")
        await eventually(lambda: reader.store.media_late == 1)
        assert await reader.cdr("01CALL") == cdr


async def test_a_relay_that_ends_tells_of_the_calls_that_it_drops(
    server: RedisServer, phones: tuple[Phone, Phone]
) -> None:
    with relay_process(server, shutdown_s=4) as relay:
        await talk(relay, phones, "01CALL")
        relay.send(signal.SIGTERM)
        assert await asyncio.to_thread(relay.wait) == 0
        (told,) = await media_in(server)
        assert (told.call_id, told.media_reported.relay_id) == ("01CALL", relay.relay_id)
        assert told.media_reported.streams[0].packets == PACKETS


async def test_a_lost_instance_leaves_figures(
    server: RedisServer, relay: RelayProcess, phones: tuple[Phone, Phone]
) -> None:
    a, b = phones
    async with instance(relay, lease_s=1) as signaling:
        allocate = pb.AllocateRequest(call_id="01CALL", endpoints=[endpoint(A, a), endpoint(B, b)])
        await signaling.ask(allocate=allocate)
    await eventually_async(lambda: media_in(server))
    (told,) = await media_in(server)
    assert (told.call_id, told.source) == ("01CALL", f"media-relay/{relay.relay_id}")
    assert encode(told).data["streams"][0]["side"] == "caller"


async def eventually_async(condition: object) -> None:
    """Until a coroutine answers something."""
    async with asyncio.timeout(20):
        while not await condition():  # type: ignore[operator]
            await asyncio.sleep(0.02)
