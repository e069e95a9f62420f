"""SIP over TLS, WebSocket and IPv6 as `sip-pbx up` is asked for it: what is refused, and the settings made of it."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from pbx_cli.errors import CliError
from pbx_cli.up.addresses import advertised_addresses
from pbx_cli.up.certificate import self_signed
from pbx_cli.up.sip_ports import MorePorts, check_sip_ports
from pbx_runtime.address import Listen

ALL = MorePorts(
    ipv6=Listen("::", 5060),
    tls=Listen("0.0.0.0", 5061),
    ws=Listen("127.0.0.1", 8088),
    wss=Listen("::1", 8089),
    self_signed=True,
)
PEM = Path("cert.pem"), Path("key.pem")


def test_every_transport_is_served_on_both_families() -> None:
    settings = ALL.environment(PEM)
    assert settings == {
        "PBX_SIP_TLS_LISTEN": "0.0.0.0:5061,[::]:5061",
        "PBX_SIP_WS_LISTEN": "127.0.0.1:8088,[::]:8088",
        "PBX_SIP_WSS_LISTEN": "[::1]:8089",
        "PBX_SIP_TLS_CERT": "cert.pem",
        "PBX_SIP_TLS_KEY": "key.pem",
    }
    assert MorePorts().environment(None) == {}


@pytest.mark.parametrize(
    ("ports", "says"),
    [
        (MorePorts(tls=Listen("0.0.0.0", 5061)), "--tls-self-signed"),
        (MorePorts(wss=Listen("0.0.0.0", 5061)), "--tls-self-signed"),
        (MorePorts(tls=Listen("0.0.0.0", 5061), certificate=PEM[0]), "go together"),
        (MorePorts(ipv6=Listen("0.0.0.0", 5060)), "no IPv6 address"),
    ],
)
def test_what_does_not_go_together_is_told(ports: MorePorts, says: str) -> None:
    with pytest.raises(CliError, match=says):
        ports.check()


@pytest.mark.parametrize(
    ("ports", "says"),
    [
        (MorePorts(tls=Listen("0.0.0.0", 5060)), "--sip-tls: port 5060 is asked for twice"),
        (MorePorts(ws=Listen("0.0.0.0", 5071), wss=Listen("0.0.0.0", 5071)), "--sip-wss: port 5071 is asked for twice"),
        (MorePorts(ws=Listen("0.0.0.0", 31_000)), "--sip-ws: port 31000 lies inside"),
        (MorePorts(ws=Listen("0.0.0.0", 8080)), "--sip-ws: port 8080 is asked for twice"),
        (MorePorts(tls=Listen("0.0.0.0", 5061), ws=Listen("0.0.0.0", 5061)), "--sip-ws: port 5061"),
    ],
)
def test_ports_stand_apart(ports: MorePorts, says: str) -> None:
    taken = {8080: "--http", 5060: "--sip"}
    with pytest.raises(CliError, match=says):
        check_sip_ports(ports, taken, (30_000, 39_999))


def test_ports_of_both_families_do_not_collide() -> None:
    check_sip_ports(ALL, {5060: "--sip", 8080: "--http"}, (30_000, 39_999))


def test_one_address_of_each_family_is_told() -> None:
    four, six = Listen("127.0.0.1", 5060), Listen("::1", 5060)
    assert advertised_addresses("", four, six) == "127.0.0.1,::1"
    assert advertised_addresses("2001:db8::7, 192.0.2.7", four, six) == "192.0.2.7,2001:db8::7"
    assert advertised_addresses("192.0.2.7", four, None) == "192.0.2.7"
    with pytest.raises(CliError, match="more than one address"):
        advertised_addresses("192.0.2.7,192.0.2.8", four, six)
    with pytest.raises(CliError, match="more than one address"):
        advertised_addresses("192.0.2.7,2001:db8::7", four, None)


def test_a_self_signed_certificate_is_made_once_and_only_for_its_owner(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path, ["127.0.0.1", "::1", "pbx.local"])
    ssl.create_default_context().load_cert_chain(certificate, key)
    assert key.stat().st_mode & 0o777 == 0o600
    first = certificate.read_bytes()
    assert self_signed(tmp_path, ["127.0.0.1", "::1", "pbx.local"]) == (certificate, key)
    assert certificate.read_bytes() == first
    self_signed(tmp_path, ["192.0.2.7"])
    assert certificate.read_bytes() != first
