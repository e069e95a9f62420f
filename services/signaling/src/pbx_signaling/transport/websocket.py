"""SIP over WebSocket (RFC 7118): one SIP message a WebSocket message, sub-protocol `sip`. Servers only.

The sans-IO half of the websockets library does RFC 6455; here are its limits and SIP's meaning. Not a web server: any
other request is answered and the connection closed. Extensions (compression) are not offered: a message of a few
octets could grow without end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

from pbx_signaling.transport.pipe import CRLF, PING, Failure
from pbx_sip.message.parse import MAX_MESSAGE

SUBPROTOCOL: Final = Subprotocol("sip")
HANDSHAKE_MAX: Final = 16_384
"""Octets of the HTTP request. Threat: memory; browsers send one or two KiB, cookies included."""
_HEAD_END: Final = b"\r\n\r\n"
_DATA: Final = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class WebSocketPipe:
    """One WebSocket that carries SIP."""

    __slots__ = ("_message", "_out", "_partial", "_protocol", "completed", "detail", "ended", "failure")

    def __init__(self, origins: Sequence[str] = ()) -> None:
        """`origins`: pages that may connect, as browsers name them (`https://example.org`); none: all."""
        allowed = [Origin(origin) for origin in origins] or None
        self.failure: Failure | None = None
        self.detail = ""
        self.ended = False
        self.completed = 0
        """See Pipe. Control frames do not count: they may come between the fragments of a message."""
        self._protocol = ServerProtocol(origins=allowed, subprotocols=[SUBPROTOCOL], max_size=MAX_MESSAGE)
        self._message = bytearray()
        """Of the message in hand; before that, of the HTTP request."""
        self._partial = False
        """Whether octets came that completed nothing."""
        self._out = bytearray()

    @property
    def established(self) -> bool:
        """See Pipe."""
        return self._protocol.state is State.OPEN

    @property
    def pending(self) -> bool:
        """See Pipe."""
        return self._protocol.state is State.CONNECTING or self._partial

    def receive(self, data: bytes) -> list[bytes]:
        """See Pipe."""
        protocol = self._protocol
        if self.failure is not None or self.ended:
            return []
        if protocol.state is State.CONNECTING:
            data = self._shake(data)
            if not data:
                return []
        protocol.receive_data(data)
        messages: list[bytes] = []
        self._partial = True
        for event in protocol.events_received():
            assert isinstance(event, Frame)
            self._frame(event, messages)
        self._notice()
        return messages

    def send(self, message: bytes) -> None:
        """See Pipe; as text where it is text, which browsers expect (RFC 7118 section 5.2)."""
        if not self.established:
            return
        try:
            message.decode()
        except UnicodeDecodeError:
            self._protocol.send_binary(message)
        else:
            self._protocol.send_text(message)

    def close(self) -> None:
        """See Pipe."""
        if self.established:
            self._protocol.send_close(CloseCode.GOING_AWAY)

    def outgoing(self) -> bytes:
        """See Pipe."""
        for data in self._protocol.data_to_send():
            self._out += data
            self.ended = self.ended or not data  # the library's sign for the end of the stream
        out, self._out = self._out, bytearray()
        return bytes(out)

    def _shake(self, data: bytes) -> bytes:
        """Takes the HTTP request in, once it is whole; what stands behind it.

        The library is given no more than the request: frames that came with it would be read before it is accepted.
        """
        hello, protocol = self._message, self._protocol
        hello += data
        end = hello.find(_HEAD_END)
        if end < 0 or end > HANDSHAKE_MAX:
            if len(hello) > HANDSHAKE_MAX:
                self.failure, self.detail = Failure.HANDSHAKE, f"more than {HANDSHAKE_MAX} octets of HTTP"
            return b""
        end += len(_HEAD_END)
        protocol.receive_data(bytes(hello[:end]))
        for event in protocol.events_received():
            if isinstance(event, Request):
                protocol.send_response(protocol.accept(event))
        rest, self._message = bytes(hello[end:]), bytearray()
        self.completed += 1
        self._notice()
        return rest if self.established else b""

    def _frame(self, frame: Frame, messages: list[bytes]) -> None:
        """Puts the frames of a message together; one frame is the rule."""
        if frame.opcode not in _DATA:
            self._partial = bool(self._message)
            return
        self._message += frame.data
        if not frame.fin:
            return
        message, self._message = bytes(self._message), bytearray()
        self._partial = False
        self.completed += 1
        if message == PING:
            self._protocol.send_text(CRLF)
        elif message.strip(CRLF):
            messages.append(message)

    def _notice(self) -> None:
        """Takes note of what the library thinks of the peer."""
        protocol = self._protocol
        if protocol.handshake_exc is not None:
            self.failure, self.detail = Failure.HANDSHAKE, str(protocol.handshake_exc)
        elif protocol.parser_exc is not None:
            self.failure, self.detail = Failure.FRAMING, str(protocol.parser_exc) or type(protocol.parser_exc).__name__
        elif protocol.state in (State.CLOSING, State.CLOSED):
            self.ended = True
