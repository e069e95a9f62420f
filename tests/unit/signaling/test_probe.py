"""The readiness probe against sockets that answer, refuse, or lie."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pbx_signaling import probe


def answer_once(reply: bytes | None) -> tuple[int, threading.Thread]:
    """A UDP server for one datagram; `reply` None echoes the request as a 200."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.settimeout(5)

    def serve() -> None:
        with server:
            data, peer = server.recvfrom(65535)
            server.sendto(reply or b"SIP/2.0 200 OK\r\n" + data.split(b"\r\n", 1)[1], peer)

    thread = threading.Thread(target=serve)
    thread.start()
    return server.getsockname()[1], thread


def test_an_answer_is_ready() -> None:
    port, thread = answer_once(None)
    assert probe.main([f"127.0.0.1:{port}"]) == 0
    thread.join()


def test_something_else_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    port, thread = answer_once(b"hello")
    assert probe.main([f"127.0.0.1:{port}"]) == 1
    thread.join()
    assert "something else" in capsys.readouterr().err


def test_silence_is_not() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        assert "no answer" in probe.options("127.0.0.1", deaf.getsockname()[1], "t0", timeout_s=0.05)


@pytest.mark.parametrize(("status", "expected"), [(200, 0), (503, 1)])
def test_draining_is_not_ready(status: int, expected: int) -> None:
    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"draining")

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        port, answering = answer_once(None)
        assert probe.main([f"127.0.0.1:{port}", f"127.0.0.1:{server.server_port}"]) == expected
        thread.join()
        answering.join()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ["127.0.0.1:5060", "127.0.0.1:9112"]),
        (
            {"PBX_SIP_LISTEN": "0.0.0.0:5070,[::]:5070", "PBX_HTTP_LISTEN": "[10.1.2.3]:9112"},
            ["127.0.0.1:5070", "10.1.2.3:9112"],
        ),
        (
            {"PBX_SIP_LISTEN": "[::]:5060", "PBX_HTTP_LISTEN": "[2001:db8::3]:9112"},
            ["[::1]:5060", "[2001:db8::3]:9112"],
        ),
        ({"PBX_SIP_LISTEN": "192.0.2.1:5060", "PBX_HTTP_LISTEN": "0.0.0.0:1"}, ["192.0.2.1:5060", "127.0.0.1:1"]),
    ],
)
def test_without_arguments_it_asks_where_the_process_listens(environment: dict[str, str], expected: list[str]) -> None:
    assert probe.of_environment(environment) == expected


def test_what_is_no_address_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PBX_HTTP_LISTEN", "$(PBX_POD_IP)")
    assert probe.main([]) == 1
    assert "not HOST:PORT" in capsys.readouterr().err
