"""The tables as the newest migration leaves them (a test compares the two)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    literal_column,
)

metadata = MetaData()
_COUNTER = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts up only an INTEGER, of 64 bits anyway; 2^31 would be ten days at 2000 events/s."""

events = Table(
    "events",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("type", String(64), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("call_id", String(64), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("payload", LargeBinary, nullable=False, server_default=""),
    Index("events_call", "call_id", "sequence"),
    Index("events_at", "at_ms", "id"),
)
cdrs = Table(
    "cdrs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("caller", String(128), nullable=False),
    Column("callee", String(128), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
    Column("revision", Integer, nullable=False, server_default="1"),
    Index("cdrs_started", "started_at_ms", "id"),
    Index("cdrs_caller", "caller", "id"),
    Index("cdrs_callee", "callee", "id"),
    Index("cdrs_outcome", "outcome", "id"),
)
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("url", String(2048), nullable=False),
    Column("secret", String(128), nullable=False),
    Column("old_secret", String(128), nullable=False, server_default=""),
    Column("old_secret_until_ms", BigInteger, nullable=False, server_default="0"),
    Column("types", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("user_filter", String(128), nullable=False, server_default=""),
    Column("direction", String(8), nullable=False, server_default=""),
    Column("lease_holder", String(64), nullable=False, server_default=""),
    Column("lease_until_ms", BigInteger, nullable=False, server_default="0"),
)
open_calls = Table(
    "open_calls",
    metadata,
    Column("call_id", String(64), primary_key=True),
    Column("instance", String(64), nullable=False),
    Column("started_at_ms", BigInteger, nullable=False),
    Index("open_calls_instance", "instance", "call_id"),
)
unfolded = Table(
    "unfolded",
    metadata,
    Column("call_id", String(64), primary_key=True),
    Column("until_ms", BigInteger, nullable=False),
    Index("unfolded_until", "until_ms"),
)
"""Calls that ended and whose relay has not told its figures: no CDR before it does, or before `until_ms`."""
attempts = Table(
    "attempts",
    metadata,
    Column("id", _COUNTER, primary_key=True, autoincrement=True),
    Column("webhook_id", String(32), nullable=False),
    Column("event_id", String(26), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("status", Integer, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("excerpt", String(512), nullable=False),
    Index("attempts_webhook", "webhook_id", "id"),
)
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", _COUNTER, primary_key=True, autoincrement=True),
    Column("webhook_id", String(32), nullable=False),
    Column("event_id", String(26), nullable=False),
    Column("call_id", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at_ms", BigInteger, nullable=False),
    Column("last_error", String(256), nullable=False),
    Index("deliveries_once", "webhook_id", "event_id", unique=True),
)
# A value in the text, not a parameter: an index of some rows alone is used where the statement says which.
IS_PENDING = deliveries.c.state == literal_column("'pending'")
IS_DEAD = deliveries.c.state == literal_column("'dead'")
IS_LATER = IS_PENDING & (deliveries.c.next_at_ms > literal_column("0"))
"""Was tried, and waits for its next attempt."""
IS_OPEN = deliveries.c.state != literal_column("'delivered'")


def _some(name: str, rows: Any, *columns: str) -> None:
    """An index of those deliveries alone: what is delivered, nearly all, leaves it."""
    Index(name, *(deliveries.c[column] for column in columns), sqlite_where=rows, postgresql_where=rows)


_some("deliveries_waiting", IS_PENDING, "webhook_id", "id")
_some("deliveries_later", IS_LATER, "webhook_id", "next_at_ms")
_some("deliveries_chain", IS_PENDING, "webhook_id", "call_id", "id")
_some("deliveries_dead", IS_DEAD, "webhook_id", "id")
_some("deliveries_open", IS_OPEN, "event_id")
exports = Table(
    "exports",
    metadata,
    Column("id", _COUNTER, primary_key=True, autoincrement=True),
    Column("sink", String(16), nullable=False),
    Column("cdr_id", String(64), nullable=False),
    Index("exports_sink", "sink", "id"),
)
leases = Table(
    "leases",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("until_ms", BigInteger, nullable=False),
)
tokens = Table(
    "tokens",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("old_digest", String(64), nullable=False, server_default=""),
    Column("old_until_ms", BigInteger, nullable=False, server_default="0"),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False, server_default="0"),
    Index("tokens_name", "name", unique=True),
)
answered = Table(
    "answered",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("request", String(64), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("status", Integer, nullable=False, server_default="0"),
    Column("answer", LargeBinary, nullable=False, server_default=""),
    Index("answered_at", "at_ms"),
)
