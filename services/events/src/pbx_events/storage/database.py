"""The database: every use of it is a plain function of a connection, run in one transaction.

SQLite runs such a function in a thread (one for writing, a few for reading: WAL lets them work side by side), in one
hop for the whole transaction; PostgreSQL runs it on asyncpg through SQLAlchemy's bridge. The functions are the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import alembic.command
import alembic.config
import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pbx_events.storage.tables import metadata
from pbx_runtime.errors import InvalidArgument, Unavailable

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
READERS: Final = 4
"""Threads that read SQLite: the questions of the API beside those of the deliveries."""
WRITE_LOCK: Final = 0x5049_5045
"""PostgreSQL's advisory lock of `write`: replicas fold events one after the other, so that none misses another's."""
PAGE_CACHE_KIB: Final = 16_384
"""SQLite's page cache for each connection: the upper levels of the indexes of some million rows. By so much for each of
1 + READERS connections this service grows with what it stores and is asked for, and no further."""

T = TypeVar("T")
Work = Callable[[sa.Connection], T]


@contextmanager
def mapped() -> Iterator[None]:
    """Errors of the driver come out as Unavailable, or as InvalidArgument where the values are at fault."""
    try:
        yield
    except (SQLAlchemyError, OSError, UnicodeEncodeError) as error:
        if _is_of_values(error):
            raise InvalidArgument(f"event store: {type(error).__name__}") from error
        raise Unavailable(f"event store: {type(error).__name__}") from error


def _is_of_values(error: Exception) -> bool:
    """Whether asking again cannot help: SQLSTATE class 22 (data exception), or what the driver could not bind."""
    if isinstance(error, sa.exc.DBAPIError):
        # asyncpg's own complaints about an argument have no SQLSTATE; they are ValueErrors.
        code = str(getattr(error.orig, "sqlstate", None) or "")
        return code.startswith("22") or isinstance(getattr(error.orig, "__cause__", None), ValueError)
    return isinstance(error, UnicodeEncodeError | sa.exc.StatementError)


class NewerSchemaError(Exception):
    """A newer version wrote this database: going on would lose what only it knows."""


class Database:
    """SQLite (WAL) or PostgreSQL, by its URL. Raises Unavailable where it cannot be reached."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        if self.is_sqlite:
            self._engine = _sqlite_engine(url)
            self._writer = ThreadPoolExecutor(1, "events-write")
            self._readers = ThreadPoolExecutor(READERS, "events-read")
        else:
            self._async: AsyncEngine = create_async_engine(url, pool_pre_ping=True)

    async def migrate(self) -> None:
        """Brings the schema to its newest version."""
        await self.write(_upgrade)

    async def empty(self) -> None:
        """Forgets everything; for tests."""

        def work(connection: sa.Connection) -> None:
            for table in metadata.sorted_tables:
                connection.execute(table.delete())

        await self.write(work)

    async def close(self) -> None:
        """Closes the pool."""
        if not self.is_sqlite:
            await self._async.dispose()
            return
        for pool in (self._writer, self._readers):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)
        self._engine.dispose()

    async def write(self, work: Work[T]) -> T:
        """Runs `work` in a transaction that writes; one at a time over all replicas."""
        with mapped():
            if self.is_sqlite:
                return await asyncio.get_running_loop().run_in_executor(self._writer, self._write, work)
            async with self._async.begin() as connection:
                await connection.execute(_LOCK)
                return await connection.run_sync(work)

    def _write(self, work: Work[T]) -> T:
        with self._engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return work(connection)

    async def read(self, work: Work[T]) -> T:
        """Runs `work` that only reads."""
        with mapped():
            if self.is_sqlite:
                return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)
            async with self._async.connect() as connection:
                return await connection.run_sync(work)

    def _read(self, work: Work[T]) -> T:
        with self._engine.connect() as connection:
            return work(connection)

    async def rows(self, query: sa.Select[Any]) -> Sequence[Any]:
        """The rows of a query."""
        return await self.read(lambda connection: connection.execute(query).all())

    def insert(self, table: sa.Table) -> Any:
        """An INSERT of this dialect, with its ON CONFLICT."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)


_LOCK = sa.select(sa.func.pg_advisory_xact_lock(WRITE_LOCK))


def _sqlite_engine(url: str) -> sa.Engine:
    plain = url.replace("sqlite+aiosqlite:", "sqlite:", 1)
    # A connection is used by one thread at a time, though not always by the same one.
    engine = sa.create_engine(plain, poolclass=sa.QueuePool, connect_args={"check_same_thread": False})
    sa.event.listen(engine, "connect", _prepare)
    return engine


def _prepare(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver begins no transaction of its own: `_write` does
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000", f"cache_size=-{PAGE_CACHE_KIB}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _upgrade(connection: sa.Connection) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    found = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise NewerSchemaError(
            f"the database of events was written by a newer version (schema {found}; this one knows up to "
            f"{max(known)}): install that version again, or restore a backup from before it"
        )
    alembic.command.upgrade(config, "head")
