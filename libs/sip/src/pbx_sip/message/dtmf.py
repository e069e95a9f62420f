"""DTMF digits in INFO bodies: `application/dtmf-relay` and `application/dtmf`, as gateways and phones write them.

No RFC defines them (RFC 6086 names the practice in appendix A); digits in RTP (RFC 4733) are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KEYS: Final = "0123456789*#ABCD"
"""In the order of RFC 4733 section 3.2, by whose numbers some name the last six."""
BODY_MAX: Final = 256
"""Octets. Threat: work for a body that is no digit."""
DURATION_MAX_MS: Final = 60_000
DURATION_MS: Final = 100
"""Where none is said: what most phones press."""


@dataclass(frozen=True, slots=True)
class Pressed:
    """A key, and for how long."""

    digit: str
    duration_ms: int


def read(content_type: str, body: bytes) -> Pressed | None:
    """The digit of a body; None where it is none (another type, a flash hook, rubbish)."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in ("application/dtmf-relay", "application/dtmf") or len(body) > BODY_MAX:
        return None
    fields = {}
    for line in body.decode("latin-1").splitlines():
        name, equals, value = line.partition("=")
        fields[name.strip().lower() if equals else "signal"] = (value if equals else name).strip()
    digit = _key(fields.get("signal", ""))
    if not digit:
        return None
    said = fields.get("duration", "")
    duration = int(said) if said.isascii() and said.isdigit() and len(said) <= 6 else DURATION_MS
    return Pressed(digit, min(duration, DURATION_MAX_MS))


def _key(text: str) -> str:
    text = text.upper()
    if len(text) == 1:
        return text if text in KEYS else ""
    number = int(text) if text.isascii() and text.isdigit() and len(text) == 2 else -1
    return KEYS[number] if 10 <= number < len(KEYS) else ""
