"""Open calls for the reaper, the log of attempts, revisions of CDRs, and a webhook's secret before the last rotation.

Frozen. A database that an early version of 0001 made holds some of this already; only what is missing is made.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

COLUMNS = (
    ("cdrs", sa.Column("revision", sa.Integer, nullable=False, server_default="1")),
    ("webhooks", sa.Column("old_secret", sa.String(128), nullable=False, server_default="")),
    ("webhooks", sa.Column("old_secret_until_ms", sa.BigInteger, nullable=False, server_default="0")),
)
INDEXES = (
    ("cdrs_started", "cdrs", ("started_at_ms", "id")),
    ("deliveries_next", "deliveries", ("webhook_id", "state", "next_at_ms", "id")),
    ("deliveries_call", "deliveries", ("webhook_id", "call_id", "state", "id")),
    ("open_calls_instance", "open_calls", ("instance", "call_id")),
    ("attempts_webhook", "attempts", ("webhook_id", "id")),
)


def upgrade() -> None:
    """Adds what is missing."""
    known = sa.inspect(op.get_bind())
    tables = known.get_table_names()
    if "open_calls" not in tables:
        op.create_table(
            "open_calls",
            sa.Column("call_id", sa.String(64), primary_key=True),
            sa.Column("instance", sa.String(64), nullable=False),
            sa.Column("started_at_ms", sa.BigInteger, nullable=False),
        )
    if "attempts" not in tables:
        op.create_table(
            "attempts",
            sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
            sa.Column("webhook_id", sa.String(32), nullable=False),
            sa.Column("event_id", sa.String(26), nullable=False),
            sa.Column("at_ms", sa.BigInteger, nullable=False),
            sa.Column("status", sa.Integer, nullable=False),
            sa.Column("duration_ms", sa.Integer, nullable=False),
            sa.Column("excerpt", sa.String(512), nullable=False),
        )
    for table, column in COLUMNS:
        if column.name not in {there["name"] for there in known.get_columns(table)}:
            op.add_column(
                table, sa.Column(column.name, column.type, nullable=False, server_default=column.server_default)
            )
    known = sa.inspect(op.get_bind())
    for name, table, columns in INDEXES:
        if name not in {there["name"] for there in known.get_indexes(table)}:
            op.create_index(name, table, list(columns))


def downgrade() -> None:
    """Drops it again."""
    for name, table, _ in INDEXES:
        op.drop_index(name, table)
    op.drop_table("attempts")
    op.drop_table("open_calls")
    for table, column in COLUMNS:
        op.drop_column(table, str(column.name))
