"""Bytes to messages: headers left as text, hard limits.

Deliberately lenient where RFC 3261 lets a receiver be (bare LF line ends, white space before the colon) and strict
where leniency is dangerous (request smuggling by Content-Length, control characters in the start line).
What a message means is not checked here: `validate` does that for requests, and answers them.

Phones write the same lines over and over: what a plain line says is remembered, and a head of such lines is
read by looking them up. Every other head is read line by line. `tests/unit/sip/test_parse.py` lays both side by side.
"""

from __future__ import annotations

import re
from typing import Final

from pbx_sip.errors import LimitExceeded, ParseError
from pbx_sip.message.headers import _BY_SPELLING, Headers, canonical, first_values
from pbx_sip.message.message import METHODS, Message, Request, Response
from pbx_sip.message.remembered import Odd, Remembered, plain_text
from pbx_sip.message.text import readable

MAX_MESSAGE: Final = 65_535
"""Octets of a message: what one UDP datagram can carry; streams are held to it too. Threat: memory per message.
Asterisk stops at 64 KiB (PJSIP_MAX_PKT_LEN), Kamailio at 64 KiB."""
MAX_HEADERS: Final = 256
"""Header lines: a full-blown INVITE through ten proxies has about 60. Threat: quadratic look-ups."""
MAX_LINE: Final = 8_192
"""Octets of one header line, folded lines joined: STIR identities reach 2 KiB. Threat: slow scans."""

_VERSION: Final = "SIP/2.0"
_LINE_ENDS: Final = (b"\r", b"\n")
REMEMBERED: Final = 4_096
"""Plain header lines that are remembered; all are forgotten where one more comes. Threat: memory (1 MiB, at the longest
2). A call brings some 20 that are new, so that those which all calls have are learned again every 200 calls."""
_NAME: Final = re.compile(r"([-A-Za-z0-9.!%*_+`'~]+)[ \t]*")
_STATUSES: Final = {str(status): status for status in range(100, 700)}


def parse(data: bytes) -> Message:
    """Reads one whole datagram or framed message.

    Returns a Request or a Response. Raises ParseError where the start line or a header line cannot be read, where
    Content-Length is larger than what came (RFC 3261 section 18.3) or no number; LimitExceeded beyond a limit.
    Octets after Content-Length are dropped, as section 18.3 says for datagrams. So are line ends before the start line:
    section 7.5 wants that of streams, and what keeps a NAT open is sent before a datagram's message, too.
    """
    if len(data) > MAX_MESSAGE:
        raise LimitExceeded(f"message of {len(data)} octets", 513)
    if data[:1] in _LINE_ENDS:
        data = data.lstrip(b"\r\n")
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        head, body = _lenient_head(data)
    return _assemble(head, body)


def _plain_line(line: bytes) -> tuple[str, str]:
    """Name and value of a plain header line: ASCII without control characters, a token before the colon.

    A line that continues the one before is none, nor is one that is wrong.
    """
    text = plain_text(line)
    name, colon, value = text.partition(":")
    token = _NAME.fullmatch(name) if colon else None
    if token is None:
        raise Odd
    return canonical(token[1]), value.strip(" \t")


PLAIN_LINES: Final = Remembered(_plain_line, REMEMBERED)
"""What is remembered; belongs to no message and to no call."""


def _assemble(head: bytes, body: bytes) -> Message:
    first, *lines = head.split(b"\r\n")
    start = first.decode("utf-8", "surrogateescape")
    if len(head) > MAX_LINE or len(lines) >= MAX_HEADERS or not (start.isascii() and start.isprintable()):
        return _assemble_lines(head, body)
    try:
        items = list(map(PLAIN_LINES.__getitem__, lines))
    except Odd:
        return _assemble_lines(head, body)
    index = first_values(items)
    headers = Headers.of(items, index)
    length = index.get("Content-Length")
    if length is not None and length != str(len(body)):
        body = _cut(body, length)
    if len(index) != len(items):
        _check_lengths(headers)
    return _start(start, headers, body)


def _check_lengths(headers: Headers) -> None:
    if len(set(headers.all("Content-Length"))) > 1:
        raise ParseError("two different Content-Length headers")


def _assemble_lines(head: bytes, body: bytes) -> Message:
    """The same, line by line, of any head."""
    lines = readable(head).split("\r\n")
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1:
        # A bare CR or LF would come back out of a value that is copied into a response, as a header of its own.
        raise ParseError("a line end within a header line")
    if len(lines) > MAX_HEADERS:
        raise LimitExceeded(f"{len(lines)} header lines", 400)
    items: list[tuple[str, str]] = []
    add = items.append
    known = _BY_SPELLING.get
    length: str | None = None
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        field = known(name)
        if field is None or not colon:
            field = _unusual_name(name, colon, line, items)
            if field is None:
                continue
        value = value.strip(" \t")
        if field == "Content-Length":
            if length is not None and length != value:
                raise ParseError("two different Content-Length headers")
            length = value
        add((field, value))
        if len(line) > MAX_LINE:
            raise LimitExceeded(f"header line of {len(line)} characters", 400)
    if length is not None:
        body = _cut(body, length)
    return _start(lines[0], Headers(items), body)


def _lenient_head(data: bytes) -> tuple[bytes, bytes]:
    """Head and body of a message with bare LF line ends, or without the empty line (no body then)."""
    head, separator, body = data.partition(b"\n\n")
    if separator:
        return head.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), body
    if b"\n" not in data:
        raise ParseError("no line end")
    return data.replace(b"\r\n", b"\n").rstrip(b"\n").replace(b"\n", b"\r\n"), b""


def _unusual_name(name: str, colon: str, line: str, items: list[tuple[str, str]]) -> str | None:
    """The canonical name of a header line that the fast path did not know; None where it continued the line before."""
    if line[:1] in (" ", "\t"):
        if not items:
            raise ParseError("the first header line begins with white space")
        before, value = items[-1]
        value = f"{value} {line.strip()}".strip()
        if len(value) > MAX_LINE:
            raise LimitExceeded(f"folded header of {len(value)} characters", 400)
        items[-1] = (before, value)
        return None
    if not colon:
        raise ParseError("header line without a colon")
    stripped = name.rstrip(" \t")
    if not stripped or not stripped.isascii() or not _TOKEN.issuperset(stripped):
        raise ParseError("header name is no token")
    return canonical(stripped)


_TOKEN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%*_+`'~")
"""token = 1*(alphanum / "-" / "." / "!" / "%" / "*" / "_" / "+" / "`" / "'" / "~" ) (RFC 3261 section 25.1)."""


def _cut(body: bytes, length: str) -> bytes:
    if not (length.isascii() and length.isdigit() and len(length) <= 10):
        raise ParseError("Content-Length is no number")
    wanted = int(length)
    if wanted > len(body):
        raise ParseError(f"body of {len(body)} octets, Content-Length {wanted}")
    return body[:wanted]


def _start(line: str, headers: Headers, body: bytes) -> Message:
    first, _, rest = line.partition(" ")
    method = METHODS.get(first)
    if method is not None and rest[-8:] == " SIP/2.0" and rest.count(" ") == 1 and "\t" not in rest and rest[0] != " ":
        return Request(method, rest[:-8], headers, body)
    if first == _VERSION:
        status, _, reason = rest.partition(" ")
        number = _STATUSES.get(status)
        if number is None:
            raise ParseError("status line without a status")
        return Response(number, reason, headers, body)
    uri, _, version = rest.rpartition(" ")
    if not uri or not first or not _TOKEN.issuperset(first):
        raise ParseError("start line is neither a request line nor a status line")
    if version != _VERSION:
        if version[:4].upper() == "SIP/":
            raise ParseError(f"version {version[:16]!r}", 505)
        raise ParseError("start line is neither a request line nor a status line")
    if " " in uri or "\t" in uri:
        raise ParseError("white space in the Request-URI")
    return Request(first, uri, headers, body)
