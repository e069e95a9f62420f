"""Indexes of the deliveries that wait, or are dead, alone: what is delivered, nearly all of them, leaves them.

Frozen.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

OLD = {
    "deliveries_due": ["webhook_id", "state", "id"],
    "deliveries_next": ["webhook_id", "state", "next_at_ms", "id"],
    "deliveries_call": ["webhook_id", "call_id", "state", "id"],
}
NEW = {
    "deliveries_waiting": (["webhook_id", "id"], "state = 'pending'"),
    "deliveries_later": (["webhook_id", "next_at_ms"], "state = 'pending' AND next_at_ms > 0"),
    "deliveries_chain": (["webhook_id", "call_id", "id"], "state = 'pending'"),
    "deliveries_dead": (["webhook_id", "id"], "state = 'dead'"),
    "deliveries_open": (["event_id"], "state != 'delivered'"),
}


def upgrade() -> None:
    """Puts the new ones in the place of the old."""
    for name in OLD:
        op.drop_index(name, "deliveries")
    for name, (columns, which) in NEW.items():
        rows = sa.text(which)
        op.create_index(name, "deliveries", columns, sqlite_where=rows, postgresql_where=rows)


def downgrade() -> None:
    """The way back."""
    for name in NEW:
        op.drop_index(name, "deliveries")
    for name, columns in OLD.items():
        op.create_index(name, "deliveries", columns)
