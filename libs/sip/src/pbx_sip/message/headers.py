"""An ordered multi-map of header fields that keeps every value as the peer wrote it.

Known names are held in one canonical spelling; compact forms (RFC 3261 section 7.3.3) are expanded while parsing.
Unknown names survive as they were spelled and are compared without regard to case. Values are text, unparsed:
`pbx_sip.header` gives them types on demand.

A call looks a header up more than a hundred times, so an index by name stands beside the lines. Both change through
the methods of `Headers` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

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

    __slots__ = ("_items", "index", "items", "memo")

    items: Sequence[tuple[str, str]]
    """Name and value of each line, in order; to be read only."""

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self.items = self._items = list(items)
        self.index: dict[str, str] = first_values(self._items)
        """The first value of each name, as it is spelled; to be read only."""
        self.memo: dict[str, Any] = {}
        """What was read out of values, by whoever reads it (`Message.to_tag`); emptied where a line changes."""

    @classmethod
    def of(cls, items: list[tuple[str, str]], index: dict[str, str]) -> Headers:
        """Takes a list and its `first_values` over, without a copy: nobody else may change them any more."""
        self = cls.__new__(cls)
        self.items = self._items = items
        self.index = index
        self.memo = {}
        return self

    def first(self, name: str) -> str | None:
        """The first value of `name`, or None."""
        value = self.index.get(name)
        if value is not None or name in _BY_SPELLING:
            return value
        return self._first_unknown(name.lower())

    def all(self, name: str) -> list[str]:
        """All values of `name` in order, one for each header line."""
        if name in _BY_SPELLING:
            value = self.index.get(name)
            if value is None:
                return []
            if len(self.index) == len(self._items):
                return [value]
            return [value for field, value in self._items if field == name]
        lower = name.lower()
        return [value for field, value in self._items if field.lower() == lower]

    def listed(self, name: str) -> list[str]:
        """All values of a comma-separated header in order, one for each element, stripped."""
        return [element for value in self.all(name) for element in split_commas(value)]

    def tokens(self, name: str) -> frozenset[str]:
        """The elements of a comma-separated header of tokens, in lower case (Supported, Require, Allow)."""
        values = self.all(name)
        return _tokens_of(values[0] if len(values) == 1 else ",".join(values)) if values else _NO_TOKENS

    def __contains__(self, name: str) -> bool:
        """Whether there is at least one header of that name."""
        return self.first(name) is not None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Name and value of each line, in order."""
        return iter(self._items)

    def __len__(self) -> int:
        """The number of header lines."""
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        """Same lines in the same order."""
        return isinstance(other, Headers) and self._items == other._items

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        """The names, for a reader; values may be secret."""
        return f"<Headers {', '.join(name for name, _ in self._items)}>"

    def append(self, name: str, value: str) -> None:
        """Adds a line at the end."""
        self._items.append((name, value))
        if name not in self.index:
            self.index[name] = value
            if self.memo:
                self.memo = {}

    def extend(self, lines: Iterable[tuple[str, str]]) -> None:
        """Adds lines at the end."""
        for name, value in lines:
            self.append(name, value)

    def prepend(self, name: str, value: str) -> None:
        """Adds a line at the top."""
        self._items.insert(0, (name, value))
        self.index[name] = value
        self.memo = {}

    def set(self, name: str, value: str) -> None:
        """Replaces the first line of that name in place and drops the others; appends where there is none."""
        if name not in self.index:
            self.append(name, value)
            return
        at = self.set_first(name, value)
        if len(self.index) != len(self._items):
            self._items[at + 1 :] = [item for item in self._items[at + 1 :] if item[0] != name]

    def set_first(self, name: str, value: str) -> int:
        """Replaces the first line of that name, which must be there, and leaves the others; gives its number."""
        at = self._items.index((name, self.index[name]))
        self._items[at] = (name, value)
        self.index[name] = value
        self.memo = {}
        return at

    def remove(self, *names: str) -> None:
        """Drops all lines of these names."""
        self._items[:] = [item for item in self._items if item[0] not in names]
        self._read_again()

    def remove_line(self, name: str, value: str) -> None:
        """Drops the first line with that name and value, which must be there."""
        self._items.remove((name, value))
        self._read_again()

    def copy(self) -> Headers:
        """A copy that can be changed on its own."""
        return Headers(self._items)

    def _read_again(self) -> None:
        self.index = first_values(self._items)
        self.memo = {}

    def _first_unknown(self, lower: str) -> str | None:
        for field, value in self._items:
            if field.lower() == lower:
                return value
        return None


def first_values(items: list[tuple[str, str]]) -> dict[str, str]:
    """The first value of each name, as it is spelled."""
    index = dict(items)
    return index if len(index) == len(items) else dict(items[::-1])  # the first of several comes last, and stays


_NO_TOKENS: Final[frozenset[str]] = frozenset()


@lru_cache(maxsize=256)
def _tokens_of(value: str) -> frozenset[str]:
    """Phones say the same in each message."""
    return frozenset(element.lower() for element in split_commas(value))


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
