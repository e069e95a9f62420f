"""Telephone numbers in URIs: tel: (RFC 3966), and SIP URIs whose user is one (RFC 3261 section 19.1.6).

    telephone-subscriber = global-number / local-number, then parameters: phone-context, ext, isub
    visual-separator     = "-" / "." / "(" / ")", which do not count (RFC 3966 sections 3 and 5.1.1)

A local number means something in its phone-context alone: a domain, or the digits that a global number begins with.
Deliberately without a dial plan: who a number is, and whether a local one without a context is ours, others decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from pbx_sip.errors import ParseError
from pbx_sip.message.uri import Uri

NUMBER_MAX: Final = 64
"""Characters of a number. Threat: look-ups of what no one dials; E.164 has 15 digits, dial strings some more."""
_SEPARATORS: Final = str.maketrans("", "", "-.()")
_DIGITS: Final = frozenset("0123456789")
_DIALLED: Final = frozenset("0123456789abcdefABCDEF*#")
"""phonedigit-hex of a local number: what a telephone can dial."""
_UNSUPPORTED: Final = 416


@dataclass(frozen=True, slots=True)
class Telephone:
    """A number as it is looked up."""

    number: str
    """Without visual separators; a global one with its plus."""
    context: str = ""
    """The domain to which a local number belongs, in lower case; empty where none is named."""

    @classmethod
    def parse(cls, subscriber: str) -> Telephone:
        """Reads a telephone-subscriber, escapes resolved. Raises ParseError (416) where it is no number."""
        text, *parameters = subscriber.split(";")
        context = ""
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "phone-context":
                context = value.strip().lower()
        number = text.strip().translate(_SEPARATORS)
        if not 0 < len(number) <= NUMBER_MAX or not _is_number(number):
            raise ParseError("a telephone number that is none", _UNSUPPORTED)
        if number.startswith("+"):
            return cls(number)
        if context.startswith("+"):
            # RFC 3966 section 5.1.5: the context is the prefix that the number lacks to be global.
            prefix = context.translate(_SEPARATORS)
            if not _is_number(prefix):
                raise ParseError("a phone-context that is none", _UNSUPPORTED)
            return cls(prefix + number)
        return cls(number, context)


def telephone_of(uri: Uri) -> Telephone | None:
    """The number that a URI names; None where it names a user by another kind of name.

    Raises ParseError (416) where it says that it is a number and is none.
    """
    if uri.scheme == "tel":
        return Telephone.parse(unquote(uri.opaque))
    if not uri.is_sip or uri.user is None:
        return None
    says_so = (uri.params.get("user") or "").lower() == "phone"
    if not says_so and ";" not in uri.user:
        return None
    try:
        found = Telephone.parse(unquote(uri.user))
    except ParseError:
        if says_so and _dials(uri.user):
            raise
        return None  # phones write user=phone behind names, too (RFC 3261 section 19.1.1: it is a hint)
    return found if says_so or "phone-context" in uri.user.lower() else None


def _is_number(number: str) -> bool:
    if number.startswith("+"):
        return len(number) > 1 and _DIGITS.issuperset(number[1:])
    return _DIALLED.issuperset(number) and not _DIGITS.isdisjoint(number.replace("*", "0").replace("#", "0"))


def _dials(user: str) -> bool:
    """Whether a user part means to be a number: it begins as one."""
    return user[:1] == "+" or user[:1] in _DIGITS
