"""Text of a peer as the rest of the world takes it.

Octets that are no UTF-8 live in our messages as lone surrogates (`parse`), so that they reach the other leg as they
came. Protobuf, JSON and databases refuse these.
"""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")


def utf8(text: str) -> str:
    """The text with U+FFFD in place of each octet that is no UTF-8 (RFC 3261 section 7.3.1 allows none; phones do)."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
