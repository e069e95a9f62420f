"""Phones over connections: TCP, TLS, WebSocket. They trust every certificate: what is shown is asked for explicitly."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable

from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from support.phone import EXPECT_S, Phone

_LENGTH = re.compile(rb"(?im)^(?:content-length|l)[ \t]*: *(\d+)")


class TcpPhone(Phone):
    """A phone on one TCP connection."""

    transport = "TCP"
    contact_params = ";transport=tcp"

    def _open(self, host: str, port: int) -> socket.socket:
        self._buffer = b""
        return socket.create_connection(self.server, EXPECT_S, source_address=(host, port))

    def send(self, data: bytes) -> None:
        """Send octets to the server."""
        self.socket.sendall(data)

    def _next(self, timeout_s: float) -> bytes:
        """The next message; ConnectionError where there will be none."""
        deadline = time.monotonic() + timeout_s
        while (size := self._whole()) == 0:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self.socket.recv(65_536)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._buffer += data
        message, self._buffer = self._buffer[:size], self._buffer[size:]
        return message

    def _whole(self) -> int:
        """Octets of the first thing in the buffer; 0 where it is not whole."""
        if self._buffer.startswith(b"\r\n"):
            return 2
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return 0
        found = _LENGTH.search(self._buffer, 0, end + 2)
        size = end + 4 + (int(found[1]) if found else 0)
        return size if len(self._buffer) >= size else 0


class TlsPhone(TcpPhone):
    """A phone on one TLS connection."""

    transport = "TLS"
    contact_params = ";transport=tls"

    def _open(self, host: str, port: int) -> socket.socket:
        return insecure().wrap_socket(super()._open(host, port))


class WsPhone(Phone):
    """A phone in a browser: its address means nothing (RFC 7118 section 5.2)."""

    transport = "WS"
    contact_params = ";transport=ws"
    tls: ssl.SSLContext | None = None

    def _open(self, host: str, port: int) -> socket.socket:
        scheme = "ws" if self.tls is None else "wss"
        self._connecting = connect(
            f"{scheme}://{self.server[0]}:{self.server[1]}/",
            subprotocols=[Subprotocol("sip")],
            ssl=self.tls,
            proxy=None,
            compression=None,
        )
        self.web: ClientConnection = self._connecting.__enter__()
        return self.web.socket

    @property
    def sent_by(self) -> str:
        """A name that nobody can resolve."""
        return "df7jal23ls0d.invalid"

    def send(self, data: bytes) -> None:
        """Send a message to the server."""
        self.web.send(data, text=True)

    def _next(self, timeout_s: float) -> bytes:
        data = self.web.recv(timeout_s)
        return data.encode() if isinstance(data, str) else data

    def close(self) -> None:
        """Close the connection."""
        self._connecting.__exit__(None, None, None)


class WssPhone(WsPhone):
    """The same over TLS."""

    transport = "WSS"

    def _open(self, host: str, port: int) -> socket.socket:
        self.tls = insecure()
        return super()._open(host, port)


def insecure() -> ssl.SSLContext:
    """A context that trusts everybody."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


PHONES: dict[str, Callable[..., Phone]] = {
    "udp": Phone,
    "tcp": TcpPhone,
    "tls": TlsPhone,
    "ws": WsPhone,
    "wss": WssPhone,
}
