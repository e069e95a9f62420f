"""Text of somebody else on its way to a terminal, a log or a spreadsheet: the last guard, whatever let it in.

`pbx_sip.message.text` keeps such characters out where calls come in; this is for what other doors bring (an endpoint's
answer, a file, records of a version before).
"""

from __future__ import annotations

import re
from typing import Final

INSTEAD: Final = "?"
_UNSAFE_SET: Final = (
    "\x00-\x1f\x7f\x80-\x9f"  # C0, DEL, C1: what terminals obey
    "\u2028\u2029"  # line and paragraph separator
    "\u202a-\u202e\u2066-\u2069"  # embeddings, overrides and isolates of direction: shown in another order than written
    "\u206a-\u206f\ufff9-\ufffb"  # deprecated format characters, interlinear annotation
    "\U000e0000-\U000e007f"  # tags: a text that nobody sees
    "\ud800-\udfff"  # lone surrogates: no text at all
)
_UNSAFE: Final = re.compile(f"[{_UNSAFE_SET}]")
_UNSAFE_BUT_LINES: Final = re.compile(f"(?![\t\n])[{_UNSAFE_SET}]")
FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet runs a cell for, and the full-width forms, which some take for the same (OWASP, CSV injection)."""


def printable(text: str) -> str:
    """One line, with `?` in place of each character that a terminal or a log would obey instead of show."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(INSTEAD, text)


def printable_lines(text: str) -> str:
    """The same for several lines: line ends and tabs stay."""
    return _UNSAFE_BUT_LINES.sub(INSTEAD, text)


def escaped_json(document: str) -> str:
    """A JSON document as it may be printed: such characters as \\u escapes, which mean the same."""
    if document.isascii() and "\x7f" not in document:
        return document
    return _UNSAFE_BUT_LINES.sub(_escape, document)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def cell(value: object) -> object:
    """A value as a cell of a CSV file: no control characters, and no formula."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip(" ?\u00a0\ufeff\u200b").startswith(FORMULA) else text
