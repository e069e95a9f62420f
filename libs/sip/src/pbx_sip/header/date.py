"""The Date header (RFC 3261 section 20.17): phones without a clock of their own set it by the answer to REGISTER.

SIP-date = rfc1123-date, always GMT, in English whatever the locale.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def date_value(wall_s: float) -> str:
    """Seconds since the Unix epoch as on the wire: "Sat, 13 Nov 2010 23:29:00 GMT"."""
    at = datetime.fromtimestamp(wall_s, UTC)
    return f"{_DAYS[at.weekday()]}, {at.day:02d} {_MONTHS[at.month - 1]} {at.year:04d} {at:%H:%M:%S} GMT"
