"""Text of a peer as the rest of the world takes it.

Octets that are no UTF-8 live in our messages as lone surrogates (`readable`), so that letters of other encodings reach
the other leg as they came. Protobuf, JSON and databases refuse these (`utf8`).

Threat: a phone writes what a terminal obeys (escape sequences, cursor movement), what ends a line of a log, or what
shows text in another order than it is written, into its name, its User-Agent, a reason; it would reach the other phone,
CDRs, webhooks, spreadsheets and the terminal of an administrator. RFC 3261 allows control characters in header fields
only behind a backslash in quotes; nobody needs them there.
"""

from __future__ import annotations

import re
from typing import Final

INSTEAD: Final = "?"
"""Stands where a control character stood. Left out, "al<NUL>ice" would become somebody's name."""
_CONTROLS: Final = bytes(octet for octet in range(32) if octet not in b"\t\r\n") + b"\x7f"
_TO_INSTEAD: Final = bytes.maketrans(_CONTROLS, INSTEAD.encode() * len(_CONTROLS))
_BEYOND_ASCII: Final = (
    "\x80-\x9f"  # C1
    "\u2028\u2029"  # line and paragraph separator
    "\u202a-\u202e\u2066-\u2069"  # embeddings, overrides and isolates of direction
    "\u206a-\u206f\ufff9-\ufffb"  # deprecated format characters, interlinear annotation
    "\U000e0000-\U000e007f"  # tags: a text that nobody sees
)
_UNSAFE_BEYOND_ASCII: Final = re.compile(f"[{_BEYOND_ASCII}]")
_UNSAFE: Final = re.compile(f"[\x00-\x1f\x7f{_BEYOND_ASCII}]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def readable(octets: bytes) -> str:
    """The octets of a head or a description as text: line ends and tabs stay, other control characters become `?`."""
    octets = octets.translate(_TO_INSTEAD)
    text = octets.decode("utf-8", "surrogateescape")
    return text if octets.isascii() else _UNSAFE_BEYOND_ASCII.sub(INSTEAD, text)


def printable(text: str) -> str:
    """One line of text with `?` in place of each control character, line end or tab, and U+FFFD as in `utf8`."""
    if text.isascii() and text.isprintable():
        return text
    return utf8(_UNSAFE.sub(INSTEAD, text))


def utf8(text: str) -> str:
    """The text with U+FFFD in place of each octet that is no UTF-8 (RFC 3261 section 7.3.1 allows none; phones do)."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
