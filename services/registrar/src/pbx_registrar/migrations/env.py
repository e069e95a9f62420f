"""Alembic's entry: runs the migrations on the connection that `run.upgrade` hands over."""

from __future__ import annotations

from alembic import context

from pbx_registrar.storage.tables import metadata

VERSION_TABLE = "registrar_schema"
"""Not Alembic's default: other services may keep their tables in the same database."""

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
