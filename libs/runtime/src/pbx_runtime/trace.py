"""W3C Trace Context `traceparent`: made, read, handed on. No exporter: the id joins logs and events.

https://www.w3.org/TR/trace-context/ section 3.2. Only version 00 is written; later versions are read as
the specification asks (the first four fields).
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")
_SAMPLED = 0x01


@dataclass(frozen=True, slots=True)
class Traceparent:
    """Where a request stands in its trace."""

    trace_id: str
    """32 hex digits, not all zero."""
    span_id: str
    """16 hex digits, not all zero."""
    sampled: bool = True
    """Whether whoever started the trace records it."""

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"

    def child(self) -> Traceparent:
        """The same trace with a new span id."""
        return Traceparent(self.trace_id, secrets.token_hex(8), self.sampled)


def new_traceparent(*, sampled: bool = True) -> Traceparent:
    """The root of a new trace."""
    return Traceparent(secrets.token_hex(16), secrets.token_hex(8), sampled)


def parse_traceparent(text: str) -> Traceparent | None:
    """Read a header value; None where it is no valid traceparent (then start a new trace)."""
    match = _FORM.match(text.strip())
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more):
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return Traceparent(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))
