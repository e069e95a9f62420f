"""H(A1) of phones whose digest user name is user@domain; accounts get it when their password is put the next time."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds it; empty means unknown. Older replicas go on, for they name their columns."""
    op.add_column("accounts", sa.Column("ha1_of_aor", sa.String(512), nullable=False, server_default=""))


def downgrade() -> None:
    """Drops it."""
    op.drop_column("accounts", "ha1_of_aor")
