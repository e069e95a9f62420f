"""The limit of calls of an account."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds it; 0 means what signaling says for accounts without a limit of their own."""
    op.add_column("accounts", sa.Column("calls_max", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    """Drops it."""
    op.drop_column("accounts", "calls_max")
