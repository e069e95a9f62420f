"""Bring the schema up to date, while other replicas may be doing the same."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Final, TextIO

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncEngine

LOCK: Final = 7_260_301
"""Names the advisory lock in PostgreSQL; any number that no other program uses."""
LOCK_RETRY_S: Final = 0.05


class NewerSchemaError(Exception):
    """A newer version wrote this database: going on would lose what only it knows."""


async def upgrade(engine: AsyncEngine) -> None:
    """Run what is missing. Raises SQLAlchemyError or OSError."""
    database = engine.url.database
    is_file = engine.url.get_backend_name() == "sqlite" and database not in (None, "", ":memory:")
    if is_file:
        Path(str(database)).parent.mkdir(parents=True, exist_ok=True)
    async with _file_lock(Path(f"{database}.lock")) if is_file else nullcontext(), engine.begin() as connection:
        await connection.run_sync(_upgrade)


@asynccontextmanager
async def _file_lock(path: Path) -> AsyncIterator[None]:
    # SQLite's own lock does not span the several statements of a migration. Never waited for in the kernel: the loop
    # has other work, and the holder may be in it.
    with path.open("w", encoding="ascii") as file:
        while not _locked(file):  # noqa: ASYNC110 -- another process holds it, and sets no event
            await asyncio.sleep(LOCK_RETRY_S)
        yield


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _upgrade(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    found = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise NewerSchemaError(
            f"the database of accounts was written by a newer version (schema {found}; this one knows up to "
            f"{max(known)}): install that version again, or restore a backup from before it"
        )
    command.upgrade(config, "head")
