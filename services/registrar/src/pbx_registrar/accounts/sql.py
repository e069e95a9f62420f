"""Accounts in SQL: SQLite on one machine, PostgreSQL in a cluster (SQLAlchemy 2 async, Alembic)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
from sqlalchemy import BigInteger, Column, MetaData, String, Table, delete, event, select, tuple_, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from pbx_registrar.accounts.model import Account
from pbx_runtime.errors import Unavailable

metadata = MetaData()
accounts = Table(
    "accounts",
    metadata,
    Column("user", String(128), primary_key=True),
    Column("domain", String(255), primary_key=True),
    Column("display_name", String(128), nullable=False, server_default=""),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("ha1_md5", String(32), nullable=False),
    Column("ha1_sha256", String(64), nullable=False),
    Column("ha1_sha512_256", String(64), nullable=False),
)
COLUMN_OF = {"MD5": "ha1_md5", "SHA-256": "ha1_sha256", "SHA-512-256": "ha1_sha512_256"}
MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise Unavailable(f"account store: {type(error).__name__}") from error


class SqlAccounts:
    """Accounts in a table."""

    def __init__(self, url: str) -> None:
        self._engine: AsyncEngine = create_async_engine(url, pool_pre_ping=True)
        if url.startswith("sqlite"):
            event.listen(self._engine.sync_engine, "connect", _pragmas)

    async def migrate(self) -> None:
        """Brings the schema to its newest version."""
        with _mapped():
            async with self._engine.begin() as connection:
                await connection.run_sync(_upgrade)

    async def close(self) -> None:
        """Closes the pool."""
        await self._engine.dispose()

    async def get(self, user: str, domain: str) -> Account | None:
        """One account."""
        query = select(accounts).where(accounts.c.user == user, accounts.c.domain == domain)
        with _mapped():
            async with self._engine.connect() as connection:
                row = (await connection.execute(query)).mappings().first()
        return _account(row) if row is not None else None

    async def put(self, account: Account) -> bool:
        """Creates or replaces an account."""
        row: dict[str, Any] = {"display_name": account.display_name}
        row |= {COLUMN_OF[algorithm]: value for algorithm, value in account.hashes.items()}
        identity = {"user": account.user, "domain": account.domain}
        with _mapped():
            async with self._engine.begin() as connection:
                if await _update(connection, account, row):
                    return False
            try:
                async with self._engine.begin() as connection:
                    await connection.execute(
                        accounts.insert().values(**identity, **row, created_at_ms=account.created_at_ms)
                    )
            except IntegrityError:  # another replica was faster
                async with self._engine.begin() as connection:
                    await _update(connection, account, row)
                return False
        return True

    async def delete(self, user: str, domain: str) -> bool:
        """Removes an account."""
        query = delete(accounts).where(accounts.c.user == user, accounts.c.domain == domain)
        with _mapped():
            async with self._engine.begin() as connection:
                return (await connection.execute(query)).rowcount > 0

    async def page(self, after: tuple[str, str], size: int) -> list[Account]:
        """Accounts in order."""
        order = (accounts.c.user, accounts.c.domain)
        query = select(accounts).where(tuple_(*order) > after).order_by(*order).limit(size)
        with _mapped():
            async with self._engine.connect() as connection:
                return [_account(row) for row in (await connection.execute(query)).mappings()]


async def _update(connection: AsyncConnection, account: Account, row: dict[str, Any]) -> bool:
    query = update(accounts).where(accounts.c.user == account.user, accounts.c.domain == account.domain)
    return (await connection.execute(query.values(**row))).rowcount > 0


def _account(row: Any) -> Account:
    return Account(
        user=row["user"],
        domain=row["domain"],
        display_name=row["display_name"],
        created_at_ms=row["created_at_ms"],
        hashes={algorithm: row[column] for algorithm, column in COLUMN_OF.items()},
    )


def _pragmas(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()


def _upgrade(connection: Any) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")
