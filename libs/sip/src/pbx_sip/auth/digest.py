"""HTTP digest as SIP uses it: RFC 3261 section 22, RFC 7616, RFC 8760 (MD5, SHA-256, SHA-512-256)."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pbx_sip.errors import ParseError
from pbx_sip.swift import swift

HASHES: Final = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
"""Algorithm tokens to the names of hashlib."""
STRONGEST_FIRST: Final = ("SHA-512-256", "SHA-256", "MD5")
QOPS: Final = ("auth", "auth-int", "none")
"""Qualities of protection that may be offered; "none" is never written, it lets credentials without qop be taken."""
MAX_CREDENTIALS: Final = 4_096
"""Characters of an Authorization value. Threat: work before anything is verified; real ones stay below 500."""


QUALITIES: Final = ("", "auth", "auth-int")
"""Of protection; the first is that of RFC 2069 and of phones that still go by it."""
_HEX: Final = frozenset("0123456789abcdefABCDEF")


def digest(algorithm: str, text: str) -> str:
    """The lower-case hex digest of a text. Raises ParseError for an algorithm that is not known."""
    name = HASHES.get(algorithm.upper())
    if name is None:
        raise ParseError(f"digest algorithm {algorithm[:16]!r}")
    return hashlib.new(name, text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()


def ha1(algorithm: str, user: str, realm: str, password: str) -> str:
    """H(A1): all that is ever stored of a password (RFC 7616 section 3.4.2)."""
    return digest(algorithm, f"{user}:{realm}:{password}")


@dataclass(frozen=True, slots=True)
class Challenge:
    """A value of WWW-Authenticate or Proxy-Authenticate."""

    realm: str
    nonce: str
    algorithm: str = "MD5"
    qop: tuple[str, ...] = ("auth",)
    stale: bool = False
    opaque: str = ""

    def __str__(self) -> str:
        """As on the wire."""
        text = f'Digest realm="{self.realm}", nonce="{self.nonce}", algorithm={self.algorithm}'
        if self.qop:
            text += f', qop="{",".join(self.qop)}"'
        if self.opaque:
            text += f', opaque="{self.opaque}"'
        return text + (", stale=true" if self.stale else "")

    @classmethod
    def parse(cls, value: str) -> Challenge:
        """Reads a challenge. Raises ParseError."""
        fields = _fields(value)
        return cls(
            realm=fields.get("realm", ""),
            nonce=fields.get("nonce", ""),
            algorithm=fields.get("algorithm", "MD5"),
            qop=tuple(part.strip() for part in fields.get("qop", "").split(",") if part.strip()),
            stale=fields.get("stale", "").lower() == "true",
            opaque=fields.get("opaque", ""),
        )


@swift
@dataclass(frozen=True, slots=True)
class Credentials:
    """A value of Authorization or Proxy-Authorization."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str = field(repr=False)
    algorithm: str = "MD5"
    cnonce: str = field(default="", repr=False)
    qop: str = ""
    """As it came: the response is a hash over the text (RFC 7616 section 3.4.1)."""
    nc: str = ""
    """The same."""
    opaque: str = ""

    @classmethod
    def parse(cls, value: str) -> Credentials:
        """Reads credentials. Raises ParseError where they are no digest or a needed field is missing."""
        if len(value) > MAX_CREDENTIALS:
            raise ParseError("credentials too long")
        fields = _fields(value)
        missing = {"username", "realm", "nonce", "uri", "response"} - fields.keys()
        if missing:
            raise ParseError(f"credentials without {', '.join(sorted(missing))}")
        qop, nc = fields.get("qop", ""), fields.get("nc", "")
        if qop and not (fields.get("cnonce") and len(nc) == 8 and _HEX.issuperset(nc)):
            raise ParseError("credentials with qop and without cnonce or nc")
        return cls(
            username=fields["username"],
            realm=fields["realm"],
            nonce=fields["nonce"],
            uri=fields["uri"],
            response=fields["response"].lower(),
            algorithm=fields.get("algorithm", "MD5").upper(),
            cnonce=fields.get("cnonce", ""),
            qop=qop,
            nc=nc,
            opaque=fields.get("opaque", ""),
        )

    @property
    def quality(self) -> str:
        """The quality of protection that `qop` names, in whatever case: "auth", "auth-int", or none."""
        return self.qop.lower()

    def __str__(self) -> str:
        """As on the wire."""
        text = (
            f'Digest username="{_escaped(self.username)}", realm="{self.realm}", nonce="{self.nonce}", '
            f'uri="{self.uri}", response="{self.response}", algorithm={self.algorithm}'
        )
        if self.qop:
            text += f', cnonce="{self.cnonce}", qop={self.qop}, nc={self.nc}'
        return text + (f', opaque="{self.opaque}"' if self.opaque else "")


def respond(
    challenge: Challenge,
    user: str,
    secret: str,
    method: str,
    uri: str,
    *,
    cnonce: str,
    nc: int = 1,
    body: bytes = b"",
) -> Credentials:
    """The credentials that answer a challenge; `secret` is the password."""
    qop = "auth" if "auth" in challenge.qop else "auth-int" if "auth-int" in challenge.qop else ""
    credentials = Credentials(
        username=user,
        realm=challenge.realm,
        nonce=challenge.nonce,
        uri=uri,
        response="",
        algorithm=challenge.algorithm.upper(),
        cnonce=cnonce if qop else "",
        qop=qop,
        nc=f"{nc:08x}" if qop else "",
        opaque=challenge.opaque,
    )
    hashed = ha1(challenge.algorithm, user, challenge.realm, secret)
    answer = _expected(credentials, hashed, method, body)
    return Credentials(
        *(answer if name == "response" else getattr(credentials, name) for name in Credentials.__dataclass_fields__)
    )


def verify(credentials: Credentials, hashed: str, method: str, body: bytes = b"") -> bool:
    """Whether credentials are right for H(A1) `hashed` of their algorithm; in constant time."""
    if credentials.algorithm not in HASHES or credentials.quality not in QUALITIES:
        return False
    expected = _expected(credentials, hashed, method, body)
    return hmac.compare_digest(expected.encode(), credentials.response.encode("utf-8", "surrogateescape"))


def _expected(credentials: Credentials, hashed: str, method: str, body: bytes) -> str:
    algorithm = credentials.algorithm
    a2 = f"{method}:{credentials.uri}"
    if credentials.quality == "auth-int":
        a2 += ":" + hashlib.new(HASHES[algorithm], body, usedforsecurity=False).hexdigest()
    ha2 = digest(algorithm, a2)
    if not credentials.qop:
        return digest(algorithm, f"{hashed}:{credentials.nonce}:{ha2}")
    middle = f"{credentials.nonce}:{credentials.nc}:{credentials.cnonce}:{credentials.qop}"
    return digest(algorithm, f"{hashed}:{middle}:{ha2}")


def account_of(username: str, realm: str) -> str:
    """The account that a digest's user name means: `user` or `user@realm`, as phones are set up either way."""
    user, at, domain = username.rpartition("@")
    return f"{user if at and user and domain.lower() == realm.lower() else username}@{realm}"


def select(values: Sequence[str], realm: str) -> str:
    """Of the values of Authorization the one that answers a challenge for a realm; empty where none does.

    Blank ones answer none: a phone's first request may only name its user (3GPP TS 24.229 5.1.1.2). What cannot be read
    and names the realm all the same is answered as it is: whoever verifies it says what is wrong.
    """
    broken = ""
    for value in values:
        if f'realm="{realm}"' in value and '""' not in value:
            return value  # as nearly all write it
        try:
            fields = _fields(value[: MAX_CREDENTIALS + 1])
        except ParseError:
            broken = broken or (value if realm in value else "")
            continue
        if fields.get("realm") == realm and fields.get("nonce") != "" and fields.get("response") != "":
            return value
    return broken


def _fields(value: str) -> dict[str, str]:
    scheme, *others = value.split(None, 1) or [""]  # any white space (LWS, RFC 3261 section 25.1)
    rest = others[0] if others else ""
    if scheme.lower() != "digest":
        raise ParseError("not a digest")
    if not _LIST.fullmatch(rest):
        raise ParseError("digest field that is none, or a quotation not closed")
    found = _FIELD.findall(rest)
    fields = {name.lower(): token.rstrip() or _unescaped(quoted) for name, quoted, token in found}
    if len(fields) != len(found):
        raise ParseError("digest field twice")
    return fields


# auth-param = token EQUAL ( token / quoted-string ), comma-separated (RFC 3261 section 25.1). Nothing in it can match
# the same text in two ways, so that a hostile value costs time in proportion to its length. Separators stand in the
# list alone: a search for fields that may begin with them would try again at each comma of a row.
_PARAM: Final = r'([^\s=,"]+)\s*=\s*(?:"([^"\\]*(?:\\.[^"\\]*)*)"\s*|([^\s",][^",]*))(?=,|$)'
_FIELD: Final = re.compile(_PARAM, re.DOTALL)
_LIST: Final = re.compile(rf"[\s,]*(?:{_PARAM}[\s,]*)*", re.DOTALL)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL) if "\\" in text else text


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
