"""Bring the schema up to date, while other replicas may be doing the same."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import AsyncEngine

LOCK: Final = 7_260_301
"""Names the advisory lock in PostgreSQL; any number that no other program uses."""


async def upgrade(engine: AsyncEngine) -> None:
    """Run what is missing. Raises SQLAlchemyError or OSError."""
    database = engine.url.database
    is_file = engine.url.get_backend_name() == "sqlite" and database not in (None, "", ":memory:")
    if is_file:
        Path(str(database)).parent.mkdir(parents=True, exist_ok=True)
    with _file_lock(Path(f"{database}.lock")) if is_file else nullcontext():
        async with engine.begin() as connection:
            await connection.run_sync(_upgrade)


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    # SQLite's own lock does not span the several statements of a migration.
    with path.open("w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _upgrade(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
