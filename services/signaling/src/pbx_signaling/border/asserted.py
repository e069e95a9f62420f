"""Who the caller is for the callee: identities asserted between trusted peers (RFC 3325), and privacy (RFC 3323).

From is always ours: the account that was proved, or whom a trusted peer asserts, or nobody where the caller wants that.
P-Asserted-Identity is read from trusted peers and written to trusted peers alone. P-Preferred-Identity chooses among
the identities of a user (RFC 3325 section 9.2); an account has one, so it chooses nothing and never crosses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pbx_signaling.border.wire import quoted
from pbx_sip.errors import RemoteError
from pbx_sip.header.name_addr import NameAddr
from pbx_sip.message.headers import split_commas
from pbx_sip.message.uri import Uri
from pbx_sip.swift import swift

if TYPE_CHECKING:
    from pbx_signaling.calls.signals import Carried
    from pbx_sip.message.message import Message

ANONYMOUS: Final = '"Anonymous" <sip:anonymous@anonymous.invalid>'
"""From of a caller who is not to be known (RFC 3323 section 4.1.1.3)."""
ANONYMOUS_HOST: Final = "anonymous.invalid"
HIDING: Final = frozenset({"id", "user"})
"""Kinds of privacy that hide the caller's identity from the callee (RFC 3325 section 9.3, RFC 3323 section 5.3)."""
PROVIDED: Final = HIDING | {"header", "session", "history", "none", "critical"}
"""What we do anyhow: Via, Contact and addresses of media are ours on either leg, History-Info does not cross."""
PERSONAL: Final = frozenset({"subject", "organization", "reply-to", "call-info", "in-reply-to", "history-info"})
"""What does not cross where the caller asks for privacy of kind `user` (RFC 3323 section 5.3), in lower case."""
_NUMBER: Final = frozenset("+0123456789")
_USER_SAFE: Final = "!*'()&=+$,;?/"
"""What the user of a SIP URI may hold as it is, beside letters, digits and "-_.~" (RFC 3261 section 25.1)."""
_SEPARATORS: Final = str.maketrans("", "", "-.()")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of its sender."""

    asserted: tuple[NameAddr, ...] = ()
    """By a trusted peer: at most one SIP address and one telephone number."""
    privacy: tuple[str, ...] = ()
    """Kinds of privacy asked for, in order."""
    anonymous: bool = False
    """Its From names nobody."""

    @property
    def hides(self) -> bool:
        """Whether the callee is not to know who calls."""
        return self.anonymous or not HIDING.isdisjoint(self.privacy)

    def shown(self, carried: Carried) -> Carried:
        """Those of the header fields that cross which the caller's privacy leaves."""
        if "user" not in self.privacy:
            return carried
        return tuple(item for item in carried if item[0].lower() not in PERSONAL)


UNCLAIMED: Final = Claim()


@swift
@dataclass(frozen=True, slots=True)
class Presented:
    """The caller as one callee sees it."""

    from_value: str
    """From without its tag."""
    headers: Carried = ()
    """P-Asserted-Identity and Privacy, where the callee's peer is trusted."""


def claim_of(message: Message, claimed_host: str, *, trusted: bool) -> Claim:
    """Reads a request; `claimed_host` is that of its From, `trusted` whether its sender is."""
    headers = message.headers
    anonymous = claimed_host == ANONYMOUS_HOST
    privacy = privacy_of(message)
    asserted = asserted_in(message) if trusted and "P-Asserted-Identity" in headers else ()
    return Claim(asserted, privacy, anonymous) if asserted or privacy or anonymous else UNCLAIMED


def privacy_of(message: Message) -> tuple[str, ...]:
    """The kinds of privacy asked for, without repetitions; `none` among others says nothing (RFC 3323 4.2)."""
    if "Privacy" not in message.headers:
        return ()
    words = [word.strip().lower() for value in message.headers.all("Privacy") for word in value.split(";")]
    kinds = tuple(dict.fromkeys(word for word in words if word.isascii() and word.isalpha()))
    return tuple(kind for kind in kinds if kind != "none") or kinds


def insists_in_vain(privacy: tuple[str, ...]) -> bool:
    """Whether a caller insists on privacy of a kind that we do not know (RFC 3323 section 4.2)."""
    return "critical" in privacy and not PROVIDED.issuperset(privacy)


def asserted_in(message: Message) -> tuple[NameAddr, ...]:
    """The identities of P-Asserted-Identity: one SIP address and one telephone number (RFC 3325 section 9.1)."""
    found: dict[bool, NameAddr] = {}
    for value in message.headers.all("P-Asserted-Identity"):
        for element in split_commas(value):
            identity = _identity(element)
            if identity is not None:
                found.setdefault(identity.uri.startswith("tel:"), identity)
    return tuple(found.values())


def _identity(element: str) -> NameAddr | None:
    try:
        address = NameAddr.parse(element)
        uri = Uri.parse(address.uri)
    except RemoteError:
        return None
    if uri.is_sip:
        uri.password, uri.headers = None, ""
        return NameAddr(str(uri), address.display) if uri.user else None
    number = uri.user_unescaped.translate(_SEPARATORS)
    is_number = uri.scheme == "tel" and number and _NUMBER.issuperset(number)
    return NameAddr(f"tel:{number}", address.display) if is_number else None


def present(
    claim: Claim, user: str, name: str, domain: str, *, proved: bool, trusted: bool, own_name: str = ""
) -> Presented:
    """The caller for a callee's peer, which is `trusted` or not; `proved`: credentials showed that it is `user`.

    `own_name` is what the caller calls itself: shown where its account has no name, and never asserted.
    """
    address = quote(user, _USER_SAFE, errors="surrogateescape")
    own = _address(name, address, domain)
    if claim.hides:
        shown = ANONYMOUS
    else:
        shown = _from_of(claim.asserted[0], domain) if claim.asserted else _address(name or own_name, address, domain)
    if not trusted:
        return Presented(shown)
    identities = [str(identity) for identity in claim.asserted] or ([own] if proved else [])
    headers = [("P-Asserted-Identity", identity) for identity in identities]
    privacy = claim.privacy or (("id",) if claim.anonymous else ())
    if privacy:
        headers.append(("Privacy", ";".join(privacy)))
    return Presented(shown, tuple(headers))


def _from_of(identity: NameAddr, domain: str) -> str:
    """An asserted identity as From: under our domain, since what is behind the peer is not the callee's concern."""
    uri = Uri.parse(identity.uri)
    return _address(identity.display, uri.user or "" if uri.is_sip else uri.opaque, domain)


def _address(name: str, user: str, domain: str) -> str:
    prefix = f'"{quoted(name)}" ' if name else ""
    return f"{prefix}<sip:{user}@{domain}>"
