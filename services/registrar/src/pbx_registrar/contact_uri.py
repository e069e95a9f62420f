"""When two Contact URIs mean the same binding (RFC 3261 section 19.1.4). Pure.

The comparison of the RFC is no equivalence relation (a parameter that only one side has is ignored), so there is no
key to index by: bindings of one address-of-record are few and are compared one by one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from pbx_sip.errors import SipError
from pbx_sip.message.uri import Uri

ALWAYS_COMPARED: Final = ("transport", "user", "ttl", "method", "maddr")
"""Parameters that make URIs differ where only one of them has it (`transport`, as later practice has it, too)."""
PARSED_MAX: Final = 4_096
"""Parsed URIs kept: those of phones that refresh now."""


def same_contact(one: str, other: str) -> bool:
    """Whether two URIs name the same contact. URIs that cannot be read are equal only where their text is."""
    if one == other:
        return True
    left, right = _parsed(one), _parsed(other)
    if left is None or right is None or left.scheme != right.scheme:
        return False
    if not left.is_sip:
        return left.opaque.lower() == right.opaque.lower()
    return _same_address(left, right) and _same_parameters(left, right) and _headers(left) == _headers(right)


@lru_cache(PARSED_MAX)
def _parsed(text: str) -> Uri | None:
    try:
        return Uri.parse(text)
    except SipError:
        return None


def _same_address(left: Uri, right: Uri) -> bool:
    # "sip:x" and "sip:x:5060" differ: an omitted port is not its default here (RFC 3261 section 19.1.4).
    return (
        left.user_unescaped == right.user_unescaped
        and (left.user is None) == (right.user is None)
        and unquote(left.password or "") == unquote(right.password or "")
        and left.host.lower() == right.host.lower()
        and left.port == right.port
    )


def _same_parameters(left: Uri, right: Uri) -> bool:
    if any((name in left.params) != (name in right.params) for name in ALWAYS_COMPARED):
        return False
    common = left.params.keys() & right.params.keys()
    return all((left.params[name] or "").lower() == (right.params[name] or "").lower() for name in common)


def _headers(uri: Uri) -> list[str]:
    return sorted(unquote(part).lower() for part in uri.headers.split("&") if part)
