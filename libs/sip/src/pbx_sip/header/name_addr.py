"""From, To, Contact, Route and their kind: a name, a URI and parameters (RFC 3261 section 20.10). The only such parser.

name-addr = [ display-name ] LAQUOT addr-spec RAQUOT
addr-spec without brackets: what follows its first semicolon are parameters of the header, not of the URI

A bracket inside of a quoted-string is text, wherever the quotation stands: in the name, or in a parameter behind a URI
without brackets (`sip:a@h;+sip.instance="<urn:x>"`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from pbx_sip.errors import ParseError
from pbx_sip.message.headers import split_semicolons

_PLAIN: Final = re.compile(r'(?:"([^"\\]*)"[ \t]*|([^"<>;:]*))<([^<>"\s]+)>([^"<>]*)')
"""Name, address in brackets and the rest, as nearly all write them: no quotation but the name, and none within it."""


@dataclass(slots=True)
class NameAddr:
    """A name-addr or addr-spec with its header parameters."""

    uri: str
    display: str = ""
    params: dict[str, str | None] = field(default_factory=dict)

    @classmethod
    def parse(cls, value: str) -> NameAddr:
        """Reads one value. Raises ParseError where brackets or quotes are not closed, or there is no URI."""
        value = value.strip()
        plain = _PLAIN.fullmatch(value)
        if plain is not None:
            quoted, words, uri, after = plain.groups()
            return cls(uri, quoted or (words or "").strip(), _params(split_semicolons(after)) if after else {})
        return cls._parse(value)

    @classmethod
    def _parse(cls, value: str) -> NameAddr:
        """The same, of any value without white space around it."""
        display = ""
        if value.startswith('"'):
            display, value = _quoted(value)
        left = unquoted(value, "<")
        if left >= 0 and ";" in value[:left] and _is_uri(value):
            raise ParseError("bracket in a parameter")
        if left < 0:
            if display:
                raise ParseError("display name without an address in brackets")
            uri, _, after = value.partition(";")
            uri, rest = uri.strip(), split_semicolons(after)
            if ">" in uri or '"' in uri:
                # In brackets, as we write it, it would end early: what follows would become parameters.
                raise ParseError("bracket not opened")
        else:
            right = value.find(">", left)
            if right < 0:
                raise ParseError("bracket not closed")
            display = display or value[:left].strip()
            uri = value[left + 1 : right].strip()
            rest = split_semicolons(value[right + 1 :])
        if not uri:
            raise ParseError("no URI")
        return cls(uri, display, _params(rest))

    def __str__(self) -> str:
        """As on the wire, the URI always in brackets."""
        name = self.display.replace("\\", "\\\\").replace('"', '\\"')
        text = f'"{name}" <{self.uri}>' if name else f"<{self.uri}>"
        for key, value in self.params.items():
            text += f";{key}" if value is None else f";{key}={value}"
        return text


def unquoted(value: str, char: str, start: int = 0) -> int:
    """Where a character stands first outside of quoted-strings; -1 where nowhere, or only in a quotation not closed."""
    if '"' not in value:
        return value.find(char, start)
    index, inside = start, False
    while index < len(value):
        here = value[index]
        if inside and here == "\\":
            index += 1
        elif here == '"':
            inside = not inside
        elif here == char and not inside:
            return index
        index += 1
    return -1


def _is_uri(value: str) -> bool:
    """Whether a value begins with a URI, not with a name."""
    return value.partition(":")[0].lower() in ("sip", "sips", "tel")


def _quoted(value: str) -> tuple[str, str]:
    """The text of a quoted-string at the start of a value, and what follows it."""
    out: list[str] = []
    index = 1
    while index < len(value):
        char = value[index]
        if char == "\\" and index + 1 < len(value):
            index += 1
            out.append(value[index])
        elif char == '"':
            return "".join(out), value[index + 1 :].strip()
        else:
            out.append(char)
        index += 1
    raise ParseError("quotation not closed")


def _params(parts: list[str]) -> dict[str, str | None]:
    params: dict[str, str | None] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        name = name.strip().lower()
        if name:
            params.setdefault(name, value.strip() if equals else None)
    return params
