"""The registrar's tables, as they are after the last migration."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("user", sa.String(128), primary_key=True),
    sa.Column("domain", sa.String(255), primary_key=True, comment="in lower case; also the digest realm"),
    sa.Column("display_name", sa.String(128), nullable=False, server_default=""),
    sa.Column("created_at_ms", sa.BigInteger, nullable=False, comment="Unix milliseconds"),
    sa.Column("ha1_md5", sa.String(32), nullable=False, comment="H(user:realm:password), hex"),
    sa.Column("ha1_sha256", sa.String(64), nullable=False),
    sa.Column("ha1_sha512_256", sa.String(64), nullable=False),
    sa.Column("calls_max", sa.Integer, nullable=False, server_default="0", comment="calls at once; 0: the default"),
    sa.Column(
        "ha1_of_aor",
        sa.String(512),
        nullable=False,
        server_default="",
        comment="H(user@domain:realm:password) by algorithm: NAME=hex,...",
    ),
)
