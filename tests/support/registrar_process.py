"""The registrar as a process of its own, and a signaling instance that talks to it over one stream."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio

from pbx.events.v1 import events_pb2
from pbx.registrar.v1 import registrar_pb2 as pb
from pbx.registrar.v1 import registrar_pb2_grpc
from pbx_runtime.batch_stream import BatchClient, Codec
from pbx_sip.address import network_of
from pbx_sip.auth.digest import Challenge, respond
from pbx_sip.auth.nonce import NonceMinter
from support.ports import free_port
from support.redis_server import RedisServer
from support.scrape import Metrics
from support.waiting import until

START_S = 30
TIMEOUT_S = 3.0
"""What signaling waits for an answer."""
DOMAIN = "pbx.local"
KEY = bytes(range(32))
NONCES = NonceMinter(KEY, os.urandom)


@dataclass
class RegistrarProcess:
    """One replica; replicas share `redis` and `data`."""

    redis: RedisServer
    data: Path
    environment: dict[str, str] = field(default_factory=dict)
    grpc_port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True) -> None:
        """Start it, and wait until it is ready (or, where that is not asked for, alive)."""
        environment = {
            "PBX_REDIS_URL": self.redis.url,
            "PBX_DATA": str(self.data),
            "PBX_DOMAIN": DOMAIN,
            "PBX_NONCE_KEY": KEY.hex(),
            "PBX_GRPC_LISTEN": f"127.0.0.1:{self.grpc_port}",
            "PBX_HTTP_LISTEN": f"127.0.0.1:{self.http_port}",
            "PBX_SHUTDOWN_S": "6",
            **self.environment,
        }
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pbx_registrar"], env={**os.environ, **environment}, stderr=log
            )
        path = "/readyz" if ready else "/healthz"
        until(lambda: self.died() or self.answers(path), timeout_s=START_S, what=f"registrar's {path}")
        assert not self.died(), self.log

    @property
    def log_path(self) -> Path:
        """Where it logs."""
        return self.data / f"registrar-{self.grpc_port}.log"

    @property
    def log(self) -> str:
        """What it logged."""
        return self.log_path.read_text()

    def died(self) -> bool:
        """Whether it ended."""
        return self.process is not None and self.process.poll() is not None

    def answers(self, path: str) -> bool:
        """Whether its HTTP says 200."""
        return self.status(path) == 200

    def status(self, path: str) -> int:
        """What its HTTP says; 0 where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=2) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    def metrics(self) -> Metrics:
        """Its metrics now."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=5) as response:
            return Metrics.parse(response.read().decode())

    def stop(self, timeout_s: float = 10) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


@contextlib.contextmanager
def registrar_process(redis: RedisServer, data: Path | None = None, **more: Any) -> Iterator[RegistrarProcess]:
    """A ready replica that ends with the block."""
    with contextlib.ExitStack() as stack:
        if data is None:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="registrar-")))
        replica = RegistrarProcess(redis, data, more)
        stack.callback(replica.kill)
        replica.start()
        yield replica


@contextlib.contextmanager
def registrar_pair(redis: RedisServer) -> Iterator[tuple[RegistrarProcess, RegistrarProcess]]:
    """Two registrars that share Redis and the database, started at once on an empty one; bindings may last a second."""
    with registrar_process(redis, PBX_MIN_EXPIRES_S="1") as one:
        second = RegistrarProcess(redis, one.data, {"PBX_MIN_EXPIRES_S": "1"})
        try:
            second.start()
            yield one, second
        finally:
            second.kill()


class Caller:
    """A signaling instance: stubs, one Session stream, and phones' requests."""

    def __init__(self, replica: RegistrarProcess) -> None:
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{replica.grpc_port}")
        self.registrar: Any = registrar_pb2_grpc.RegistrarServiceStub(self.channel)
        self.accounts: Any = registrar_pb2_grpc.AccountServiceStub(self.channel)
        codec: Codec[pb.Command, pb.Result] = Codec(
            make_request=lambda commands: pb.SessionRequest(commands=commands),
            results_of=lambda response: response.results,
        )
        open_stream: Any = self.registrar.Session
        self.client: BatchClient[pb.Command, pb.Result] = BatchClient("registrar", open_stream, codec)
        self.task = asyncio.ensure_future(self.client.run())

    async def ask(self, **command: Any) -> pb.Result:
        """Send one command and wait for its result."""
        return await self.client.submit(pb.Command(**command), timeout_s=TIMEOUT_S)

    async def put(self, user: str, password: str = "secret") -> pb.PutAccountResponse:
        """Create or replace an account."""
        return await self.accounts.PutAccount(pb.PutAccountRequest(user=user, password=password))  # type: ignore[no-any-return]

    async def register(self, user: str = "1004", **more: Any) -> pb.RegisterResponse:
        """Register over the stream; a failure of the registrar is an AssertionError."""
        result = await self.ask(register=register_request(user, **more))
        assert result.HasField("register"), result
        return result.register

    async def lookup(self, user: str = "1004") -> pb.LookupResponse:
        """Look up over the stream."""
        result = await self.ask(lookup=pb.LookupRequest(aor=f"{user}@{DOMAIN}"))
        assert result.HasField("lookup"), result
        return result.lookup

    async def close(self) -> None:
        """Break the stream."""
        self.task.cancel()
        await asyncio.wait({self.task})
        await self.channel.close(None)


@contextlib.asynccontextmanager
async def caller(replica: RegistrarProcess) -> AsyncIterator[Caller]:
    """A connected instance."""
    made = Caller(replica)
    try:
        yield made
    finally:
        await made.close()


_cseqs = itertools.count(1)


def credentials(
    user: str, password: str = "secret", *, method: str = "REGISTER", nonce: str = "", nc: int = 1, host: str = ""
) -> pb.AuthenticateRequest:
    """A digest response as signaling hands it on."""
    source = host or "192.0.2.4"
    challenge = Challenge(DOMAIN, nonce or NONCES.mint(time.time(), source), "SHA-256")
    value = respond(challenge, user, password, method, f"sip:{DOMAIN}", cnonce="c", nc=nc)
    return pb.AuthenticateRequest(
        method=method,
        authorization=str(value),
        aor=f"{user}@{DOMAIN}",
        source_host=source,
        nonce_source=network_of(source),
    )


def register_request(
    user: str,
    *,
    uri: str = "",
    expires_s: int = 600,
    flow: pb.Flow | None = None,
    proof: pb.AuthenticateRequest | None = None,
    **more: Any,
) -> pb.RegisterRequest:
    """A REGISTER with right credentials and a CSeq that only grows, unless told otherwise."""
    contact = pb.Contact(uri=uri or f"sip:{user}@192.0.2.4:5060", expires_s=expires_s, q_thousandths=1000)
    values: dict[str, Any] = {
        "aor": f"{user}@{DOMAIN}",
        "contacts": [contact],
        "call_id": f"reg-{user}",
        "cseq": next(_cseqs),
        "flow": flow or pb.Flow(transport=pb.TRANSPORT_UDP, host="192.0.2.4", port=5060, instance_id="s1"),
        "user_agent": "Phone/1.0",
        "credentials": proof or credentials(user),
    }
    return pb.RegisterRequest(**(values | more))


def outbox(redis: RedisServer) -> list[events_pb2.Event]:
    """All events written so far."""
    import redis as redis_py

    with redis_py.Redis(unix_socket_path=str(redis.socket_path)) as client:
        entries: Any = client.xrange("evt:outbox")
        return [events_pb2.Event.FromString(fields[b"e"]) for _, fields in entries]


def told(redis: RedisServer, kind: str, aor: str) -> int:
    """How often an event was told of an address-of-record."""
    events = [event for event in outbox(redis) if event.WhichOneof("payload") == kind]
    return sum(getattr(event, kind).aor == aor for event in events)
