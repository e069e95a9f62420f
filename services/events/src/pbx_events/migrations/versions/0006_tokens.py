"""Named tokens, and what requests with an idempotency key were answered.

Frozen.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Makes both tables."""
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(26), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("old_digest", sa.String(64), nullable=False, server_default=""),
        sa.Column("old_until_ms", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger, nullable=False, server_default="0"),
    )
    op.create_index("tokens_name", "tokens", ["name"], unique=True)
    op.create_table(
        "answered",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Integer, nullable=False, server_default="0"),
        sa.Column("answer", sa.LargeBinary, nullable=False, server_default=""),
    )
    op.create_index("answered_at", "answered", ["at_ms"])


def downgrade() -> None:
    """The way back."""
    op.drop_table("answered")
    op.drop_table("tokens")
