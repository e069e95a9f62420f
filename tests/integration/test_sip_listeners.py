"""The SIP ports made from settings: names, advertised addresses, metrics, and the certificate's files watched."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pbx_runtime.address import Listen
from pbx_signaling.router.addressing import Addressing
from pbx_signaling.settings import SignalingSettings
from pbx_signaling.transport import listeners as module
from pbx_signaling.transport.listeners import Listeners
from pbx_signaling.transport.observe import TransportCollector
from pbx_signaling.users.flows import RegisteredFlows
from pbx_sip.address import Flow, HostPort, Transport
from support import certificates


def settings(directory: Path, **changes: object) -> SignalingSettings:
    ca = certificates.authority(directory)
    server = certificates.signed(ca, directory)
    local = (Listen("127.0.0.1", 0), Listen("::1", 0))
    given: dict[str, object] = {
        "sip_listen": local,
        "sip_tls_listen": local,
        "sip_ws_listen": local[:1],
        "sip_wss_listen": local[1:],
        "sip_tls_cert": server.certificate,
        "sip_tls_key": server.key,
        "authenticate": False,
    }
    return SignalingSettings(**given | changes)  # type: ignore[arg-type]


def made(given: SignalingSettings, addressing: Addressing) -> Listeners:
    return Listeners(given, addressing, lambda data, flow: None, lambda flow: None, lambda flow: False)


async def test_every_port_is_open_named_and_advertised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RELOAD_S", 0.02)
    addressing = Addressing("s1")
    listeners = made(settings(tmp_path), addressing)
    await listeners.open()
    try:
        names = {"udp4", "tcp4", "udp6", "tcp6", "tls4", "tls6", "ws4", "wss6"}
        assert set(listeners.by_name) == set(addressing.listeners) == names
        assert addressing.listeners["udp4"].advertised == addressing.listeners["tcp4"].advertised
        assert addressing.listeners["tls6"].advertised.host == "::1"
        await _certificate_changes(listeners, tmp_path)
        await _metrics_tell(listeners, addressing)
    finally:
        listeners.close()
        await asyncio.sleep(0.01)


async def _certificate_changes(listeners: Listeners, directory: Path) -> None:
    certificates_in_force = listeners.certificates
    assert certificates_in_force is not None
    ca = certificates.Pem(directory / "ca.pem", directory / "ca.key")
    fresh = certificates.signed(ca, directory, "fresh")
    fresh.certificate.replace(directory / "server.pem")
    async with asyncio.timeout(5):
        while not listeners.reload_failures:
            await asyncio.sleep(0.01)
    fresh.key.replace(directory / "server.key")
    async with asyncio.timeout(5):
        while not certificates_in_force.reloads:
            await asyncio.sleep(0.01)


async def _metrics_tell(listeners: Listeners, addressing: Addressing) -> None:
    where = addressing.listeners["tls4"].advertised
    _, writer = await asyncio.open_connection(where.host, where.port)
    writer.write(b"no TLS at all")
    flows, registry = RegisteredFlows(), CollectorRegistry()
    registry.register(TransportCollector(listeners, flows))
    line = 'pbx_signaling_connections_closed_total{listener="tls4",reason="handshake"} 1.0'
    async with asyncio.timeout(5):
        while line not in generate_latest(registry).decode():
            await asyncio.sleep(0.01)
    writer.close()
    text = generate_latest(registry).decode()
    assert 'pbx_signaling_connections_accepted_total{listener="tls4"} 1.0' in text
    assert 'pbx_signaling_connections{listener="ws4"} 0.0' in text
    assert 'pbx_signaling_certificate_reloads_total{result="ok"} 1.0' in text


async def test_a_flow_of_no_listener_reaches_nobody(tmp_path: Path) -> None:
    listeners = made(settings(tmp_path), Addressing("s1"))
    flow = Flow(Transport.UDP, HostPort("127.0.0.1", 1), "gone4")
    assert not listeners.send(b"x", flow)


async def test_a_certificate_that_cannot_be_used_is_told_by_name(tmp_path: Path) -> None:
    given = settings(tmp_path)
    (tmp_path / "server.key").write_text("no key")
    with pytest.raises(OSError, match=r"cannot use the certificate .*server\.pem"):
        await made(given, Addressing("s1")).open()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sip_listen": "0.0.0.0:5060"}, "PBX_ADVERTISE is needed for 0.0.0.0:5060"),
        ({"sip_listen": "[::]:5060", "advertise": "192.0.2.1"}, "IPv6 address"),
        ({"sip_tls_listen": "127.0.0.1:5061"}, "PBX_SIP_TLS_CERT"),
        ({"sip_tls_client_certs": "required"}, "PBX_SIP_TLS_CLIENT_CA"),
        ({"sip_listen": ""}, "PBX_SIP_LISTEN names no address"),
    ],
)
def test_settings_that_do_not_go_together(changes: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SignalingSettings(authenticate=False, **{"sip_listen": "127.0.0.1:5060"} | changes)  # type: ignore[arg-type]


def test_one_address_of_each_family_is_advertised() -> None:
    given = SignalingSettings(
        authenticate=False,
        sip_listen="0.0.0.0:5060,[::]:5060",  # type: ignore[arg-type]
        advertise="192.0.2.1, 2001:db8::1",  # type: ignore[arg-type]
    )
    assert [given.advertised_for(listen) for listen in given.sip_listen] == ["192.0.2.1", "2001:db8::1"]
    named = SignalingSettings(authenticate=False, sip_listen="[::]:5060", advertise="pbx.example.org")  # type: ignore[arg-type]
    assert named.advertised_for(named.sip_listen[0]) == "pbx.example.org"


async def test_each_of_several_addresses_has_a_name_and_an_advertised_address_of_its_own(tmp_path: Path) -> None:
    local = (Listen("127.0.0.1", 0), Listen("127.0.0.2", 0), Listen("127.0.0.1", 0), Listen("::1", 0))
    given = settings(
        tmp_path,
        sip_listen=local,
        sip_tls_listen=(),
        sip_ws_listen=(),
        sip_wss_listen=(),
        advertise=("192.0.2.1", "192.0.2.2", "2001:db8::1"),
    )
    addressing = Addressing("s1")
    listeners = made(given, addressing)
    await listeners.open()
    try:
        hosts = {name: each.advertised.host for name, each in addressing.listeners.items() if name.startswith("udp")}
        assert hosts == {"udp4": "192.0.2.1", "udp2-4": "192.0.2.2", "udp3-4": "192.0.2.1", "udp6": "2001:db8::1"}
        bound = {name: each.address.host for name, each in listeners.by_name.items() if name.startswith("udp")}
        assert bound == {"udp4": "127.0.0.1", "udp2-4": "127.0.0.2", "udp3-4": "127.0.0.1", "udp6": "::1"}
        assert addressing.via(Flow(Transport.UDP, HostPort("192.0.2.9", 5060), "udp2-4"), "z").startswith(
            "SIP/2.0/UDP 192.0.2.2:"
        )
    finally:
        listeners.close()


@pytest.mark.parametrize(
    ("advertise", "hosts"),
    [
        ((), ("127.0.0.1", "127.0.0.2")),
        (("192.0.2.9",), ("192.0.2.9", "192.0.2.9")),
        (("192.0.2.9", "192.0.2.8"), ("192.0.2.9", "192.0.2.8")),
        (("pbx.example",), ("pbx.example", "pbx.example")),
    ],
)
def test_what_is_advertised_for_which_address(advertise: tuple[str, ...], hosts: tuple[str, ...]) -> None:
    listens = (Listen("127.0.0.1", 5060), Listen("127.0.0.2", 5060))
    given = SignalingSettings(authenticate=False, sip_listen=listens, advertise=advertise)
    assert tuple(given.advertised_for(listen) for listen in listens) == hosts


def test_fewer_advertised_than_listened_on_is_said_at_start() -> None:
    listens = tuple(Listen(f"127.0.0.{n}", 5060) for n in (1, 2, 3))
    with pytest.raises(ValueError, match="PBX_ADVERTISE"):
        SignalingSettings(authenticate=False, sip_listen=listens, advertise=("192.0.2.1", "192.0.2.2"))
