"""HTTP and gRPC servers of a process: health in both, metrics, error mapping, taken ports, the orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pbx.relay.v1 import relay_pb2 as pb
from pbx.relay.v1 import relay_pb2_grpc
from pbx_runtime import errors
from pbx_runtime.address import Listen
from pbx_runtime.grpc_channel import map_rpc_errors, open_channel
from pbx_runtime.grpc_server import STATUS_OF, serve_grpc
from pbx_runtime.health import CHECKS_MAX, Health
from pbx_runtime.http import serve_http, system_app
from pbx_runtime.lifecycle import Lifecycle
from pbx_runtime.metrics import Children, Counter, new_registry
from support.eventually import eventually

LOOPBACK = Listen("127.0.0.1", 0)


class Servicer(relay_pb2_grpc.RelayServiceServicer):
    """Raises what it is given, and streams what it is asked."""

    error: Exception | None = None

    async def GetStatus(self, request: Any, context: Any) -> Any:
        if self.error is not None:
            raise self.error
        return pb.GetStatusResponse(calls=7)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        yield pb.WatchResponse()
        if self.error is not None:
            raise self.error
        yield pb.WatchResponse()


class Process:
    """A lifecycle with both servers, as a service starts them."""

    def __init__(self) -> None:
        self.life = Lifecycle("demo", 5)
        self.servicer = Servicer()
        self.http = self.grpc = LOOPBACK

    async def main(self) -> None:
        self.http = await serve_http(self.life, system_app(self.life.health, self.life.registry), LOOPBACK)
        self.grpc = await serve_grpc(
            self.life, LOOPBACK, lambda s: relay_pb2_grpc.add_RelayServiceServicer_to_server(self.servicer, s)
        )


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    running = Process()
    task = asyncio.ensure_future(running.life.run(running.main))
    await eventually(lambda: running.life.health.is_ready)
    yield running
    running.life.stop()
    assert await task == 0


@contextlib.asynccontextmanager
async def stub_of(process: Process) -> AsyncIterator[Any]:
    async with open_channel(str(process.grpc)) as channel:
        yield relay_pb2_grpc.RelayServiceStub(channel)


async def test_health_over_http(process: Process) -> None:
    async with httpx.AsyncClient(base_url=f"http://{process.http}") as client:
        assert (await client.get("/readyz")).status_code == 200
        process.life.health.set("redis", False, "connection refused")
        ready = await client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["checks"]["redis"] == {"ok": False, "detail": "connection refused"}
        assert (await client.get("/healthz")).status_code == 200
        process.life.health.set_live(False)
        assert (await client.get("/healthz")).status_code == 503


async def test_metrics_over_http(process: Process) -> None:
    async with httpx.AsyncClient(base_url=f"http://{process.http}") as client:
        text = (await client.get("/metrics")).text
    for name in ("process_cpu_seconds_total", "pbx_gc_seconds_total", 'pbx_build_info{service="demo"'):
        assert name in text


async def test_health_over_grpc_check_and_watch(process: Process) -> None:
    async with open_channel(str(process.grpc)) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        process.life.health.set("redis", False)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        process.life.health.set("redis", True)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


@pytest.mark.parametrize("kind", STATUS_OF)
async def test_each_domain_error_crosses_the_wire_as_itself(process: Process, kind: type[errors.ServiceError]) -> None:
    process.servicer.error = kind("because")
    async with stub_of(process) as stub:
        with pytest.raises(errors.ServiceError) as caught, map_rpc_errors():
            await stub.GetStatus(pb.GetStatusRequest())
    assert type(caught.value) is kind
    assert caught.value.detail == "because"


async def test_a_bug_is_internal_and_tells_nothing(process: Process) -> None:
    process.servicer.error = ZeroDivisionError("secret detail")
    async with stub_of(process) as stub:
        with pytest.raises(errors.Internal) as caught, map_rpc_errors():
            await stub.GetStatus(pb.GetStatusRequest())
        assert caught.value.detail == "internal error"
        process.servicer.error = None
        assert (await stub.GetStatus(pb.GetStatusRequest())).calls == 7


async def test_a_stream_that_fails_in_the_middle_has_its_status(process: Process) -> None:
    process.servicer.error = errors.ResourceExhausted("enough")
    async with stub_of(process) as stub:
        watch = stub.Watch(pb.WatchRequest())
        await watch.read()
        with pytest.raises(errors.ResourceExhausted), map_rpc_errors():
            await watch.read()


async def test_calls_are_counted_by_method_and_code(process: Process) -> None:
    async with stub_of(process) as stub:
        await stub.GetStatus(pb.GetStatusRequest())
        process.servicer.error = errors.NotFound("x")
        with pytest.raises(grpc.RpcError):
            await stub.GetStatus(pb.GetStatusRequest())

    def count(code: str) -> float | None:
        labels = {"method": "/pbx.relay.v1.RelayService/GetStatus", "code": code}
        return process.life.registry.get_sample_value("pbx_grpc_server_calls_total", labels)

    assert (count("OK"), count("NOT_FOUND")) == (1, 1)


async def test_a_method_that_does_not_exist_is_unimplemented(process: Process) -> None:
    async with open_channel(str(process.grpc)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/no.Such/Method")(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_peer_that_is_not_there_is_unavailable() -> None:
    async with open_channel("127.0.0.1:1") as channel:
        stub: Any = relay_pb2_grpc.RelayServiceStub(channel)
        with pytest.raises(errors.Unavailable), map_rpc_errors():
            await stub.GetStatus(pb.GetStatusRequest(), timeout=2)


async def test_taken_ports_are_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = Listen("127.0.0.1", holder.getsockname()[1])
        life = Lifecycle("demo", 5)
        with pytest.raises(OSError, match=f"cannot listen on {taken}"):
            await serve_http(life, system_app(life.health, life.registry), taken)
        with pytest.raises(OSError, match=f"cannot listen on {taken}"):
            await serve_grpc(life, taken)


async def test_ipv6_listens() -> None:
    life = Lifecycle("demo", 5)

    async def main() -> None:
        listen = await serve_http(life, system_app(life.health, life.registry), Listen("::1", 0))
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://{listen}/healthz")).status_code == 200
        life.stop()

    assert await life.run(main) == 0
    assert life.failure is None


def test_health_checks_are_bounded() -> None:
    health = Health()
    for number in range(CHECKS_MAX):
        health.set(f"c{number}", True)
    health.set("c0", False)
    with pytest.raises(ValueError, match="one too many"):
        health.set("another", True)


def test_health_tells_of_changes_only() -> None:
    health, seen = Health(), []
    health.on_change(lambda: seen.append(health.is_ready))
    health.set("a", True)
    health.set("a", True)
    health.set("a", False)
    assert seen == [True, False]


class Outcome(enum.Enum):
    GOOD = "good"
    BAD = "bad"


def test_children_are_looked_up_once_and_exist_from_the_start() -> None:
    registry = new_registry("demo")
    counter = Counter("pbx_demo_things", "Things", ["outcome"], registry=registry)
    children = Children(counter, Outcome)
    children[Outcome.GOOD].inc()
    assert registry.get_sample_value("pbx_demo_things_total", {"outcome": "good"}) == 1
    assert registry.get_sample_value("pbx_demo_things_total", {"outcome": "bad"}) == 0
    with pytest.raises(KeyError):
        children["other"]
