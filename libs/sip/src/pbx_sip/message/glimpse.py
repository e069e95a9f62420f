"""A cheap look at a request outside of a dialog: as much as a stateless answer to it is made of, and no more.

A flood of requests that are refused costs what reading them costs. `glimpse` reads the plain ones, as phones write
them, and says None for everything else: for what needs `parse` and `validate` to be judged, and for what is wrong. So
what it returns is never wrong about a request, and `parse` never refuses one that it returned:
`tests/unit/sip/test_glimpse.py` lays both side by side.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from pbx_sip.message.headers import _BY_SPELLING, Headers, canonical
from pbx_sip.message.message import Request
from pbx_sip.message.parse import MAX_HEADERS

HEAD_MAX: Final = 4_096
"""Octets of a head that is looked at; phones stay below 1500."""
_PLAIN: Final = bytes(range(0x20, 0x7F)) + b"\t\r\n"
"""ASCII without control characters, which `parse` replaces."""
_WORD: Final = r"[-A-Za-z0-9.!%*_+`'~]"
_URI: Final = r"sips?:(?:[-A-Za-z0-9.!*_+'~%]+@)?[A-Za-z0-9][-A-Za-z0-9.]*(?::[1-9][0-9]{0,3})?(?:;[-A-Za-z0-9.=]+)*"
_START: Final = re.compile(rf"(INVITE|REGISTER|MESSAGE) ({_URI}) SIP/2\.0")
_NAME: Final = re.compile(rf"{_WORD}+[ \t]*")
_ADDRESS: Final = rf'(?:"[^"\\<>]*"|[A-Za-z0-9. ]*) ?<{_URI}>'
_FROM: Final = re.compile(rf"{_ADDRESS}(?:;tag={_WORD}+)?")
_TO: Final = re.compile(_ADDRESS)
_VIA: Final = re.compile(r"SIP/2\.0/[A-Z]+ [-A-Za-z0-9.:\[\]]+(?:;[^;,\s\"<>]+)*")
_DIGITS_MAX: Final = 9
_COPIED: Final = frozenset({"Via", "From", "To", "Call-ID", "CSeq"})
_DECIDE: Final = frozenset({"Require", "Privacy"})
"""Fields that may decide the answer; requests with them are read whole."""
_MATTER: Final = frozenset({"From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length"}) | _DECIDE
_FIRST: Final = frozenset({"Via", "User-Agent"})


class Glimpse(NamedTuple):
    """What was seen."""

    request: Request
    """Its method and target, and only those header fields that a response copies (RFC 3261 section 8.2.6.2)."""
    credentials: list[str]
    """Values of Proxy-Authorization; of a REGISTER those of Authorization."""
    once: dict[str, str]
    """Fields that stand once, and the first Via and User-Agent, by name."""

    @property
    def user_agent(self) -> str:
        """The User-Agent; empty where it does not say."""
        return self.once.get("User-Agent", "")


def glimpse(data: bytes) -> Glimpse | None:
    """Looks at an INVITE, REGISTER or MESSAGE without a To-tag; None where it takes more to tell what this is."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator or len(head) > HEAD_MAX or head.translate(None, _PLAIN):
        return None
    lines = head.decode("ascii").split("\r\n")
    start = _START.fullmatch(lines[0])
    if start is None or len(lines) > MAX_HEADERS or not head.count(b"\n") == head.count(b"\r") == len(lines) - 1:
        return None
    method = start[1]
    seen = Glimpse(Request(method, start[2], Headers()), [], {})
    return seen if _read(lines, seen) and _is_plain(method, seen.once, len(body)) else None


def _read(lines: list[str], seen: Glimpse) -> bool:
    """Takes in the fields that matter; False where one of them takes more to judge."""
    request, credentials, once = seen
    found: list[tuple[str, str]] = []
    wanted = "Authorization" if request.method == "REGISTER" else "Proxy-Authorization"
    for index in range(1, len(lines)):
        spelled, colon, value = lines[index].partition(":")
        name = _BY_SPELLING.get(spelled)
        if name is None or not colon:
            if not colon or not _NAME.fullmatch(spelled):
                return False
            name = canonical(spelled.rstrip(" \t"))
        if name in _COPIED:
            found.append((name, value.strip(" \t")))
        if name in _MATTER:
            if name in once:
                return False
            once[name] = value.strip(" \t")
        elif name == wanted:
            credentials.append(value.strip(" \t"))
        elif name in _FIRST and name not in once:
            once[name] = value.strip(" \t")
    request.headers.extend(found)
    return _DECIDE.isdisjoint(once)


def _is_plain(method: str, once: dict[str, str], octets: int) -> bool:
    """Whether fields that stand once are as they must be, without a second look."""
    number, _, named = once.get("CSeq", "").partition(" ")
    return (
        bool(once.get("Call-ID"))
        and named == method
        and _number(number) >= 0
        and 0 <= _number(once.get("Content-Length", "0")) <= octets
        and 0 < _number(once.get("Max-Forwards", "70")) <= 255
        and _VIA.fullmatch(once.get("Via", "")) is not None
        and _FROM.fullmatch(once.get("From", "")) is not None
        and _TO.fullmatch(once.get("To", "")) is not None
    )


def _number(text: str) -> int:
    """A number as it is mostly written; -1 for anything else."""
    return int(text) if text.isdigit() and len(text) <= _DIGITS_MAX else -1
