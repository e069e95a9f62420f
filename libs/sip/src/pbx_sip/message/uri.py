"""SIP, SIPS and other URIs (RFC 3261 section 19.1, RFC 3966).

SIP-URI = "sip:" [ userinfo ] hostport uri-parameters [ headers ]
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from pbx_sip.address import TRANSPORTS, HostPort, Transport
from pbx_sip.errors import ParseError
from pbx_sip.message.text import printable

MAX_URI: Final = 2_048
"""Characters. Threat: work per message; real URIs stay below 300."""
SECURED: Final = {Transport.TCP: Transport.TLS, Transport.WS: Transport.WSS}
"""What a transport parameter means in a SIPS URI (RFC 3261 section 26.2.2, RFC 7118 section 5.1)."""
_NEVER: Final = frozenset(' <>"')
"""Not in a SIP URI but escaped (RFC 3261 section 25.1); nor is what cannot be printed."""
_HOST: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
_IPV6: Final = frozenset("0123456789abcdefABCDEF:.%")
_PLAIN: Final = re.compile(
    r"(sips?):(?:([-A-Za-z0-9.!*_+'~%]+)@)?([A-Za-z0-9][-A-Za-z0-9.]*)(?::([1-9][0-9]{0,3}|[1-5][0-9]{4}))?"
    r"((?:;[-A-Za-z0-9.=]+)*)"
)
"""Scheme, user, host, port and parameters, as nearly all write them."""


@dataclass(slots=True)
class Uri:
    """A URI. For schemes other than sip and sips all behind the colon stands in `opaque`."""

    scheme: str
    user: str | None = None
    """As written, escapes kept."""
    password: str | None = None
    host: str = ""
    """Without the brackets of an IPv6 literal."""
    port: int | None = None
    params: dict[str, str | None] = field(default_factory=dict)
    headers: str = ""
    opaque: str = ""

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Reads a URI without angle brackets. Raises ParseError (416 where there is no scheme that we can name)."""
        if len(text) > MAX_URI:
            raise ParseError("URI too long", 414)
        plain = _PLAIN.fullmatch(text)
        if plain is not None:
            scheme, user, host, port, params = plain.groups()
            return cls(scheme, user, None, host, int(port) if port else None, _params(params.split(";")))
        return cls._parse(text)

    @classmethod
    def _parse(cls, text: str) -> Uri:
        """The same, of any text."""
        scheme, colon, rest = text.partition(":")
        scheme = scheme.lower()
        if not colon or not scheme or not scheme.isascii() or not scheme[0].isalpha():
            raise ParseError("URI without a scheme")
        if scheme not in ("sip", "sips"):
            return cls(scheme, opaque=rest)
        if not rest.isprintable() or not _NEVER.isdisjoint(rest):
            raise ParseError("URI with white space, brackets or control characters")
        rest, _, headers = rest.partition("?") if "@" not in rest.partition("?")[2] else (rest, "", "")
        userinfo, at, hostpart = rest.rpartition("@")
        user = password = None
        if at:
            user, has_password, secret = userinfo.partition(":")
            password = secret if has_password else None
            if not user:
                raise ParseError("URI with an empty user")
        hostport, *params = hostpart.split(";")
        host, port = _host_port(hostport)
        return cls(scheme, user, password, host, port, _params(params), headers)

    def __str__(self) -> str:
        """As on the wire."""
        if self.scheme not in ("sip", "sips"):
            return f"{self.scheme}:{self.opaque}"
        text = f"{self.scheme}:"
        if self.user is not None:
            text += self.user + (f":{self.password}" if self.password is not None else "") + "@"
        text += f"[{self.host}]" if ":" in self.host else self.host
        if self.port is not None:
            text += f":{self.port}"
        for name, value in self.params.items():
            text += f";{name}" if value is None else f";{name}={value}"
        return f"{text}?{self.headers}" if self.headers else text

    @property
    def is_sip(self) -> bool:
        """Whether it is a SIP or SIPS URI."""
        return self.scheme in ("sip", "sips")

    @property
    def user_unescaped(self) -> str:
        """The user with its escapes resolved, but those of control characters; empty: none. For tel: the number."""
        if not self.is_sip:
            return self.opaque.partition(";")[0]
        if self.user is None or "%" not in self.user:
            return self.user or ""
        return printable(unquote(self.user))

    @property
    def transport(self) -> Transport:
        """The transport that it asks for: its parameter, else TLS for sips and UDP for sip."""
        named = TRANSPORTS.get((self.params.get("transport") or "").lower())
        if named is None:
            return Transport.TLS if self.scheme == "sips" else Transport.UDP
        return SECURED.get(named, named) if self.scheme == "sips" else named

    @property
    def host_port(self) -> HostPort:
        """Where it points, with the default port of its transport."""
        return HostPort(self.host, self.port if self.port is not None else self.transport.default_port)


def request_target(text: str) -> str:
    """A URI as it may stand in a Request-URI: without headers, and without a method (RFC 3261 section 19.1.1, table 1).

    A Contact may have both; as headers of a request of ours they would say what its sender pleases. What is no SIP URI,
    or none at all, comes back as it is.
    """
    if "?" not in text and "method" not in text.lower():
        return text
    try:
        uri = Uri.parse(text)
    except ParseError:
        return text
    if not uri.is_sip:
        return text
    uri.headers = ""
    uri.params.pop("method", None)
    return str(uri)


def _host_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not host or not _IPV6.issuperset(host) or (rest and not rest.startswith(":")):
            raise ParseError("URI with a broken IPv6 literal")
        port, has_port = rest[1:], bool(rest)
    else:
        host, colon, port = text.partition(":")
        has_port = bool(colon)
        if not host or not _HOST.issuperset(host):
            raise ParseError("URI without a host")
    if not has_port:
        return host, None
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65535):
        raise ParseError("URI with a bad port")
    return host, int(port)


def _params(parts: list[str]) -> dict[str, str | None]:
    params: dict[str, str | None] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if name:
            params.setdefault(name.lower(), value if equals else None)
    return params
