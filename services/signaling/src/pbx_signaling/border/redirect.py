"""Where a callee's 3xx points (RFC 3261 sections 8.1.3.4 and 21.3): users of our own domain alone.

A redirection elsewhere is not followed: a phone, or who speaks in its name, must not make this PBX call the world.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pbx_signaling.border import wire
from pbx_sip.errors import SipError
from pbx_sip.header.name_addr import NameAddr
from pbx_sip.message.headers import split_commas
from pbx_sip.message.message import Response
from pbx_sip.message.uri import Uri

if TYPE_CHECKING:
    from collections.abc import Callable

CONTACTS_MAX: Final = 8
"""Contacts of one response that are looked at. Threat: a list that keeps a caller waiting for hours."""


def users_named(response: Response, domain: str, means_us: Callable[[str], bool]) -> tuple[str, ...]:
    """Addresses-of-record of our domain that the Contacts of a 3xx name, by falling q; none of another response."""
    if not 300 <= response.status < 400:
        return ()
    values = [value for line in response.headers.all("Contact") for value in split_commas(line)]
    found: dict[str, float] = {}
    for value in values[:CONTACTS_MAX]:
        try:
            contact = NameAddr.parse(value)
            aor = _aor(Uri.parse(contact.uri), domain, means_us)
        except SipError:
            continue
        if aor:
            found.setdefault(aor, _q(contact))
    return tuple(sorted(found, key=lambda aor: -found[aor]))


def _aor(uri: Uri, domain: str, means_us: Callable[[str], bool]) -> str:
    host, user = uri.host.lower(), uri.user_unescaped
    if not user or uri.scheme not in ("sip", "sips"):
        return ""
    is_ours = host in (domain, "localhost") or (wire.is_literal(host) and means_us(host))
    return f"{user}@{domain}" if is_ours else ""


def _q(contact: NameAddr) -> float:
    try:
        return float(contact.params.get("q") or 1)
    except ValueError:
        return 0.0
