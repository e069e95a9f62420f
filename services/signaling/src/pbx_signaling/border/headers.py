"""Which header fields cross from one leg of a call to the other, header by header: pass, strip or rewrite.

A B2BUA writes its own messages; what a peer wrote beside them crosses only where this says so. The default passes what
people read (Subject, Priority, languages) and hides what names machines. Deliberately not here: headers that make
transactions, dialogs, sessions and identity (`OWNED`): those belong to the legs, and no setting reaches them.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Final

from pbx_sip.errors import RemoteError
from pbx_sip.header.name_addr import NameAddr
from pbx_sip.message.headers import COMMA_LISTS, NAMES, canonical, split_commas
from pbx_sip.message.uri import Uri

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pbx_signaling.calls.signals import Carried
    from pbx_sip.message.message import Message

CARRIED_MAX: Final = 32
"""Lines that cross with one message. Threat: a message that grows from hop to hop; the rest is left out."""
OCTETS_MAX: Final = 4_096
"""Characters of them together. Threat: the same; a request that was small would need another transport."""
LEARNED_MAX: Final = 512
"""Spellings of unknown names whose action is remembered. Threat: names without end filling memory."""


class Action(enum.Enum):
    """What happens to a header field."""

    PASS = "pass"  # noqa: S105  # a word of the settings
    """It crosses as it was written."""
    STRIP = "strip"
    """It does not cross."""
    REWRITE = "rewrite"
    """It crosses without naming a host: SIP addresses get our domain, others but tel: and urn: are left out."""


OWNED: Final = frozenset(
    name.lower()
    for name in (
        *("Accept", "Accept-Encoding", "Allow", "Allow-Events", "Call-ID", "Contact", "Content-Disposition"),
        *("Content-Length", "Content-Type", "CSeq", "Event", "Expires", "Flow-Timer", "From", "Info-Package", "Join"),
        *("Max-Forwards", "Min-Expires", "Min-SE", "P-Asserted-Identity", "P-Preferred-Identity", "Path", "Privacy"),
        *("Authentication-Info", "Authorization", "Proxy-Authenticate", "Proxy-Authorization", "WWW-Authenticate"),
        *("Proxy-Require", "RAck", "Reason", "Record-Route", "Recv-Info", "Refer-To", "Replaces", "Require"),
        *("Retry-After", "Route", "RSeq", "Server", "Service-Route", "Session-Expires", "SIP-ETag", "SIP-If-Match"),
        *("Subscription-State", "Supported", "Target-Dialog", "Timestamp", "To", "Unsupported", "User-Agent", "Via"),
    )
)
"""Headers that mean something on one leg alone, or that the legs translate themselves; in lower case."""
DEFAULTS: Final = {
    "Accept-Language": Action.PASS,
    "Alert-Info": Action.REWRITE,
    "Call-Info": Action.REWRITE,
    "Content-Encoding": Action.PASS,
    "Content-Language": Action.PASS,
    "MIME-Version": Action.PASS,
    "Priority": Action.PASS,
    "Reply-To": Action.REWRITE,
    "Subject": Action.PASS,
    "Warning": Action.REWRITE,
}
"""All others are stripped: Organization tells who or where, X- headers tell anything."""
_HOSTLESS: Final = frozenset({"tel", "urn"})
_ADDRESS_MARKS: Final = frozenset("@.:")
INDICATIONS: Final = frozenset({"Alert-Info", "Call-Info"})
"""Headers by which phones tell each other how to ring, and to answer by themselves: `;info=alert-autoanswer`,
`;answer-after=0`, `<http://host/Bellcore-dr2>`. What counts is not the address; nobody fetches it."""
POINTERS: Final = frozenset({"icon", "info", "card", "jcard"})
"""Purposes of a Call-Info whose address counts (RFC 3261 section 20.9, RFC 7852): without it there is nothing left."""
_RING: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""A ring as some write it: the one segment of a path (`Bellcore-dr2`), or the whole value."""


class HeaderPolicy:
    """The actions of one instance. A frozen value but for what it has learned of spellings."""

    __slots__ = ("_actions", "_learned", "_prefixes", "_rest")

    def __init__(self, rules: Iterable[str] = ()) -> None:
        """`rules`: "Name=pass", "X-*=strip", "*=strip"; a name before a prefix, the longer prefix before the shorter.

        Raises ValueError where a rule cannot be read, or names a header that is not for rules.
        """
        named = {name.lower(): action for name, action in DEFAULTS.items()}
        prefixes: dict[str, Action] = {}
        for rule in rules:
            name, action = _read(rule)
            if name.endswith("*"):
                prefixes[name[:-1]] = action
            else:
                named[name] = action
        self._rest = prefixes.pop("", Action.STRIP)
        self._prefixes = sorted(prefixes.items(), key=lambda item: -len(item[0]))
        self._actions = dict.fromkeys(OWNED, Action.STRIP) | named
        self._learned = {name: self._decided(name) for name in NAMES}

    def action(self, name: str) -> Action:
        """What happens to a header of that name, in whatever spelling."""
        found = self._learned.get(name)
        if found is None:
            found = self._decided(name)
            if len(self._learned) < LEARNED_MAX + len(NAMES):
                self._learned[name] = found
        return found

    def _decided(self, name: str) -> Action:
        lower = name.lower()
        found = self._actions.get(lower)
        if found is None:
            found = next((action for prefix, action in self._prefixes if lower.startswith(prefix)), self._rest)
        return found

    def carried(self, message: Message, domain: str) -> Carried:
        """The header fields of a message that cross, as they are to be written; `domain` is ours."""
        found: list[tuple[str, str]] = []
        octets = 0
        for name, value in message.headers.items:
            action = self._learned.get(name) or self.action(name)
            if action is Action.STRIP:
                continue
            if action is Action.REWRITE:
                value = rewritten(name, value, domain)
            octets += len(name) + len(value)
            if octets > OCTETS_MAX or len(found) >= CARRIED_MAX:
                break
            if value:
                found.append((name, value))
        return tuple(found)


def rewritten(name: str, value: str, domain: str) -> str:
    """A value that names no host of the peer's; empty where nothing is left."""
    elements = split_commas(value) if name in COMMA_LISTS else [value]
    rewrite = _warning if name == "Warning" else _indication if name in INDICATIONS else _address
    return ", ".join(filter(None, (rewrite(element, domain) for element in elements)))


def _address(element: str, domain: str) -> str:
    """A name-addr under our domain, without parameters that could hold an address."""
    try:
        address = NameAddr.parse(element)
        uri = Uri.parse(address.uri)
    except RemoteError:
        return ""
    if uri.is_sip:
        if uri.user is None:
            return ""
        address.uri = f"{uri.scheme}:{uri.user}@{domain}"
    elif uri.scheme not in _HOSTLESS:
        return ""
    address.params = {key: text for key, text in address.params.items() if _ADDRESS_MARKS.isdisjoint(text or "")}
    return str(address)


def _indication(element: str, domain: str) -> str:
    """How to ring, without the host that its sender wrote: ours stands there, for phones want an address."""
    if "<" not in element:
        return element if _ADDRESS_MARKS.isdisjoint(element) and "/" not in element and element.isprintable() else ""
    try:
        address = NameAddr.parse(element)
    except RemoteError:
        return ""
    scheme, _, rest = address.uri.partition(":")
    params = {key: text for key, text in address.params.items() if _ADDRESS_MARKS.isdisjoint(text or "")}
    if (params.get("purpose") or "").lower() in POINTERS:
        return ""
    if scheme.lower() in ("http", "https"):
        segment = rest.rpartition("/")[2] if rest.count("/") == 3 else ""  # //host/segment
        if not params and not _RING.fullmatch(segment):
            return ""
        address.uri = f"{scheme.lower()}://{domain}" + (f"/{segment}" if _RING.fullmatch(segment) else "")
        address.params = params
        return str(address)
    if scheme.lower() in ("sip", "sips") and "@" not in rest:
        address.uri, address.params = f"{scheme.lower()}:{domain}", params
        return str(address) if params else ""
    return _address(element, domain)


def _warning(element: str, domain: str) -> str:
    """A warning in our name (RFC 3261 section 20.43): its code and its text."""
    code, _, rest = element.partition(" ")
    _, _, text = rest.strip().partition(" ")
    text = text.strip()
    if not (len(code) == 3 and code.isdecimal() and len(text) >= 2 and text[0] == text[-1] == '"'):
        return ""
    return f"{code} pbx {text}"


def _read(rule: str) -> tuple[str, Action]:
    """One rule: the name in lower case, and its action. Raises ValueError."""
    name, equals, word = (part.strip() for part in rule.partition("="))
    name = canonical(name).lower()
    body = name.removesuffix("*")
    if not equals or (not body and name != "*") or not all(char.isalnum() or char in "-._!%+`'~" for char in body):
        raise ValueError(f"{rule!r}: Name=pass, Name=strip or Name=rewrite; X-* and * stand for many names")
    try:
        action = Action(word.lower())
    except ValueError:
        raise ValueError(f"{rule!r}: pass, strip or rewrite") from None
    if name in OWNED:
        raise ValueError(f"{rule!r}: that header belongs to the legs of a call")
    return name, action
