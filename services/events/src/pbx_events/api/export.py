"""CDRs as CSV (RFC 4180): the scalar fields, one row a record."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any, Final

from pbx_runtime.text import cell

COLUMNS: Final = (
    "id",
    "call_id",
    "revision",
    "caller",
    "caller_name",
    "callee",
    "connected",
    "domain",
    "started_at",
    "ringing_at",
    "answered_at",
    "ended_at",
    "duration_ms",
    "talk_ms",
    "outcome",
    "origin",
    "hung_up_by",
    "sip_status",
    "sip_reason",
    "q850_cause",
    "cause",
    "relay_id",
    "instance",
)


def csv_of(records: Iterable[dict[str, Any]]) -> str:
    """The table with its head."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for record in records:
        writer.writerow([cell(record.get(name)) for name in COLUMNS])
    return file.getvalue()
