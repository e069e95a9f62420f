"""The relay as a process of its own, found by its lease in Redis, and a signaling instance that talks to
it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import redis

from pbx.relay.v1 import relay_pb2 as pb
from pbx.relay.v1 import relay_pb2_grpc
from pbx_media_relay.endpoint import Endpoint
from pbx_runtime.batch_stream import BatchClient, Codec
from support.ports import free_block, give_back_block
from support.redis_server import RedisServer
from support.relay_rig import Phone
from support.waiting import until

START_S = 15
_PORTS = 800


@dataclass
class RelayProcess:
    """One relay process; its log is in `log`."""

    redis: RedisServer
    datapath: str = "python"
    shutdown_s: int = 6
    environment: dict[str, str] = field(default_factory=dict)
    relay_id: str = field(default_factory=lambda: f"r{random.randrange(10**9)}")
    ports: tuple[int, int] = field(default_factory=lambda: free_block(_PORTS))
    process: subprocess.Popen[bytes] | None = None
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="relay-")))

    def start(self) -> None:
        """Start it and wait for its lease."""
        with redis.Redis(unix_socket_path=str(self.redis.socket_path)) as client:
            client.delete(f"relay:lease:{self.relay_id}")
        environment = {
            "PBX_REDIS_URL": self.redis.url,
            "PBX_RELAY_ID": self.relay_id,
            "PBX_RELAY_BIND": "127.0.0.1,::1",
            "PBX_RELAY_PORTS": f"{self.ports[0]}-{self.ports[1]}",
            "PBX_GRPC_LISTEN": "127.0.0.1:0",
            "PBX_HTTP_LISTEN": "127.0.0.1:0",
            "PBX_DATAPATH": self.datapath,
            "PBX_DATA": str(self.directory),
            "PBX_SHUTDOWN_S": str(self.shutdown_s),
            **self.environment,
        }
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pbx_media_relay"], env={**os.environ, **environment}, stderr=log
            )
        until(lambda: self.process_died() or self.lease(), timeout_s=START_S, what="relay's lease")
        assert not self.process_died(), self.log

    def process_died(self) -> bool:
        """Whether it ended."""
        return self.process is not None and self.process.poll() is not None

    @property
    def log(self) -> str:
        """What it logged."""
        return (self.directory / "log").read_text()

    def lease(self) -> pb.RelayLease | None:
        """Its lease in Redis."""
        with redis.Redis(unix_socket_path=str(self.redis.socket_path)) as client:
            data = client.get(f"relay:lease:{self.relay_id}")
        return pb.RelayLease.FromString(data) if isinstance(data, bytes) else None

    def send(self, number: signal.Signals) -> None:
        """Signal it."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 15) -> int:
        """Its exit code."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def stop(self) -> None:
        """End it whatever it does, and remove what it wrote."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        shutil.rmtree(self.directory, ignore_errors=True)
        give_back_block(self.ports)


@contextlib.contextmanager
def relay_process(redis_: RedisServer, **more: Any) -> Iterator[RelayProcess]:
    """A running relay that ends with the block."""
    relay = RelayProcess(redis_, **more)
    try:
        relay.start()
        yield relay
    finally:
        relay.stop()


class Instance:
    """A signaling instance: one Session stream."""

    def __init__(
        self, address: str, instance_id: str = "s1", lease_s: int = 0, channel: grpc.aio.Channel | None = None
    ) -> None:
        self.channel = channel or grpc.aio.insecure_channel(address)
        self.stub = relay_pb2_grpc.RelayServiceStub(self.channel)
        self.events: list[pb.Event] = []
        self.statuses: list[pb.RelayStatus] = []
        hello = pb.Hello(instance_id=instance_id, lease_s=lease_s)
        codec: Codec[pb.Command, pb.Result] = Codec(
            make_request=lambda commands: pb.SessionRequest(commands=commands),
            results_of=lambda response: response.results,
            hello=lambda: pb.SessionRequest(hello=hello),
            on_response=self._response,
        )
        self.client = BatchClient("relay", self.open_session, codec)
        self.task = asyncio.ensure_future(self.client.run())

    def open_session(self) -> Any:
        """A new stream, without a word said on it."""
        return self.stub.Session()  # type: ignore[call-arg]  # grpc.aio takes writes instead of an iterator

    def _response(self, response: pb.SessionResponse) -> None:
        self.events.extend(response.events)
        if response.HasField("status"):
            self.statuses.append(response.status)

    async def ask(self, **command: Any) -> pb.Result:
        """Send one command and wait for its result."""
        return await self.client.submit(pb.Command(**command))

    async def heard(self, kind: str) -> pb.Event:
        """The first event of a kind, waited for."""
        for _ in range(500):
            for event in self.events:
                if event.WhichOneof("event") == kind:
                    return event
            await asyncio.sleep(0.02)
        raise AssertionError(f"no {kind} among {self.events}")

    async def close(self) -> None:
        """Break the stream."""
        self.task.cancel()
        await asyncio.wait({self.task})
        await self.channel.close(None)


@contextlib.asynccontextmanager
async def instance(relay: RelayProcess, **more: Any) -> AsyncIterator[Instance]:
    """A connected instance."""
    lease = relay.lease()
    assert lease is not None
    made = Instance(lease.grpc_address, **more)
    try:
        yield made
    finally:
        await made.close()


def endpoint(side: int, phone: Phone, **more: Any) -> pb.StreamEndpoint:
    """A phone's G.711 audio as signaling tells it."""
    pcmu = pb.PayloadType(number=0, encoding="PCMU", clock_rate_hz=8000, ptime_ms=20)
    address = pb.Address(host=phone.rtp.endpoint.host, port=phone.rtp.endpoint.port)
    more = {"media": pb.MEDIA_AUDIO, "rtp": address, "payload_types": [pcmu], **more}
    return pb.StreamEndpoint(side=side, **more)  # type: ignore[arg-type]


def local(response: pb.AllocateResponse, side: int, host: str = "127.0.0.1") -> Endpoint:
    """Where a side's audio is to be sent."""
    (port,) = [ports.rtp_port for ports in response.ports if ports.side == side and ports.media == pb.MEDIA_AUDIO]
    return Endpoint(host, port)
