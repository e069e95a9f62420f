"""Alembic's entry: runs on the connection that the service hands over."""

from alembic import context

from pbx_registrar.accounts.sql import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="registrar_schema",
)
with context.begin_transaction():
    context.run_migrations()
