"""Session descriptions (RFC 8866) as lines kept byte-faithfully, with typed views of what a B2BUA must know.

Read as plain devices write them: any line end, empty lines, a NUL at the end, `c=in ip4`, no `o=`, a refused stream
without formats. What is written again is lawful (`negotiate`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Final

from pbx_sip.errors import LimitExceeded, ParseError
from pbx_sip.message.remembered import Odd, Remembered, plain_text
from pbx_sip.message.text import INSTEAD, readable
from pbx_sip.swift import swift

_LONE_CR: Final = re.compile(r"\r(?!\n|\Z)")
"""A control character like any other, within a line."""
MAX_DESCRIPTION: Final = 32_768
"""Octets. Threat: work per message; a WebRTC offer with candidates has about 6 KiB."""
MAX_LINES: Final = 1_024
MAX_FORMATS: Final = 64
"""Payload types of one stream that are looked at."""
REMEMBERED: Final = 2_048
"""Plain lines that are remembered; all are forgotten where one more comes. Threat: memory (half a MiB at the longest).
A description brings some three that are new."""

STATIC: Final = {
    0: ("PCMU", 8000, 1),
    3: ("GSM", 8000, 1),
    4: ("G723", 8000, 1),
    5: ("DVI4", 8000, 1),
    8: ("PCMA", 8000, 1),
    9: ("G722", 8000, 1),
    10: ("L16", 44100, 2),
    11: ("L16", 44100, 1),
    13: ("CN", 8000, 1),
    15: ("G728", 8000, 1),
    18: ("G729", 8000, 1),
    26: ("JPEG", 90000, 1),
    31: ("H261", 90000, 1),
    32: ("MPV", 90000, 1),
    34: ("H263", 90000, 1),
}
"""Static payload types (RFC 3551 section 6)."""


@dataclass(frozen=True, slots=True)
class PayloadType:
    """One RTP payload type of a stream."""

    number: int
    encoding: str
    clock_rate_hz: int
    channels: int = 1
    ptime_ms: int = 0


@swift
@dataclass(frozen=True, slots=True)
class Rtcp:
    """Where RTCP goes (RFC 3605); `host` is empty where it is that of the stream."""

    host: str
    port: int


@dataclass(slots=True)
class MediaDescription:
    """One m= section: typed views over its lines."""

    kind: str
    """In lower case."""
    port: int
    proto: str
    """In upper case."""
    formats: list[str]
    """Empty only where the stream is refused."""
    lines: list[str]
    """The m= line and all that follow it, without line ends."""
    connection: str
    """Address in force: of its own c= line, else of the session's; empty where there is none."""
    session_direction: str

    def attribute(self, name: str) -> str | None:
        """The value of the first a=name; empty for a property attribute; None where there is none."""
        plain, valued = f"a={name}", f"a={name}:"
        for line in self.lines:
            if line == plain:
                return ""
            if line.startswith(valued):
                return line[len(valued) :].strip()
        return None

    @property
    def direction(self) -> str:
        """sendrecv, sendonly, recvonly or inactive."""
        for line in self.lines:
            if line in _DIRECTIONS:
                return line[2:]
        return self.session_direction

    @property
    def rtcp_mux(self) -> bool:
        """RTP and RTCP on one port (RFC 5761)."""
        return "a=rtcp-mux" in self.lines

    @property
    def rtcp(self) -> Rtcp:
        """Where RTCP goes where it has a port of its own; above 65535 there is none."""
        value = self.attribute("rtcp")
        if value is not None:
            port, *rest = value.split()[:4] or [""]
            if _is_port(port):
                return Rtcp(rest[2] if len(rest) == 3 else "", int(port))
        return Rtcp("", self.port + 1 if self.port else 0)

    @property
    def payload_types(self) -> tuple[PayloadType, ...]:
        """The RTP payload types in order of preference; those without a known mapping have an empty encoding."""
        maps = [line for line in self.lines if line.startswith("a=rtpmap:")]
        return _payload_types(tuple(self.formats[:MAX_FORMATS]), tuple(maps), self.attribute("ptime") or "")


@dataclass(slots=True)
class SessionDescription:
    """A session description: session lines, and m= sections."""

    lines: list[str]
    media: list[MediaDescription] = field(default_factory=list)

    @classmethod
    def parse(cls, data: bytes) -> SessionDescription:
        """Reads a description. Raises ParseError (400), LimitExceeded (413)."""
        if len(data) > MAX_DESCRIPTION:
            raise LimitExceeded(f"session description of {len(data)} octets", 413)
        lines = _lines(data)
        if len(lines) > MAX_LINES:
            raise LimitExceeded(f"session description of {len(lines)} lines", 413)
        if not lines or lines[0].strip() != "v=0":
            raise ParseError("session description without v=0")
        starts = [index for index, line in enumerate(lines) if line.startswith("m=")]
        description = cls(lines[: starts[0]] if starts else lines)
        direction = description.direction
        for start, end in pairwise([*starts, len(lines)]):
            description.media.append(_media(lines[start:end], description, direction))
        return description

    @property
    def connection(self) -> str:
        """The session's c= address; empty where there is none."""
        return _connection(self.lines) or ""

    @property
    def direction(self) -> str:
        """The session's direction; sendrecv where none is given."""
        return next((line[2:] for line in self.lines if line in _DIRECTIONS), "sendrecv")


_DIRECTIONS: Final = frozenset({"a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"})


def _plain_line(line: bytes) -> str:
    """A plain line as text: type and name of the attribute in lower case already."""
    text = plain_text(line)
    if text[1:2] != "=" or not text[0].islower():
        raise Odd
    if text[0] == "a":
        name = text.partition(":")[0]
        if not name.islower() or name[-1] in " \t":
            raise Odd
    return text


PLAIN_LINES: Final = Remembered(_plain_line, REMEMBERED)
"""What is remembered; belongs to no description and to no call."""


def _lines(data: bytes) -> list[str]:
    """The lines that say something: types and names of attributes in lower case. Raises ParseError where one is none.

    Phones describe their sessions in the same words each time: plain lines are looked up.
    """
    data = data.rstrip(b"\0\t\r\n ")
    try:
        return list(map(PLAIN_LINES.__getitem__, data.split(b"\r\n")))
    except Odd:
        return _any_lines(data)


def _any_lines(data: bytes) -> list[str]:
    """The same, of any lines."""
    text = readable(data)
    if text.count("\r") != text.count("\r\n"):
        text = _LONE_CR.sub(INSTEAD, text) if "\n" in text else text.replace("\r", "\n")
    text = text.replace("\r\n", "\n")
    lines = [line for line in text.split("\n") if line and not line.isspace()]
    for index, line in enumerate(lines):
        if not line[0].islower():
            line = line.lstrip()
            line = lines[index] = line[:1].lower() + line[1:]
        if line[0] == "a":
            name, colon, value = line.partition(":")
            if not name.islower() or name[-1].isspace():
                lines[index] = f"{name.lower().rstrip()}{colon}{value}"
    if len(lines) <= MAX_LINES and any(line[1:2] != "=" for line in lines):
        raise ParseError("session description with a line that is none")
    return lines


def _connection(lines: list[str]) -> str | None:
    for line in lines:
        if line.startswith("c="):
            parts = line[2:].split()
            if len(parts) < 3 or parts[0].upper() != "IN" or parts[1].upper() not in ("IP4", "IP6"):
                raise ParseError("c= that is none")
            return parts[2].partition("/")[0]
    return None


def _media(lines: list[str], session: SessionDescription, direction: str) -> MediaDescription:
    parts = lines[0][2:].split()
    if len(parts) < 3:
        raise ParseError("m= that is none")
    port = parts[1].partition("/")[0]
    if not _is_port(port):
        raise ParseError("m= with a bad port")
    if len(parts) == 3 and int(port):
        raise ParseError("a stream without formats")
    connection = _connection(lines[1:])
    address = session.connection if connection is None else connection
    if not address and int(port):
        raise ParseError("a stream without c=")
    kind, proto = parts[0].lower(), parts[2].upper()
    return MediaDescription(kind, int(port), proto, parts[3:], lines, address, direction)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535


@lru_cache(maxsize=256)
def _payload_types(formats: tuple[str, ...], maps: tuple[str, ...], ptime: str) -> tuple[PayloadType, ...]:
    """What formats, a=rtpmap lines and a=ptime say; phones say the same in each call."""
    encodings = {}
    for line in maps:
        number, _, encoding = line[9:].strip().partition(" ")
        encodings[number] = encoding.strip()
    ptime_ms = int(ptime) if ptime.isdecimal() and len(ptime) <= 4 else 0
    return tuple(
        _payload_type(int(number), encodings.get(number), ptime_ms)
        for number in formats
        if number.isdecimal() and len(number) <= 3 and int(number) <= 127
    )


def _payload_type(number: int, mapped: str | None, ptime_ms: int) -> PayloadType:
    if mapped is None:
        return PayloadType(number, *STATIC.get(number, ("", 8000, 1)), ptime_ms)
    encoding, _, rest = mapped.partition("/")
    rate, _, channels = rest.partition("/")
    return PayloadType(
        number,
        encoding,
        int(rate) if rate.isdecimal() and len(rate) <= 7 and int(rate) else 8000,
        int(channels) if channels.isdecimal() and len(channels) <= 2 else 1,
        ptime_ms,
    )
