"""The table of accounts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates it."""
    op.create_table(
        "accounts",
        sa.Column("user", sa.String(128), primary_key=True),
        sa.Column("domain", sa.String(255), primary_key=True),
        sa.Column("display_name", sa.String(128), nullable=False, server_default=""),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("ha1_md5", sa.String(32), nullable=False),
        sa.Column("ha1_sha256", sa.String(64), nullable=False),
        sa.Column("ha1_sha512_256", sa.String(64), nullable=False),
    )


def downgrade() -> None:
    """Drops it."""
    op.drop_table("accounts")
