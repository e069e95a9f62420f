"""The tables."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

events = Table(
    "events",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("type", String(64), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("call_id", String(64), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("document", Text, nullable=False),
    Index("events_call", "call_id", "sequence"),
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
    Column("types", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("webhook_id", String(32), nullable=False),
    Column("event_id", String(26), nullable=False),
    Column("call_id", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at_ms", BigInteger, nullable=False),
    Column("last_error", String(256), nullable=False),
    Index("deliveries_due", "webhook_id", "state", "id"),
    Index("deliveries_once", "webhook_id", "event_id", unique=True),
)
