"""CDRs as CSV (RFC 4180): the scalar fields, one row a record."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pbx_runtime.text import cell

COLUMNS: Final = (
    "id",
    "call_id",
    "revision",
    "caller",
    "caller_name",
    "callee",
    "dialled",
    "connected",
    "target",
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
    "hangup_reason",
    "relay_id",
    "instance",
    "traceparent",
)
"""The scalar fields of a CDR, in the order of its document: legs and migrations stay in JSON."""


def csv_of(records: Iterable[dict[str, Any]]) -> str:
    """The table with its head."""
    return _table([COLUMNS]) + csv_rows(records)


def csv_rows(records: Iterable[dict[str, Any]]) -> str:
    """The rows alone, of what follows in the same table."""
    return _table([cell(record.get(name)) for name in COLUMNS] for record in records)


def _table(rows: Iterable[Sequence[object]]) -> str:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue()
