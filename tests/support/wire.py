"""SIP messages for black-box tests: text in, text out, with no part of the product in it.

Deliberately naive: it must be able to send what is wrong, and judges nothing. Digest is that of
RFC 2617 and RFC 7616 with qop=auth.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

CRLF = "\r\n"
_QUOTED = re.compile(r'(\w+)\s*=\s*(?:"([^"]*)"|([^,\s]+))')
_TAG = re.compile(r";\s*tag=([^;>\s]+)")
_ANGLE = re.compile(r"<([^>]*)>")
_SHORT = {
    "v": "via",
    "f": "from",
    "t": "to",
    "i": "call-id",
    "m": "contact",
    "l": "content-length",
    "c": "content-type",
}
_HASHES: dict[str, Callable[[bytes], Any]] = {
    "md5": hashlib.md5,
    "sha-256": hashlib.sha256,
    "sha-512-256": partial(hashlib.new, "sha512_256"),
}


@dataclass(frozen=True, slots=True)
class Message:
    """A request or response as it came; header names in lower case."""

    start: str
    headers: tuple[tuple[str, str], ...]
    body: str
    raw: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Message:
        """Split a datagram; a header without a colon gets an empty value."""
        head, _, body = raw.decode("utf-8", "replace").partition(CRLF * 2)
        start, *lines = head.split(CRLF)
        pairs = (line.partition(":") for line in lines)
        headers = tuple((_SHORT.get(n.strip().lower(), n.strip().lower()), v.strip()) for n, _, v in pairs)
        return cls(start, headers, body, raw)

    @property
    def status(self) -> int:
        """Status of a response; 0 for a request."""
        return int(self.start.split()[1]) if self.start.startswith("SIP/2.0 ") else 0

    @property
    def method(self) -> str:
        """Method of a request, or of the request that a response answers."""
        return self.get("cseq").split()[-1] if self.status else self.start.split()[0]

    def all(self, name: str) -> list[str]:
        """Values of a header, one for each line."""
        return [value for key, value in self.headers if key == name.lower()]

    def get(self, name: str) -> str:
        """The first value of a header; empty where there is none."""
        return next(iter(self.all(name)), "")

    def tag(self, name: str) -> str:
        """The tag of From or To; empty where there is none."""
        found = _TAG.search(self.get(name))
        return found[1] if found else ""

    def uri(self, name: str) -> str:
        """The URI between angle brackets, or what stands before the parameters."""
        found = _ANGLE.search(self.get(name))
        return found[1] if found else self.get(name).split(";")[0].strip()

    def sdp(self, prefix: str) -> list[str]:
        """Body lines that begin with the prefix, without it."""
        return [line[len(prefix) :] for line in self.body.splitlines() if line.startswith(prefix)]

    def __str__(self) -> str:
        return self.raw.decode("utf-8", "replace")


def render(start: str, headers: Iterable[tuple[str, str]], body: str = "") -> bytes:
    """A message with its Content-Length."""
    lines = [start, *(f"{name}: {value}" for name, value in headers), f"Content-Length: {len(body.encode())}"]
    return (CRLF.join(lines) + CRLF * 2 + body).encode()


def token(octets: int = 6) -> str:
    """A random token for tags, branches and Call-IDs."""
    return secrets.token_hex(octets)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name and password."""

    user: str
    password: str

    def answer(self, challenge: str, method: str, uri: str, *, count: int = 1) -> str:
        """The value of (Proxy-)Authorization that answers a challenge."""
        asked = {m[1].lower(): m[2] or m[3] for m in _QUOTED.finditer(challenge)}
        algorithm = asked.get("algorithm", "MD5")
        digest = _HASHES[algorithm.lower()]

        def hashed(*parts: str) -> str:
            return str(digest(":".join(parts).encode()).hexdigest())

        ha1, ha2 = hashed(self.user, asked["realm"], self.password), hashed(method, uri)
        fields = f'Digest username="{self.user}", realm="{asked["realm"]}", nonce="{asked["nonce"]}", uri="{uri}"'
        if "qop" in asked:
            cnonce, nc = token(), f"{count:08x}"
            response = hashed(ha1, asked["nonce"], nc, cnonce, "auth", ha2)
            fields += f', qop=auth, nc={nc}, cnonce="{cnonce}"'
        else:
            response = hashed(ha1, asked["nonce"], ha2)
        opaque = f', opaque="{asked["opaque"]}"' if "opaque" in asked else ""
        return f'{fields}, response="{response}", algorithm={algorithm}{opaque}'


def audio_sdp(port: int, *, host: str = "127.0.0.1", version: int = 1, extra: tuple[str, ...] = ("a=sendrecv",)) -> str:
    """An offer or answer with one G.711 stream."""
    family = "IP6" if ":" in host else "IP4"
    lines = (
        "v=0",
        f"o=phone 4711 {version} IN {family} {host}",
        "s=-",
        f"c=IN {family} {host}",
        "t=0 0",
        f"m=audio {port} RTP/AVP 0 8 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000",
        *extra,
    )
    return CRLF.join(lines) + CRLF
