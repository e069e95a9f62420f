"""Which digest algorithms a phone is offered: what it is known to bear, by its User-Agent; MD5 alone where it is not.

RFC 8760 section 2.4 has all algorithms offered, strongest first, and RFC 7616 section 3.7 lets a client pass over those
that it does not know. Deliberately not so: most phones read the first challenge alone (SIPp), or give up where any of
them names another algorithm (PJSIP before 2.14 and what is built on it, Asterisk 16, Polycom, Yealink, Cisco SPA,
baresip before 2.0), with a right password and a message that nobody understands. They would never register. Who does
not say its name is mostly one of those.

An entry needs a program that people run, the version from which it is known to work, and a test with the program
itself where it can be had. `PBX_DIGEST_FORCE` offers everything to everybody.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

FALLBACK: Final = ("MD5",)
"""What every phone bears (RFC 3261 section 22.4)."""
ALL: Final = frozenset({"SHA-512-256", "SHA-256", "MD5"})
KNOWN_TO_WORK: Final = (
    (re.compile(r"(?i)\bbaresip v(?:[2-9]|\d\d)"), frozenset({"SHA-256", "MD5"})),
    # belle-sip 5 gives up at SHA-512-256 where it stands first, libre anywhere: neither is offered it.
    (re.compile(r"(?i)\b(?:linphone\w*|belle-sip|LinphoneSDK)/(?:[5-9]|\d\d)"), frozenset({"SHA-256", "MD5"})),
    (re.compile(r"(?i)\b(?:pjsua|pjsip)2?[ /-]v?(?:2\.(?:1[4-9]|[2-9]\d)|[3-9]\.)"), ALL),
)
"""Programs, from the version that bears a challenge of a kind that it does not know, and the algorithms it knows."""


@lru_cache(maxsize=1024)
def offered(user_agent: str, algorithms: tuple[str, ...], *, force: bool = False) -> tuple[str, ...]:
    """Which of the digest algorithms a phone is offered, in their order. Never none: without MD5 among them, all."""
    if force:
        return algorithms
    known = next((names for pattern, names in KNOWN_TO_WORK if pattern.search(user_agent)), frozenset(FALLBACK))
    return tuple(name for name in algorithms if name in known) or algorithms
