"""Bodies of several parts (RFC 2046 section 5.1, RFC 5621), read in place: what a part holds, and where it stands.

Nothing is copied and nothing is decoded: whoever changes one part leaves every octet of the others as it came.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pbx_sip.errors import LimitExceeded, ParseError
from pbx_sip.message.headers import split_semicolons

MAX_PARTS: Final = 16
"""Parts of a body, nested ones included. Threat: work per message; an emergency call has two or three."""
MAX_DEPTH: Final = 3
"""Bodies inside of one another (RFC 5621 section 4.1 wants nesting to be read). Threat: recursion without end."""
MAX_BOUNDARY: Final = 70
"""Characters of a boundary (RFC 2046 section 5.1.1)."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part that has no parts itself. Octets are counted from the begin of the whole body."""

    content_type: str
    """Media type in lower case, without parameters; "text/plain" where the part names none (RFC 2046 section 5.2)."""
    disposition: str
    """Disposition type in lower case, without parameters; empty where the part names none."""
    delimiter: int
    """Where the line end before the part's boundary stands: octets from here to `end` can be left out."""
    start: int
    """Its first octet after its header fields."""
    end: int
    """The octet after its last one: where the line end before the next boundary stands."""


def is_multipart(content_type: str) -> bool:
    """Whether a Content-Type value names a body of several parts."""
    return content_type.lstrip()[:10].lower() == "multipart/"


def parts_of(content_type: str, body: bytes) -> list[Part]:
    """The parts of `body`, a message's body of that Content-Type, in order; nested bodies are given by their parts.

    Raises ParseError for a Content-Type without a boundary, or a body in which the boundary begins no part or in
    which the last part does not end; LimitExceeded for too many or too deeply nested parts.
    """
    found: list[Part] = []
    _collect(content_type, body, 0, len(body), MAX_DEPTH, found)
    return found


def _collect(content_type: str, body: bytes, start: int, end: int, depth: int, found: list[Part]) -> None:
    if not depth:
        raise LimitExceeded(f"body parts nested more than {MAX_DEPTH} deep", 413)
    # A delimiter begins its line; a line of the part that only begins with its text is none (RFC 2046 section 5.1.1).
    pattern = rb"(?:^|\r?\n)--" + re.escape(_boundary(content_type)) + rb"(--)?[ \t]*(?=\r?\n|\Z)"
    delimiters = re.compile(pattern).finditer(body[start:end])
    before = next(delimiters, None)
    if before is None or before[1]:
        raise ParseError("a body of several parts without a part")
    for delimiter in delimiters:
        _collect_part(body, start + before.start(), start + before.end(), start + delimiter.start(), depth, found)
        if len(found) > MAX_PARTS:
            raise LimitExceeded(f"more than {MAX_PARTS} body parts", 413)
        if delimiter[1]:
            return
        before = delimiter
    raise ParseError("the last part of a body does not end")


def _collect_part(body: bytes, delimiter: int, start: int, end: int, depth: int, found: list[Part]) -> None:
    empty_line = _EMPTY_LINE.search(body, start, end)
    head, start = (body[start:end], end) if empty_line is None else (body[start : empty_line.start()], empty_line.end())
    content_type = disposition = ""
    for line in _FOLD.sub(b" ", head).decode("utf-8", "surrogateescape").split("\n"):
        name, _, value = line.partition(":")
        match name.strip().lower():
            case "content-type" | "c":
                content_type = value.strip()
            case "content-disposition":
                disposition = _bare(value)
            case _:
                pass
    if is_multipart(content_type):
        _collect(content_type, body, start, end, depth - 1, found)
    else:
        found.append(Part(_bare(content_type) or "text/plain", disposition, delimiter, start, end))


_EMPTY_LINE: Final = re.compile(rb"\r?\n\r?\n")
"""The line end of the boundary or of the last header field, and the empty line."""
_FOLD: Final = re.compile(rb"\r?\n[ \t]+")


def _bare(value: str) -> str:
    return value.partition(";")[0].strip().lower()


def _boundary(content_type: str) -> bytes:
    for parameter in split_semicolons(content_type)[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "boundary":
            text = value.strip()
            if len(text) > 1 and text[0] == text[-1] == '"':
                text = re.sub(r"\\(.)", r"\1", text[1:-1])
            if not 0 < len(text) <= MAX_BOUNDARY:
                raise ParseError("the boundary of a body has no legal length")
            return text.encode("utf-8", "surrogateescape")
    raise ParseError("a body of several parts without a boundary")
