"""From the octets of one connection to SIP messages and back, without I/O: what TCP, TLS and WebSocket share.

Pipes nest: TLS around SIP's own framing, TLS around WebSocket. A pipe keeps no time: whoever owns the connection
bounds how long `pending` may last.
"""

from __future__ import annotations

import enum
from typing import Final, Protocol

from pbx_sip.message.framing import KeepAlive, StreamFramer

CRLF: Final = b"\r\n"
PING: Final = b"\r\n\r\n"
"""A keep-alive of RFC 5626 section 4.4.1; CRLF alone answers it."""


class Failure(enum.Enum):
    """Why a pipe cannot go on; the values are labels of metrics."""

    HANDSHAKE = "handshake"
    """TLS or WebSocket could not be agreed upon."""
    FRAMING = "framing"
    """What came is no stream of messages."""


class Pipe(Protocol):
    """One connection's way in and out. After each call `outgoing` has what is to be written."""

    failure: Failure | None
    detail: str
    """What failed, for a log line."""

    @property
    def established(self) -> bool:
        """Whether handshakes are done, so that `send` reaches the peer."""

    @property
    def ended(self) -> bool:
        """Whether the peer said that nothing more comes."""

    @property
    def pending(self) -> bool:
        """Whether something has begun (a handshake, a record, a message) and its end has not come."""

    @property
    def completed(self) -> int:
        """How many handshakes, messages, keep-alive packets have come whole; where it grows, what is pending is new."""

    def receive(self, data: bytes) -> list[bytes]:
        """Takes octets in; the SIP messages that they complete. Never raises: see `failure`."""

    def send(self, message: bytes) -> None:
        """Takes a SIP message out."""

    def close(self) -> None:
        """Says goodbye."""

    def outgoing(self) -> bytes:
        """Octets to be written now."""


class SipPipe:
    """SIP's own framing by Content-Length, with CRLF between messages for keep-alive."""

    __slots__ = ("_framer", "_out", "completed", "detail", "failure")

    established = True
    ended = False

    def __init__(self) -> None:
        self.failure: Failure | None = None
        self.detail = ""
        self.completed = 0
        self._framer = StreamFramer()
        self._out = bytearray()

    @property
    def pending(self) -> bool:
        """See Pipe."""
        return bool(self._framer.pending)

    def receive(self, data: bytes) -> list[bytes]:
        """See Pipe; a ping is answered."""
        messages: list[bytes] = []
        for item in self._framer.receive(data):
            self.completed += 1
            if isinstance(item, bytes):
                messages.append(item)
            elif item is KeepAlive.PING:
                self._out += CRLF
        if self._framer.error is not None:
            self.failure, self.detail = Failure.FRAMING, str(self._framer.error)
        return messages

    def send(self, message: bytes) -> None:
        """See Pipe."""
        self._out += message

    def close(self) -> None:
        """See Pipe."""

    def outgoing(self) -> bytes:
        """See Pipe."""
        out, self._out = self._out, bytearray()
        return bytes(out)
