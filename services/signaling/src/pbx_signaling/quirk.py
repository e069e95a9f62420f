"""Phones that fail in a known way at what the RFCs allow, by their User-Agent, and what is done for them.

An entry needs a program that people run, the version from which it is mended, and a test with the program itself.
"""

from __future__ import annotations

import re
from typing import Final

_MD5_ALONE: Final = re.compile(r"(?i)^(?:baresip v[01]\.|sipp\b)")
"""RFC 7616 section 3.7: a client picks the first challenge that it understands and passes over the others.
baresip before 2.0 (Debian 12 has 1.0) gives up at any challenge with SHA-256, wherever it stands; SIPp 3.6 reads the
first one alone."""


def knows_md5_alone(user_agent: str) -> bool:
    """Whether a phone must be offered MD5 and nothing else."""
    return _MD5_ALONE.match(user_agent) is not None
