"""Services prove themselves to each other: the shared key, its rotation, unix sockets, and what refuses to start."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pbx_runtime import grpc_credentials
from pbx_runtime.address import SOCKET_PATH_MAX, Listen, UnixSocket, parse_place
from pbx_runtime.grpc_channel import OPTIONS, open_channel
from pbx_runtime.grpc_credentials import NAME, RELOAD_S, GrpcCredentials, identity_of, parse_keys
from pbx_runtime.grpc_server import serve_grpc
from pbx_runtime.lifecycle import Lifecycle
from pbx_runtime.settings import ServiceSettings, SettingsError
from support.eventually import eventually

KEY, OTHER = "a1" * 16, "b2" * 16
TIMEOUT_S = 3.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def ask(channel: grpc.aio.Channel) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)).status


async def is_refused(channel: grpc.aio.Channel) -> bool:
    try:
        await ask(channel)
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        await channel.close()
    return False


class Served:
    """A server in a lifecycle of its own."""

    def __init__(self, listen: Listen | UnixSocket, credentials: GrpcCredentials | None) -> None:
        self.life = Lifecycle("demo", 5)
        self.at: Listen | UnixSocket = listen
        self._credentials = credentials

    async def __aenter__(self) -> Served:
        async def main() -> None:
            self.at = await serve_grpc(self.life, self.at, credentials=self._credentials)

        self._task = asyncio.ensure_future(self.life.run(main))
        await eventually(lambda: self.life.health.is_ready)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.life.stop()
        assert await self._task == 0


async def test_who_holds_the_key_is_answered_at_whatever_address() -> None:
    async with Served(Listen("127.0.0.1", 0), GrpcCredentials(KEY)) as served:
        assert isinstance(served.at, Listen)
        for host in ("127.0.0.1", "localhost"):
            async with open_channel(f"{host}:{served.at.port}", GrpcCredentials(KEY)) as channel:
                assert await ask(channel) == health_pb2.HealthCheckResponse.SERVING


async def test_nobody_else_is_answered() -> None:
    strange = identity_of([OTHER])
    ours = identity_of([KEY])
    options = [*OPTIONS, ("grpc.ssl_target_name_override", NAME)]
    async with Served(Listen("127.0.0.1", 0), GrpcCredentials(KEY)) as served:
        at = str(served.at)
        without_certificate = grpc.ssl_channel_credentials(ours.roots)
        another_authority = grpc.ssl_channel_credentials(ours.roots, strange.key, strange.chain)
        assert await is_refused(grpc.aio.insecure_channel(at, options=OPTIONS))
        assert await is_refused(grpc.aio.secure_channel(at, without_certificate, options=options))
        assert await is_refused(grpc.aio.secure_channel(at, another_authority, options=options))
        assert await is_refused(open_channel(at, GrpcCredentials(OTHER)))


async def test_a_client_speaks_to_no_impostor() -> None:
    async with (
        Served(Listen("127.0.0.1", 0), GrpcCredentials(OTHER)) as impostor,
        Served(Listen("127.0.0.1", 0), None) as plain,
    ):
        assert await is_refused(open_channel(str(impostor.at), GrpcCredentials(KEY)))
        assert await is_refused(open_channel(str(plain.at), GrpcCredentials(KEY)))


async def test_a_key_is_changed_without_a_restart_and_without_breaking_what_runs(tmp_path: Path) -> None:
    file, clock = tmp_path / "key", Clock()
    file.write_text(KEY)
    server, client = GrpcCredentials(KEY, file, clock), GrpcCredentials(KEY, file, clock)
    async with (
        Served(Listen("127.0.0.1", 0), server) as served,
        open_channel(str(served.at), client) as channel,
    ):
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        file.write_text(f"{KEY},{OTHER}\n")  # the new key is known everywhere, and not shown yet
        clock.now += RELOAD_S
        assert await ask(channel) == health_pb2.HealthCheckResponse.SERVING
        file.write_text(f"{OTHER},{KEY}\n")
        clock.now += RELOAD_S
        assert await ask(channel) == health_pb2.HealthCheckResponse.SERVING
        async with open_channel(str(served.at), GrpcCredentials(OTHER)) as newcomer:
            assert await ask(newcomer) == health_pb2.HealthCheckResponse.SERVING
        file.write_text(OTHER)
        clock.now += RELOAD_S
        assert await ask(channel) == health_pb2.HealthCheckResponse.SERVING
        assert await is_refused(open_channel(str(served.at), GrpcCredentials(KEY))), "the former key is worth nothing"
        served.life.health.set("demo", False)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING, "the old stream stands"
        watch.cancel()


@pytest.mark.parametrize("content", ["", "short", None])
async def test_a_file_that_cannot_be_used_leaves_the_former_key(tmp_path: Path, content: str | None) -> None:
    file, clock = tmp_path / "key", Clock()
    credentials = GrpcCredentials(KEY, file, clock)
    before = credentials.current()
    if content is not None:
        file.write_text(content)
    clock.now += RELOAD_S
    assert credentials.current() == before


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (KEY, (KEY,)),
        (f" {KEY}\n{OTHER} ", (KEY, OTHER)),
        (f"{KEY}, {OTHER}", (KEY, OTHER)),
    ],
)
def test_keys_are_a_list(text: str, wanted: tuple[str, ...]) -> None:
    assert parse_keys(text) == wanted


@pytest.mark.parametrize("text", ["", " , ", "hunter2", f"{KEY},x", ",".join([KEY] * 5)])
def test_what_is_no_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"key|empty") as refused:
        parse_keys(text)
    assert not text.strip(" ,") or text not in str(refused.value)


async def test_a_unix_socket_is_its_owners_alone(tmp_path: Path) -> None:
    former = os.umask(0)
    try:
        async with Served(UnixSocket(str(tmp_path / "s.sock")), None) as served:
            assert stat.S_IMODE((tmp_path / "s.sock").stat().st_mode) == 0o600
            async with open_channel(str(served.at)) as channel:
                assert await ask(channel) == health_pb2.HealthCheckResponse.SERVING
    finally:
        os.umask(former)


async def test_a_socket_that_a_killed_process_left_is_no_obstacle(tmp_path: Path) -> None:
    import socket

    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with (
        Served(UnixSocket(str(path)), None) as served,
        # A key is for peers beyond the machine: over the socket nobody shows one.
        open_channel(str(served.at), GrpcCredentials(KEY)) as channel,
    ):
        assert await ask(channel) == health_pb2.HealthCheckResponse.SERVING


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"nowhere/s\.sock"):
        await serve_grpc(Lifecycle("demo", 5), UnixSocket(str(tmp_path / "nowhere" / "s.sock")))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("unix:/run/a.sock", UnixSocket("/run/a.sock")),
        ("unix:///run/a.sock", UnixSocket("/run/a.sock")),
        ("unix:/" + "a" * (SOCKET_PATH_MAX - 1), UnixSocket("/" + "a" * (SOCKET_PATH_MAX - 1))),
        ("[::1]:9", Listen("::1", 9)),
    ],
)
def test_places(text: str, wanted: Listen | UnixSocket) -> None:
    assert parse_place(text) == wanted
    assert parse_place(str(wanted)) == wanted


@pytest.mark.parametrize(
    "text", ["unix:a.sock", "unix://host/a", "unix:", "unix:/a\0b", "unix:/" + "ä" * 60, "/run/a", "9"]
)
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|absolute|longer"):
        parse_place(text)


class Demo(ServiceSettings):
    pass


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:9101", "[::]:9101", "192.0.2.1:9101", "[2001:db8::1]:9101", "registrar:9101"]
)
def test_a_port_that_others_reach_needs_a_key(monkeypatch: pytest.MonkeyPatch, listen: str) -> None:
    monkeypatch.setenv("PBX_GRPC_LISTEN", listen)
    with pytest.raises(SettingsError, match="PBX_GRPC_KEY"):
        Demo.load()
    monkeypatch.setenv("PBX_GRPC_INSECURE", "1")
    assert str(Demo.load().grpc_listen) == listen
    monkeypatch.delenv("PBX_GRPC_INSECURE")
    monkeypatch.setenv("PBX_GRPC_KEY", KEY)
    assert KEY not in repr(Demo.load())


@pytest.mark.parametrize("listen", ["127.0.0.1:9101", "[::1]:9101", "localhost:9101", "unix:/run/a.sock"])
def test_what_only_this_machine_reaches_needs_none(monkeypatch: pytest.MonkeyPatch, listen: str) -> None:
    monkeypatch.setenv("PBX_GRPC_LISTEN", listen)
    assert grpc_credentials.credentials_of(Demo.load()) is None


def test_a_bad_key_is_told_by_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2")
    monkeypatch.setenv("PBX_GRPC_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(SettingsError, match=r"PBX_GRPC_KEY: a key needs 32") as refused:
        Demo.load()
    assert "hunter2" not in str(refused.value)
