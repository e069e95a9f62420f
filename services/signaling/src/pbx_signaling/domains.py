"""Which hosts are ours, and the address-of-record that a URI means here, wherever it stands. Pure.

A telephone number is a user of ours where its phone-context is ours or none is named (RFC 3966 section 5.1.5). One of
another domain is nobody here: a look-up finds no such account.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pbx_signaling.border import wire
from pbx_sip.message.telephone import telephone_of
from pbx_sip.message.uri import Uri

ALIASES_MAX: Final = 64
"""Names for one domain; more is a mistake in the settings."""


def is_plain(uri: Uri) -> bool:
    """Whether a URI has nothing of a telephone number to it."""
    return uri.is_sip and "user" not in uri.params and ";" not in (uri.user or "")


@dataclass(frozen=True, slots=True)
class Domains:
    """Our domain, and the other names by which phones know it."""

    domain: str
    aliases: frozenset[str] = field(default_factory=frozenset)
    """In lower case."""

    def is_ours(self, host: str) -> bool:
        """Whether a host stands for our domain: its name, another name of it, or an address (phones are given any)."""
        host = host.lower().rstrip(".")
        return host == self.domain.lower() or host in self.aliases or host == "localhost" or wire.is_literal(host)

    def aor_of(self, uri: Uri) -> str:
        """The address-of-record that a URI means here. Raises ParseError (416) where it names a number and is none."""
        telephone = None if is_plain(uri) else telephone_of(uri)
        if telephone is not None:
            host = telephone.context or (uri.host.lower() if uri.is_sip else self.domain)
            user = telephone.number
        else:
            host, user = uri.host.lower(), uri.user_unescaped
        return f"{user}@{self.domain if self.is_ours(host) else host}"
