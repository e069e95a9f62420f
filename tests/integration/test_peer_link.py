"""The link between replicas over real gRPC: order, a peer that goes, one that has no lease."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import grpc.aio
import pytest

from pbx.signaling.v1 import signaling_pb2_grpc
from pbx_runtime.redis_pipe import PipelinedRedis
from pbx_signaling.api.peer_link import PeerLinkService
from pbx_signaling.clients.peers import Peers
from pbx_signaling.replicas.peering import Carriage, at
from pbx_sip.address import Flow, HostPort, Transport

TLS = Flow(Transport.TLS, HostPort("2001:db8::1", 40_000), "tls6", 7)
Item = tuple[str, Carriage, bytes, Flow]


class FakeRedis:
    """Knows one lease."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def submit(self, *command: str) -> bytes | None:
        assert command == ("GET", "sig:inst:s2")
        return self.address.encode() if self.address else None


class Bench:
    """One replica that carries to another."""

    def __init__(self, address: str) -> None:
        self.broken: list[Flow] = []
        self.tasks: list[asyncio.Task[None]] = []
        redis = cast("PipelinedRedis", FakeRedis(address))
        self.peers = Peers("s1", redis, self.broken.append, self._start)

    def _start(self, link: Coroutine[Any, Any, None], name: str) -> None:
        self.tasks.append(asyncio.create_task(link, name=name))

    async def settled(self) -> None:
        """Every link has ended; none may have raised."""
        async with asyncio.timeout(10):
            await asyncio.gather(*self.tasks)


async def serving(received: list[Item]) -> tuple[grpc.aio.Server, str]:
    server = grpc.aio.server()
    service = PeerLinkService(lambda *item: received.append(item))
    signaling_pb2_grpc.add_PeerLinkServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


async def heard(received: list[Item], count: int) -> None:
    async with asyncio.timeout(10):
        while len(received) < count:
            await asyncio.sleep(0.005)


async def test_everything_arrives_in_order_and_a_peer_that_goes_breaks_its_flows() -> None:
    received: list[Item] = []
    server, address = await serving(received)
    bench = Bench(address)
    for number in range(1000):
        bench.peers.carry("s2", Carriage.SEND, str(number).encode(), TLS)
    await heard(received, 1000)
    assert received == [("s1", Carriage.SEND, str(number).encode(), TLS) for number in range(1000)]
    bench.peers.carry("s2", Carriage.BROKEN, b"", TLS)
    await heard(received, 1001)
    assert received[-1] == ("s1", Carriage.BROKEN, b"", TLS)
    assert len(bench.tasks) == 1, "one link"
    await server.stop(None)
    async with asyncio.timeout(10):
        while not bench.broken:  # the first may still leave before the end of the stream is known
            bench.peers.carry("s2", Carriage.SEND, b"x", TLS)
            await asyncio.sleep(0.02)
    assert set(bench.broken) == {at("s2", TLS)}
    await bench.settled()


@pytest.mark.parametrize("address", ["", "127.0.0.1:1"], ids=["no lease", "nobody there"])
async def test_a_peer_that_cannot_be_reached(address: str) -> None:
    bench = Bench(address)
    bench.peers.carry("s2", Carriage.SEND, b"x", TLS)
    bench.peers.carry("s2", Carriage.RECEIVED, b"x", TLS)
    await bench.settled()
    assert bench.broken == [at("s2", TLS)]
    assert bench.peers.dropped == 2
