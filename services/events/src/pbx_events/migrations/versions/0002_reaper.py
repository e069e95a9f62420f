"""Open calls for the reaper, the log of attempts, revisions of CDRs, and a webhook's secret before the last rotation.

The first migration makes every table as the code knows it, so on a fresh database all of this is there already.
"""

import sqlalchemy as sa
from alembic import op

from pbx_events.storage.tables import cdrs, deliveries, metadata, webhooks

revision = "0002"
down_revision = "0001"

ADDED = ((cdrs, ("revision",)), (webhooks, ("old_secret", "old_secret_until_ms")))
DEFAULTS = {"revision": "1", "old_secret": "", "old_secret_until_ms": "0"}
INDEXED = ((cdrs, ("cdrs_started",)), (deliveries, ("deliveries_next", "deliveries_call")))


def upgrade() -> None:
    """Adds what is missing."""
    bind = op.get_bind()
    metadata.create_all(bind)
    for table, names in ADDED:
        there = {column["name"] for column in sa.inspect(bind).get_columns(table.name)}
        for name in names:
            if name not in there:
                column = table.c[name]
                made = sa.Column(name, column.type, nullable=False, server_default=DEFAULTS[name])
                op.add_column(table.name, made)
    for table, names in INDEXED:
        known = {index["name"] for index in sa.inspect(bind).get_indexes(table.name)}
        for index in table.indexes:
            if index.name in names and index.name not in known:
                index.create(bind)


def downgrade() -> None:
    """Drops it again."""
    for table, names in INDEXED:
        for name in names:
            op.drop_index(name, table.name)
    op.drop_table("attempts")
    op.drop_table("open_calls")
    for table, names in ADDED:
        for name in names:
            op.drop_column(table.name, name)
