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
_CROCKFORD = str.maketrans("JKMNPQRSTVWXYZILOU", "IJKLMNOPQRSTUV!!!!")
"""From a ULID's digits to those of `int(..., 32)`; 0 to 9 and A to H are the same in both, I, L, O and U are none."""
_ULID_LENGTH = 26


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


def call_traceparent(call_id: str, event_id: str) -> str:
    """The traceparent of an event of a call, both named by ULIDs: the call is the trace, the event its span.

    So every service tells the same trace of a call without being told it. Empty where an id is no ULID.
    """
    if len(call_id) != _ULID_LENGTH or len(event_id) != _ULID_LENGTH:
        return ""
    try:
        trace_id = int(call_id.translate(_CROCKFORD), 32)
        span_id = int(event_id.translate(_CROCKFORD), 32) & 0xFFFFFFFFFFFFFFFF
    except ValueError:
        return ""
    return f"00-{trace_id:032x}-{span_id:016x}-01" if trace_id >> 128 == 0 else ""
