"""Calls that ended and wait for the figures of their relay.

Frozen.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "unfolded",
        sa.Column("call_id", sa.String(64), primary_key=True),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("unfolded_until", "unfolded", ["until_ms"])


def downgrade() -> None:
    """The way back."""
    op.drop_table("unfolded")
