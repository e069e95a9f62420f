"""The Reason header (RFC 3326; in responses RFC 6432) to and from causes: Q.850, SIP and what else there is.

What a peer wrote is taken apart and written anew, so that nothing but tokens and quoted text crosses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pbx_signaling.border.wire import quoted
from pbx_signaling.calls.signals import Cause
from pbx_sip.message.headers import split_semicolons

if TYPE_CHECKING:
    from pbx_sip.message.message import Message

Q850: Final = "Q.850"
OTHERS_MAX: Final = 4
"""Reasons of other protocols that cross. Threat: messages that grow; RFC 3326 has one for each protocol."""
PARAMETERS_MAX: Final = 8
TEXT_MAX: Final = 128
"""Characters of a text; phones show some 40."""
_TOKEN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%*_+`'~")


def cause_of(message: Message) -> Cause:
    """The Reason headers of a message; of several with one protocol the first counts."""
    cause = Cause()
    seen: set[str] = set()
    for element in message.headers.listed("Reason") if "Reason" in message.headers else ():
        protocol, *parameters = split_semicolons(element) or [""]
        if not protocol or not _TOKEN.issuperset(protocol) or protocol.upper() in seen:
            continue
        seen.add(protocol.upper())
        cause = _with(cause, protocol, _fields(parameters))
    return cause


def _with(cause: Cause, protocol: str, fields: dict[str, str]) -> Cause:
    """The same cause with one Reason more."""
    number, text = fields.get("cause", ""), fields.get("text", "")
    if protocol.upper() == Q850:
        if not number.isdecimal() or len(number) > 3:
            return cause
        return Cause(text, int(number), fields.get("location", ""), cause.others)
    others = (*cause.others, _value(protocol, fields)) if len(cause.others) < OTHERS_MAX else cause.others
    said = cause.text if cause.q850 else cause.text or text
    return Cause(said, cause.q850, cause.q850_location, others)


def _fields(parameters: list[str]) -> dict[str, str]:
    """Parameters by name, quotes resolved; those that are neither token nor quoted-string are left out."""
    fields: dict[str, str] = {}
    for parameter in parameters[:PARAMETERS_MAX]:
        name, _, value = (part.strip() for part in parameter.partition("="))
        is_quoted = len(value) >= 2 and value[0] == value[-1] == '"'
        if name and _TOKEN.issuperset(name) and (is_quoted or _TOKEN.issuperset(value)):
            text = _unquoted(value) if is_quoted else value
            fields.setdefault(name.lower(), text[:TEXT_MAX])
    return fields


def _unquoted(value: str) -> str:
    chars = iter(value[1:-1])
    return "".join([next(chars, "") if char == "\\" else char for char in chars])


def _value(protocol: str, fields: dict[str, str]) -> str:
    text = protocol
    for name, value in fields.items():
        text += f";{name}"
        if name == "text":
            text += f'="{quoted(value)}"'
        elif value:
            text += f"={value}" if _TOKEN.issuperset(value) else f'="{quoted(value)}"'
    return text


def values(cause: Cause) -> list[str]:
    """The Reason values for a cause, one for each protocol; none where it says nothing."""
    found = list(cause.others)
    if cause.q850:
        fields = {"cause": str(cause.q850)}
        if cause.text:
            fields["text"] = cause.text
        if cause.q850_location:
            fields["location"] = cause.q850_location
        found.insert(0, _value(Q850, fields))
    return found


def put(message: Message, cause: Cause) -> None:
    """Writes Reason headers where the cause says something."""
    for value in values(cause):
        message.headers.append("Reason", value)
