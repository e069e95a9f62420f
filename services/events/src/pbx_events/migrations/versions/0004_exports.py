"""CDRs on their way to sinks, and the leases of what one replica does for all.

Frozen.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds two tables."""
    counter = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "exports",
        sa.Column("id", counter, primary_key=True, autoincrement=True),
        sa.Column("sink", sa.String(16), nullable=False),
        sa.Column("cdr_id", sa.String(64), nullable=False),
    )
    op.create_index("exports_sink", "exports", ["sink", "id"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drops them, and with them what was not exported yet."""
    op.drop_table("leases")
    op.drop_table("exports")
