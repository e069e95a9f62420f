"""The connections of the SIP ports over real sockets: certificates that change, peers that dawdle, limits that hold."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pbx_runtime.address import Listen
from pbx_signaling.transport.limits import Budget, Limits
from pbx_signaling.transport.listeners import SipPipes, TlsPipes, WebSocketPipes
from pbx_signaling.transport.stream import Closed, Pipes, StreamListener
from pbx_signaling.transport.tls import Certificates, TlsFiles
from pbx_sip.address import Flow, HostPort, Transport
from support import certificates
from support.ports import free_port

OPTIONS = b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKx\r\nContent-Length: 4\r\n\r\nbody"
SHORT = Limits(partial_s=0.2, first_message_s=0.4, idle_s=0.8, sweep_s=0.05, connect_s=0.5)


@dataclass
class Port:
    """A listener, and what it told."""

    listener: StreamListener
    address: tuple[str, int]
    received: list[tuple[bytes, Flow]]
    broken: list[Flow]
    kept: set[Flow] = field(default_factory=set)

    async def heard(self, count: int = 1) -> list[tuple[bytes, Flow]]:
        async with asyncio.timeout(5):
            while len(self.received) < count:
                await asyncio.sleep(0.005)
        return self.received

    async def closed(self, reason: Closed, count: int = 1) -> None:
        async with asyncio.timeout(5):
            while self.listener.closed[reason] < count or self.listener.connections:
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def serving(
    pipes: Pipes,
    limits: Limits = SHORT,
    *,
    transport: Transport = Transport.TCP,
    host: str = "127.0.0.1",
    budget: Budget | None = None,
) -> AsyncIterator[Port]:
    received: list[tuple[bytes, Flow]] = []
    broken: list[Flow] = []
    kept: set[Flow] = set()
    listener = StreamListener(
        "port",
        transport,
        Listen(host, 0),
        pipes,
        budget or Budget(limits),
        lambda data, flow: received.append((data, flow)),
        broken.append,
        lambda flow: flow in kept,
    )
    await listener.start()
    try:
        yield Port(listener, (listener.address.host, listener.address.port), received, broken, kept)
    finally:
        listener.close()
        await asyncio.sleep(0.01)


async def test_octet_by_octet_and_back_down_the_same_connection() -> None:
    async with serving(SipPipes(), replace(SHORT, partial_s=5)) as port:
        reader, writer = await asyncio.open_connection(*port.address)
        for octet in b"\r\n\r\n" + OPTIONS:
            writer.write(bytes([octet]))
            await writer.drain()
            await asyncio.sleep(0)
        ((data, flow),) = await port.heard()
        assert data == OPTIONS
        assert await reader.readexactly(2) == b"\r\n"
        assert port.listener.send(b"answer", flow)
        assert await reader.readexactly(6) == b"answer"
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(2):
            while not port.broken:
                await asyncio.sleep(0.005)
        assert port.broken == [flow]
        assert not port.listener.send(b"too late", flow)


async def test_slow_loris_is_cut_off() -> None:
    async with serving(SipPipes(), replace(SHORT, first_message_s=9, idle_s=9)) as port:
        reader, writer = await asyncio.open_connection(*port.address)

        async def dawdle() -> None:
            with contextlib.suppress(ConnectionError):
                for octet in OPTIONS:
                    writer.write(bytes([octet]))
                    await writer.drain()
                    await asyncio.sleep(0.05)

        task = asyncio.create_task(dawdle())
        await port.closed(Closed.SLOW)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        await task
        writer.close()
        assert not port.received


@pytest.mark.parametrize("pipes", ["tls", "ws"])
async def test_a_handshake_that_is_never_made_is_cut_off(pipes: str, tmp_path: Path) -> None:
    made = TlsPipes(certified(tmp_path)) if pipes == "tls" else WebSocketPipes((), None)
    async with serving(made, replace(SHORT, first_message_s=9, idle_s=9)) as port:
        _, writer = await asyncio.open_connection(*port.address)
        await port.closed(Closed.SLOW)
        writer.close()


async def test_connections_that_are_only_held_are_closed_and_registered_ones_kept() -> None:
    async with serving(SipPipes()) as port:
        _, silent = await asyncio.open_connection(*port.address)
        await port.closed(Closed.SILENT)
        _, idle = await asyncio.open_connection(*port.address)
        _, registered = await asyncio.open_connection(*port.address)
        registered.write(OPTIONS)
        ((_, flow),) = await port.heard()
        port.kept.add(flow)
        idle.write(OPTIONS)
        await port.heard(2)
        async with asyncio.timeout(5):
            while port.listener.connections > 1:
                await asyncio.sleep(0.01)
        assert port.listener.closed[Closed.IDLE] == 1
        assert port.listener.send(b"still there", flow)
        port.kept.clear()
        await port.closed(Closed.IDLE, 2)
        for writer in (silent, idle, registered):
            writer.close()


async def test_limits_hold_per_source_and_over_all_listeners() -> None:
    budget = Budget(replace(SHORT, connections_max=3, per_source_max=2, first_message_s=9, idle_s=9))
    async with serving(SipPipes(), budget=budget) as four, serving(SipPipes(), host="::1", budget=budget) as six:
        pairs = [await asyncio.open_connection(*port.address) for port in (four, four, four, six, six)]
        async with asyncio.timeout(5):
            while four.listener.closed[Closed.LIMIT] + six.listener.closed[Closed.LIMIT] < 2:
                await asyncio.sleep(0.005)
        assert (four.listener.connections, six.listener.connections, budget.open) == (2, 1, 3)
        for _, writer in pairs:
            writer.close()
        async with asyncio.timeout(5):
            while budget.open:
                await asyncio.sleep(0.005)


async def test_a_peer_that_reads_nothing_is_cut_off() -> None:
    async with serving(SipPipes(), replace(SHORT, unsent_max=65_536, first_message_s=9, idle_s=9)) as port:
        _, writer = await asyncio.open_connection(*port.address, limit=1024)
        writer.write(OPTIONS)
        ((_, flow),) = await port.heard()
        async with asyncio.timeout(5):
            while port.listener.send(b"x" * 65_536, flow):
                await asyncio.sleep(0)
        await port.closed(Closed.UNSENT)
        writer.close()


async def test_garbage_is_counted_by_what_it_breaks(tmp_path: Path) -> None:
    async with serving(SipPipes()) as tcp, serving(TlsPipes(certified(tmp_path)), transport=Transport.TLS) as tls:
        for port, reason in ((tcp, Closed.FRAMING), (tls, Closed.HANDSHAKE)):
            reader, writer = await asyncio.open_connection(*port.address)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await port.closed(reason)
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()


async def test_requests_wait_for_the_connection_that_is_made_for_them_and_share_it() -> None:
    async with serving(SipPipes()) as ours, serving(SipPipes()) as theirs:
        flow = Flow(Transport.TCP, HostPort(*theirs.address), "port")
        assert ours.listener.send(OPTIONS, flow)
        assert ours.listener.send(OPTIONS, flow)
        assert [data for data, _ in await theirs.heard(2)] == [OPTIONS, OPTIONS]
        assert ours.listener.send(OPTIONS, flow)
        await theirs.heard(3)
        assert theirs.listener.accepted == 1
        theirs.listener.close()
        async with asyncio.timeout(2):
            while flow not in ours.broken:
                await asyncio.sleep(0.005)


async def test_what_cannot_be_reached_is_told_at_once() -> None:
    async with serving(SipPipes()) as port:
        flow = Flow(Transport.TCP, HostPort("127.0.0.1", free_port()), "port")
        assert port.listener.send(OPTIONS, flow)
        async with asyncio.timeout(2):
            while not port.broken:
                await asyncio.sleep(0.005)
        assert port.broken == [flow]
        assert port.listener.connect_failures == 1
    async with serving(WebSocketPipes((), None), transport=Transport.WS) as web:
        assert not web.listener.send(OPTIONS, Flow(Transport.WS, HostPort("127.0.0.1", 9), "port"))


async def test_a_renewed_certificate_is_shown_to_new_peers_and_leaves_live_ones_alone(tmp_path: Path) -> None:
    made = certified(tmp_path)
    async with serving(TlsPipes(made), replace(SHORT, idle_s=9), transport=Transport.TLS) as port:
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        reader, writer = await asyncio.open_connection(*port.address, ssl=context)
        before = shown(writer)
        writer.write(OPTIONS)
        ((_, flow),) = await port.heard()
        ca = certificates.Pem(tmp_path / "ca.pem", tmp_path / "ca.key")
        fresh = certificates.signed(ca, tmp_path, "fresh")
        fresh.certificate.replace(tmp_path / "server.pem")
        fresh.key.replace(tmp_path / "server.key")
        assert made.reload_if_changed()
        _, second = await asyncio.open_connection(*port.address, ssl=context)
        assert shown(second) != before
        writer.write(OPTIONS)
        await port.heard(2)
        assert port.listener.send(b"answer", flow)
        assert await reader.readexactly(6) == b"answer"
        writer.close()
        second.close()


async def test_tls_is_made_to_a_peer_whose_certificate_is_trusted_and_to_no_other(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    made = certified(tmp_path)
    async with serving(TlsPipes(made), transport=Transport.TLS) as ours, serving(TlsPipes(made)) as friend:
        assert ours.listener.send(OPTIONS, Flow(Transport.TLS, HostPort(*friend.address), "port"))
        assert [data for data, _ in await friend.heard()] == [OPTIONS]
        async with serving(TlsPipes(certified(other))) as stranger:
            flow = Flow(Transport.TLS, HostPort(*stranger.address), "port")
            assert ours.listener.send(OPTIONS, flow)
            async with asyncio.timeout(2):
                while flow not in ours.broken:
                    await asyncio.sleep(0.005)
            assert ours.listener.closed[Closed.HANDSHAKE] == 1
            assert not stranger.received


def certified(directory: Path) -> Certificates:
    ca = certificates.authority(directory)
    server = certificates.signed(ca, directory)
    return Certificates(TlsFiles(server.certificate, server.key, trust=ca.certificate))


def shown(writer: asyncio.StreamWriter) -> object:
    return writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]


def test_a_trusted_peer_has_no_limit_of_its_own_but_that_of_all() -> None:
    """An edge proxy brings a whole office over one address."""
    budget = Budget(replace(SHORT, connections_max=4, per_source_max=2), lambda host: host == "192.0.2.1")
    assert [budget.take("192.0.2.9") for _ in range(3)] == [True, True, False]
    assert [budget.take("192.0.2.1") for _ in range(3)] == [True, True, False]
    budget.give("192.0.2.1")
    assert budget.take("192.0.2.1")
