"""Contact as REGISTER and its answer have it (RFC 3261 sections 10.2 and 10.3, RFC 5626 sections 4.2 and 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pbx_sip.header.name_addr import NameAddr
from pbx_sip.message.headers import unquoted_text
from pbx_sip.message.uri import Uri

EXPIRES_DEFAULT_S: Final = 3600
"""What an Expires that cannot be read means (RFC 3261 section 10.2.1.1)."""
EXPIRES_MAX_S: Final = 0xFFFFFFFF
Q_MAX: Final = 1000
REG_ID_DIGITS: Final = 9
"""RFC 5626 section 4.2 allows 1 to 2^31-1."""


@dataclass(frozen=True, slots=True)
class RegisterContact:
    """One Contact of a REGISTER, in figures."""

    uri: str
    expires_s: int | None = None
    """Its own lifetime; None where it names none."""
    q_thousandths: int = Q_MAX
    sip_instance: str = ""
    """Without quotes and brackets."""
    reg_id: int = 0

    @classmethod
    def parse(cls, value: str) -> RegisterContact:
        """Reads one Contact value. Raises ParseError where its address cannot be read."""
        contact = NameAddr.parse(value)
        Uri.parse(contact.uri)
        params = contact.params
        own, q, reg_id = params.get("expires"), params.get("q"), params.get("reg-id") or ""
        return cls(
            uri=contact.uri,
            expires_s=expires_of(own) if own is not None else None,
            q_thousandths=thousandths_of(q) if q else Q_MAX,
            sip_instance=unquoted_text(params.get("+sip.instance") or "").strip("<> "),
            reg_id=int(reg_id) if reg_id.isascii() and reg_id.isdecimal() and len(reg_id) <= REG_ID_DIGITS else 0,
        )


def contact_value(uri: str, q_thousandths: int, expires_s: int, sip_instance: str = "", reg_id: int = 0) -> str:
    """A binding as the answer to REGISTER lists it; whose it is (RFC 5626 section 6) where that is known."""
    text = f"<{uri}>"
    if q_thousandths != Q_MAX:
        text += f";q={q_thousandths / Q_MAX:g}"
    text += f";expires={expires_s}"
    if sip_instance:
        escaped = sip_instance.replace("\\", "\\\\").replace('"', '\\"')
        text += f';+sip.instance="<{escaped}>"'
        if reg_id:
            text += f";reg-id={reg_id}"
    return text


def expires_of(text: str) -> int:
    """delta-seconds; an hour where it is none (RFC 3261 sections 10.2.1.1 and 20.19)."""
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 12):
        return EXPIRES_DEFAULT_S
    return min(int(text), EXPIRES_MAX_S)


def thousandths_of(q: str) -> int:
    """A q value ("0.7") in thousandths; 1000 where it is none."""
    whole, _, part = q.strip().partition(".")
    if whole not in ("0", "1", "") or (part and not (part.isascii() and part.isdecimal())):
        return Q_MAX
    return min(Q_MAX, int(whole or "0") * Q_MAX + int((part + "000")[:3]))
