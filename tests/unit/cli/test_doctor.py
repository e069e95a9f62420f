"""`sip-pbx doctor`: each check against what it is to notice."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pbx_cli import doctor
from pbx_cli.app import app
from pbx_cli.doctor import Verdict


def answering(reply: str) -> tuple[int, threading.Thread]:
    """A UDP server that answers one request; {via} becomes the request's Via."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.settimeout(5)

    def serve() -> None:
        with server:
            data, peer = server.recvfrom(65535)
            via = next(line for line in data.decode().splitlines() if line.startswith("Via:"))
            server.sendto(reply.format(via=via, port=peer[1]).encode(), peer)

    thread = threading.Thread(target=serve)
    thread.start()
    return server.getsockname()[1], thread


def test_sip_that_is_answered_tells_of_a_nat() -> None:
    port, thread = answering("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP x;received=203.0.113.5;rport=9;branch=b\r\n\r\n")
    found = doctor.check_sip("127.0.0.1", port, "UDP")
    thread.join()
    assert found.verdict is Verdict.OK
    assert "behind a NAT" in found.detail
    assert "203.0.113.5:9" in found.detail


def test_sip_without_a_nat() -> None:
    port, thread = answering("SIP/2.0 200 OK\r\n{via}\r\n\r\n")
    found = doctor.check_sip("127.0.0.1", port, "UDP")
    thread.join()
    assert found.verdict is Verdict.OK


def test_silence_and_refusal_and_nonsense_are_told_apart() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        assert "no answer" in doctor.check_sip("127.0.0.1", deaf.getsockname()[1], "UDP", timeout_s=0.05).detail
        free = deaf.getsockname()[1]
    assert "refuses" in doctor.check_sip("127.0.0.1", free, "TCP").detail
    port, thread = answering("HTTP/1.1 400 Bad Request\r\n\r\n")
    assert "does not speak SIP" in doctor.check_sip("127.0.0.1", port, "UDP").detail
    thread.join()


@pytest.mark.parametrize(
    ("address", "verdict"),
    [
        ("8.8.8.8", Verdict.OK),
        ("10.1.2.3", Verdict.WARN),
        ("0.0.0.0", Verdict.FAIL),
        ("127.0.0.1", Verdict.FAIL),
        ("fe80::1", Verdict.FAIL),
        ("no-such-host.invalid", Verdict.FAIL),
    ],
)
def test_an_advertised_address_is_judged(address: str, verdict: Verdict) -> None:
    assert doctor.check_advertise(address).verdict is verdict


def test_a_held_port_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        assert str(port) in doctor.check_ports(port, port, "127.0.0.1").detail


@pytest.mark.parametrize(
    ("used", "reserved", "verdict"),
    [
        ("32768\t60999", "", Verdict.WARN),
        ("32768\t60999", "30000-39999", Verdict.OK),
        ("50000\t60999", "", Verdict.OK),
        ("nonsense", "", Verdict.SKIP),
    ],
)
def test_ephemeral_ports(tmp_path: Path, used: str, reserved: str, verdict: Verdict) -> None:
    (tmp_path / "ipv4").mkdir()
    (tmp_path / "ipv4/ip_local_port_range").write_text(used)
    (tmp_path / "ipv4/ip_local_reserved_ports").write_text(reserved)
    assert doctor.check_ephemeral(30000, 39999, tmp_path).verdict is verdict


@pytest.mark.parametrize(("count", "verdict"), [("10", Verdict.OK), ("90", Verdict.FAIL), ("", Verdict.SKIP)])
def test_conntrack(tmp_path: Path, count: str, verdict: Verdict) -> None:
    (tmp_path / "netfilter").mkdir()
    (tmp_path / "netfilter/nf_conntrack_count").write_text(count)
    (tmp_path / "netfilter/nf_conntrack_max").write_text("100")
    assert doctor.check_conntrack(tmp_path).verdict is verdict


@pytest.mark.parametrize(("most", "verdict"), [("212992", Verdict.WARN), ("4194304", Verdict.OK)])
def test_buffers(tmp_path: Path, most: str, verdict: Verdict) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core/rmem_max").write_text(most)
    assert doctor.check_buffers(tmp_path).verdict is verdict


def test_node_ports() -> None:
    assert doctor.check_node_ports(30000, 39999).verdict is Verdict.WARN
    assert doctor.check_node_ports(32768, 39999).verdict is Verdict.OK


def test_the_command_names_the_broken_hop_and_fails() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    result = CliRunner().invoke(app, ["doctor", "--sip", f"127.0.0.1:{port}", "--no-tcp", "--no-node"])
    assert result.exit_code == 1
    assert "broken hop: SIP over UDP" in result.stdout


def test_the_command_answers_json() -> None:
    port, thread = answering("SIP/2.0 200 OK\r\n{via}\r\n\r\n")
    result = CliRunner().invoke(app, ["doctor", "--sip", f"127.0.0.1:{port}", "--no-tcp", "--no-node", "--json"])
    thread.join()
    assert result.exit_code == 0
    assert [finding["verdict"] for finding in json.loads(result.stdout)] == ["ok", "ok"]


@pytest.mark.parametrize("arguments", [["--sip", "host:notaport"], ["--relay-ports", "x"]])
def test_nonsense_is_refused(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["doctor", *arguments]).exit_code == 2
