"""An ordered multi-map of header fields that keeps every value as the peer wrote it.

Known names are held in one canonical spelling, so that a look-up is one comparison; compact forms
(RFC 3261 section 7.3.3) are expanded while parsing. Unknown names survive as they were spelled and are
compared without regard to case. Values are text, unparsed: `pbx_sip.header` gives them types on demand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

COMPACT: Final = {
    "a": "Accept-Contact",
    "b": "Referred-By",
    "c": "Content-Type",
    "d": "Request-Disposition",
    "e": "Content-Encoding",
    "f": "From",
    "i": "Call-ID",
    "j": "Reject-Contact",
    "k": "Supported",
    "l": "Content-Length",
    "m": "Contact",
    "n": "Identity-Info",
    "o": "Event",
    "r": "Refer-To",
    "s": "Subject",
    "t": "To",
    "u": "Allow-Events",
    "v": "Via",
    "x": "Session-Expires",
    "y": "Identity",
}
"""Compact forms registered with IANA."""

NAMES: Final = (
    *COMPACT.values(),
    *("Accept", "Accept-Encoding", "Accept-Language", "Alert-Info", "Allow", "Authentication-Info"),
    *("Authorization", "Call-Info", "Content-Disposition", "Content-Language", "CSeq", "Date"),
    *("Diversion", "Error-Info", "Expires", "Flow-Timer", "Geolocation", "History-Info", "In-Reply-To"),
    *("Info-Package", "Join", "Max-Forwards", "MIME-Version", "Min-Expires", "Min-SE", "Organization"),
    *("P-Asserted-Identity", "P-Preferred-Identity", "Path", "Priority", "Privacy", "Proxy-Authenticate"),
    *("Proxy-Authorization", "Proxy-Require", "RAck", "Reason", "Record-Route", "Recv-Info", "Replaces"),
    *("Reply-To", "Require", "Retry-After", "Route", "RSeq", "Server", "Service-Route", "Session-ID"),
    *("SIP-ETag", "SIP-If-Match", "Subscription-State", "Target-Dialog", "Timestamp", "Unsupported"),
    *("User-Agent", "Warning", "WWW-Authenticate"),
)
"""Canonical spellings."""

_BY_SPELLING: Final[dict[str, str]] = {}
for _name in NAMES:
    for _spelling in (_name, _name.lower(), _name.upper(), _name.title()):
        _BY_SPELLING[_spelling] = _name
for _short, _name in COMPACT.items():
    _BY_SPELLING[_short] = _BY_SPELLING[_short.upper()] = _name

COMMA_LISTS: Final = frozenset(
    {
        *("Accept", "Accept-Encoding", "Accept-Language", "Alert-Info", "Allow", "Allow-Events", "Call-Info"),
        *("Contact", "Content-Encoding", "Content-Language", "Diversion", "Error-Info", "History-Info"),
        *("In-Reply-To", "P-Asserted-Identity", "P-Preferred-Identity", "Path", "Proxy-Require", "Reason"),
        *(
            "Record-Route",
            "Recv-Info",
            "Require",
            "Route",
            "Service-Route",
            "Supported",
            "Unsupported",
            "Via",
        ),
        *("Warning",),
    }
)
"""Headers whose values may stand in one line, separated by commas (RFC 3261 section 7.3.1)."""


def canonical(name: str) -> str:
    """The canonical spelling of a header name; an unknown name comes back as it is."""
    return _BY_SPELLING.get(name) or _BY_SPELLING.get(name.lower()) or name


class Headers:
    """Header fields in wire order. Names given to its methods must be canonical, or unknown names."""

    __slots__ = ("items",)

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self.items: list[tuple[str, str]] = list(items)

    def first(self, name: str) -> str | None:
        """The first value of `name`, or None."""
        for field, value in self.items:
            if field == name:
                return value
        return None if name in _BY_SPELLING else self._first_unknown(name.lower())

    def all(self, name: str) -> list[str]:
        """All values of `name` in order, one for each header line."""
        if name in _BY_SPELLING:
            return [value for field, value in self.items if field == name]
        lower = name.lower()
        return [value for field, value in self.items if field.lower() == lower]

    def listed(self, name: str) -> list[str]:
        """All values of a comma-separated header in order, one for each element, stripped."""
        return [element for value in self.all(name) for element in split_commas(value)]

    def tokens(self, name: str) -> set[str]:
        """The elements of a comma-separated header of tokens, in lower case (Supported, Require, Allow)."""
        return {element.lower() for element in self.listed(name)}

    def __contains__(self, name: str) -> bool:
        """Whether there is at least one header of that name."""
        return self.first(name) is not None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Name and value of each line, in order."""
        return iter(self.items)

    def __len__(self) -> int:
        """The number of header lines."""
        return len(self.items)

    def __eq__(self, other: object) -> bool:
        """Same lines in the same order."""
        return isinstance(other, Headers) and self.items == other.items

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        """The names, for a reader; values may be secret."""
        return f"<Headers {', '.join(name for name, _ in self.items)}>"

    def append(self, name: str, value: str) -> None:
        """Adds a line at the end."""
        self.items.append((name, value))

    def prepend(self, name: str, value: str) -> None:
        """Adds a line at the top."""
        self.items.insert(0, (name, value))

    def set(self, name: str, value: str) -> None:
        """Replaces the first line of that name in place and drops the others; appends where there is none."""
        items = self.items
        for index, (field, _) in enumerate(items):
            if field == name:
                items[index] = (name, value)
                items[index + 1 :] = [item for item in items[index + 1 :] if item[0] != name]
                return
        items.append((name, value))

    def remove(self, name: str) -> None:
        """Drops all lines of that name."""
        self.items = [item for item in self.items if item[0] != name]

    def copy(self) -> Headers:
        """A copy that can be changed on its own."""
        return Headers(self.items)

    def _first_unknown(self, lower: str) -> str | None:
        for field, value in self.items:
            if field.lower() == lower:
                return value
        return None


def unquoted_text(value: str) -> str:
    """The text of a quoted-string, escapes resolved; a token comes back as it is."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    chars = iter(value[1:-1])
    return "".join([next(chars, "") if char == "\\" else char for char in chars]) if "\\" in value else value[1:-1]


def split_commas(value: str) -> list[str]:
    """Splits at commas outside of quotes and angle brackets; elements stripped, empty ones dropped."""
    if "," not in value:
        value = value.strip()
        return [value] if value else []
    if '"' not in value and "<" not in value:
        return [part for part in (piece.strip() for piece in value.split(",")) if part]
    return _split_quoted(value, ",")


def split_semicolons(value: str) -> list[str]:
    """Splits at semicolons outside of quotes and angle brackets; elements stripped, empty ones dropped."""
    if '"' not in value and "<" not in value:
        return [part for part in (piece.strip() for piece in value.split(";")) if part]
    return _split_quoted(value, ";")


def _split_quoted(value: str, separator: str) -> list[str]:
    parts: list[str] = []
    start = index = 0
    quoted = angled = False
    while index < len(value):
        char = value[index]
        if quoted:
            if char == "\\":
                index += 1
            elif char == '"':
                quoted = False
        elif char == '"':
            quoted = True
        elif char == "<":
            angled = True
        elif char == ">":
            angled = False
        elif char == separator and not angled:
            parts.append(value[start:index])
            start = index + 1
        index += 1
    parts.append(value[start:])
    return [part for part in (piece.strip() for piece in parts) if part]
