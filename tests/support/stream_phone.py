"""Phones over connections: TCP, TLS, WebSocket. They trust every certificate: what is shown is asked for explicitly."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Callable

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

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


class WsPhone(TcpPhone):
    """A phone in a browser: its address means nothing (RFC 7118 section 5.2).

    One thread reads and writes: an SSLSocket that two threads use at once hangs now and then, and the library's own
    client uses two.
    """

    transport = "WS"
    contact_params = ";transport=ws"
    scheme = "ws"

    def _open(self, host: str, port: int) -> socket.socket:
        opened = self._connect(host, port)
        uri = WebSocketURI(self.scheme == "wss", self.server[0], self.server[1], "/", "")
        self._web = ClientProtocol(uri, subprotocols=[Subprotocol("sip")])
        self._web.send_request(self._web.connect())
        opened.sendall(b"".join(self._web.data_to_send()))
        while self._web.state is State.CONNECTING and (data := opened.recv(65_536)):
            self._web.receive_data(data)
        if self._web.handshake_exc is not None:
            raise self._web.handshake_exc
        self._frames = self._received()
        return opened

    def _connect(self, host: str, port: int) -> socket.socket:
        return super()._open(host, port)

    @property
    def sent_by(self) -> str:
        """A name that nobody can resolve."""
        return "df7jal23ls0d.invalid"

    def send(self, data: bytes) -> None:
        """Send a message to the server."""
        self._web.send_text(data)
        self._flush()

    def _flush(self) -> None:
        self.socket.sendall(b"".join(self._web.data_to_send()))

    def _next(self, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        while not self._frames:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self.socket.recv(65_536)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._web.receive_data(data)
            self._frames += self._received()
            self._flush()
        return bytes(self._frames.pop(0).data)

    def _received(self) -> list[Frame]:
        """Messages; the server sends each in one frame."""
        frames = (event for event in self._web.events_received() if isinstance(event, Frame))
        return [frame for frame in frames if frame.opcode in (Opcode.TEXT, Opcode.BINARY)]

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._web.send_close()
            self._flush()
        super().close()


class WssPhone(WsPhone):
    """The same over TLS."""

    transport = "WSS"
    scheme = "wss"

    def _connect(self, host: str, port: int) -> socket.socket:
        return insecure().wrap_socket(super()._connect(host, port))


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
