"""Phones that fail in a known way at what the RFCs allow, by their User-Agent, and what is done for them.

An entry needs a program that people run, the version from which it is mended, and a test with the program itself.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_MD5_ALONE: Final = re.compile(r"(?i)^(?:baresip v[01]\.|sipp\b)")
"""RFC 7616 section 3.7: a client picks the first challenge that it understands and passes over the others.
baresip before 2.0 (Debian 12 has 1.0) gives up at any challenge with SHA-256, wherever it stands; SIPp 3.6 reads the
first one alone."""


_NOT_SHA_512: Final = re.compile(r"(?i)baresip|belle-sip|linphone")
"""Of the versions that know SHA-256: they give up at a challenge that they do not know, where it stands first
(belle-sip 5) or anywhere (libre)."""


@lru_cache(maxsize=1024)
def offered(user_agent: str, algorithms: tuple[str, ...]) -> tuple[str, ...]:
    """Which of the digest algorithms a phone is offered. One that does not say its name is not offered SHA-512-256.

    That is the algorithm least known, and programs without a User-Agent are the simplest.
    """
    if _MD5_ALONE.match(user_agent):
        return tuple(name for name in algorithms if name == "MD5") or algorithms
    if not user_agent or _NOT_SHA_512.search(user_agent):
        return tuple(name for name in algorithms if name != "SHA-512-256") or algorithms
    return algorithms
