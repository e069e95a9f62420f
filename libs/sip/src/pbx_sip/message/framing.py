"""Messages out of a byte stream (TCP, TLS): by Content-Length, with the keep-alive of RFC 5626 between them.

RFC 3261 section 18.3: "The Content-Length header field MUST be used with stream oriented transports." A stream that
does not say where its messages end is given up: to guess would let a body be taken for the next request. So is one that
speaks another protocol (a scanner's GET, a TLS hello), with the first octets that show it. Line ends are CRLF here,
without the leniency that datagrams get. Deliberately no timers: the driver bounds how long `pending` may
stay above zero (slow senders) and how long a connection may be silent.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from pbx_sip.errors import LimitExceeded, ParseError, RemoteError
from pbx_sip.message.parse import MAX_MESSAGE

_CRLF: Final = b"\r\n"
_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\n(?:content-length|l)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
"""Content-Length in each spelling that `parse` knows; it begins with a literal, so that the scan is a search for it."""
_MAX_DIGITS: Final = 10
_METHOD: Final = rb"[A-Za-z0-9.!%*_+`'~-]{1,64}"
_START: Final = re.compile(rb"SIP/(?:\d|\Z)|" + _METHOD + rb"(?: |\Z)|\r?\Z")
"""What a start line begins with: a version, or a method and its space; \\Z where more octets may still make it one."""
_START_LINE: Final = re.compile(rb"SIP/\d.*|" + _METHOD + rb" .* SIP/\d[^ ]*[ \t]*", re.DOTALL)
"""A whole start line, of whatever version of SIP: another than 2.0 is answered 505."""
MAX_START_LINE: Final = 8_192
"""Octets of a start line. Threat: what never ends its first line, and is held until it does."""


class KeepAlive(enum.IntEnum):
    """Line ends between messages (RFC 5626 section 4.4.1)."""

    PONG = 1
    """One CRLF: the answer to a ping of ours, else nothing (RFC 3261 section 7.5: ignored)."""
    PING = 2
    """The second of two CRLFs in a row: to be answered with one. A PONG was told for the first of them: whether it is
    half a ping shows only later, and what is told must not depend on how the stream was cut."""


class StreamFramer:
    """Cuts one connection's stream into messages. What it returns does not depend on how the octets arrive."""

    __slots__ = ("_blank", "_buffer", "_checked", "_searched", "_wanted", "error")

    def __init__(self) -> None:
        self.error: RemoteError | None = None
        """Why the stream cannot be read any further; close the connection once the messages before it are handled."""
        self._buffer = bytearray()
        self._searched = 0
        """Where the search for the end of the head goes on."""
        self._wanted = 0
        """Octets of the message in hand, once its head is there."""
        self._blank = False
        """Whether a CRLF between messages came last."""
        self._checked = False
        """Whether the message in hand begins as one of SIP."""

    @property
    def pending(self) -> int:
        """Octets of an incomplete message."""
        return len(self._buffer)

    def receive(self, data: bytes) -> list[bytes | KeepAlive]:
        """Takes octets in and returns what they complete, in order. Never raises: see `error`."""
        found: list[bytes | KeepAlive] = []
        if self.error is not None:
            return found
        self._buffer += data
        try:
            while self._step(found):
                pass
        except RemoteError as error:
            self.error = error
            self._buffer.clear()
        return found

    def _step(self, found: list[bytes | KeepAlive]) -> bool:
        """Takes one thing out of the buffer; False where more octets are needed first."""
        buffer = self._buffer
        if not self._wanted:
            if buffer.startswith(_CRLF):
                found.append(KeepAlive.PING if self._blank else KeepAlive.PONG)
                self._blank = not self._blank
                del buffer[:2]
                return True
            if not self._checked:
                self._check_start()
            if not self._measure():
                return False
        if len(buffer) < self._wanted:
            return False
        found.append(bytes(buffer[: self._wanted]))
        del buffer[: self._wanted]
        self._wanted = self._searched = 0
        self._blank = self._checked = False
        return True

    def _check_start(self) -> None:
        """Raises ParseError as soon as what came cannot become a message: by its first octets, or by its first line."""
        buffer = self._buffer
        end = buffer.find(_CRLF, 0, MAX_START_LINE)
        if end < 0:
            if _START.match(buffer) is None or len(buffer) >= MAX_START_LINE:
                raise ParseError("a stream that is not SIP")
        elif _START_LINE.fullmatch(buffer, 0, end) is None:
            raise ParseError("a stream that is not SIP")
        else:
            self._checked = True

    def _measure(self) -> bool:
        """Finds the end of the head and with it the message's length; False where it has not come yet."""
        buffer = self._buffer
        end = buffer.find(_END, self._searched)
        if end < 0:
            if len(buffer) > MAX_MESSAGE:
                raise LimitExceeded(f"head of more than {MAX_MESSAGE} octets", 513)
            self._searched = max(0, len(buffer) - 3)
            return False
        wanted = end + 4 + _content_length(bytes(buffer[: end + 2]))
        if wanted > MAX_MESSAGE:
            raise LimitExceeded(f"message of {wanted} octets", 513)
        self._wanted = wanted
        return True


def _content_length(head: bytes) -> int:
    lengths = {value.rstrip(b" \t") for value in _LENGTH.findall(head)}
    if len(lengths) != 1:
        raise ParseError("two different Content-Length headers" if lengths else "no Content-Length in a stream")
    length = lengths.pop()
    if not length.isdigit() or len(length) > _MAX_DIGITS:
        raise ParseError("Content-Length is no number")
    return int(length)
