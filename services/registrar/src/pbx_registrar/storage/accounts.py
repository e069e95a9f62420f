"""Accounts in SQL: SQLite on one machine, PostgreSQL in a cluster. SQLAlchemy Core, no ORM.

The one module of the registrar that knows SQLAlchemy (with `migrations/`). Errors of the database become `Unavailable`:
whatever it is, the caller answers 503 and tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from pbx_registrar.credentials import ANYHOW, Account, Put
from pbx_registrar.migrations.run import upgrade
from pbx_registrar.storage.tables import accounts
from pbx_runtime.errors import AlreadyExists, DeadlineExceeded, NotFound, Unavailable

TIMEOUT_S: Final = 2.0
"""A database that takes longer is as good as away: signaling waits 3 s for the whole answer."""
UPGRADE_S: Final = 60.0
SQLITE_BUSY_MS: Final = 1_500
"""How long SQLite waits for another process's write; below TIMEOUT_S, so that its error names the reason."""
POOL_SIZE: Final = 4
"""Connections to PostgreSQL: one for reads, which come in batches, and some for administration."""
LOAD_MAX: Final = 500
"""Accounts of one SELECT; SQLite takes 32766 parameters, a statement of 500 is still short."""

_columns = (accounts.c.user, accounts.c.domain)
_identity = sa.tuple_(*_columns)


def identity_of(aor: str) -> tuple[str, str]:
    """User and domain of an address-of-record."""
    user, _, domain = aor.rpartition("@")
    return user, domain


class SqlAccounts:
    """Accounts, and the database that holds them."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)

    def __repr__(self) -> str:
        return f"<SqlAccounts {self._engine.url.render_as_string(hide_password=True)}>"

    async def upgrade(self) -> None:
        """Bring the schema to this version's; safe while replicas do the same. Raises Unavailable."""
        async with _mapped(UPGRADE_S):
            await upgrade(self._engine)

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.dispose()

    async def ping(self) -> None:
        """Ask the database for an answer. Raises Unavailable."""
        async with self._begin() as connection:
            await connection.execute(sa.select(accounts.c.user).limit(1))

    async def load(self, aors: Sequence[str]) -> dict[str, Account]:
        """Those of the accounts that exist, by address-of-record. Raises Unavailable."""
        found: dict[str, Account] = {}
        for start in range(0, len(aors), LOAD_MAX):
            wanted = [identity_of(aor) for aor in aors[start : start + LOAD_MAX]]
            async with self._begin() as connection:
                rows = await connection.execute(_LOAD, {"wanted": wanted})
                found.update({account.aor: account for account in map(_account, rows)})
        return found

    async def put(self, account: Account, how: Put = ANYHOW) -> tuple[Account, bool]:
        """Create or replace; answers the account as stored, and whether it is new.

        Raises Unavailable, and AlreadyExists or NotFound where `how` says so.
        """
        try:
            return await self._put(account, how)
        except IntegrityError:
            return await self._put(account, how)  # another replica created it in between

    async def _put(self, account: Account, how: Put) -> tuple[Account, bool]:
        async with self._begin() as connection:
            this = _identity == identity_of(account.aor)
            before = (await connection.execute(sa.select(accounts).where(this))).one_or_none()
            if before is None and how.must_exist:
                raise NotFound(f"no account {account.aor}")
            if before is not None and how.must_be_new:
                raise AlreadyExists(f"there is an account {account.aor} already")
            if before is None:
                await connection.execute(accounts.insert().values(**_values(account)))
                return account, True
            stored = replace(
                account,
                created_at_ms=before.created_at_ms,
                calls_max=before.calls_max if how.keep_calls_max else account.calls_max,
                display_name=before.display_name if how.keep_name else account.display_name,
            )
            await connection.execute(accounts.update().where(this).values(**_values(stored)))
        return stored, False

    async def change(self, aor: str, display_name: str | None, calls_max: int | None) -> Account | None:
        """Change what is not None; answers the account as stored, None where there is none. Raises Unavailable."""
        this = _identity == identity_of(aor)
        values = {"display_name": display_name, "calls_max": calls_max}
        changed = {name: value for name, value in values.items() if value is not None}
        async with self._begin() as connection:
            if changed:
                await connection.execute(accounts.update().where(this).values(**changed))
            row = (await connection.execute(sa.select(accounts).where(this))).one_or_none()
        return None if row is None else _account(row)

    async def delete(self, aor: str) -> bool:
        """Remove; answers whether it was there. Raises Unavailable."""
        async with self._begin() as connection:
            result = await connection.execute(accounts.delete().where(_identity == identity_of(aor)))
        return bool(result.rowcount)

    async def page(self, after: str, limit: int) -> list[Account]:
        """Accounts behind that of `after` (empty: from the first), in order of user. Raises Unavailable."""
        query = sa.select(accounts).where(_identity > identity_of(after)).order_by(*_columns).limit(limit)
        async with self._begin() as connection:
            return [_account(row) for row in await connection.execute(query)]

    @contextlib.asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        async with _mapped(TIMEOUT_S), self._engine.begin() as connection:
            yield connection


@contextlib.asynccontextmanager
async def _mapped(timeout_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except IntegrityError:
        raise
    except TimeoutError as error:
        raise DeadlineExceeded(f"no answer from SQL within {timeout_s:g} s") from error
    except (SQLAlchemyError, OSError) as error:
        # Only the kind and the driver's words: a statement's parameters are credentials.
        cause = getattr(error, "orig", None) or error
        raise Unavailable(f"SQL: {type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else ''}") from None


_LOAD = sa.select(accounts).where(_identity.in_(sa.bindparam("wanted", expanding=True)))
"""Made once: a statement is a net of cycles for the garbage collector, and accounts are looked up all the time."""


def _engine(url: str) -> AsyncEngine:
    parsed = sa.make_url(url)
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+asyncpg")
    if parsed.drivername == "sqlite":
        parsed = parsed.set(drivername="sqlite+aiosqlite")
    if parsed.get_backend_name() != "sqlite":
        return create_async_engine(parsed, pool_size=POOL_SIZE, pool_pre_ping=True, hide_parameters=True)
    engine = create_async_engine(parsed, hide_parameters=True)
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _values(account: Account) -> dict[str, Any]:
    return {
        "user": account.user,
        "domain": account.domain,
        "display_name": account.display_name,
        "created_at_ms": account.created_at_ms,
        "ha1_md5": account.ha1["MD5"],
        "ha1_sha256": account.ha1["SHA-256"],
        "ha1_sha512_256": account.ha1["SHA-512-256"],
        "calls_max": account.calls_max,
        "ha1_of_aor": ",".join(f"{algorithm}={hashed}" for algorithm, hashed in account.ha1_of_aor.items()),
    }


def _account(row: Any) -> Account:
    hashed = {"MD5": row.ha1_md5, "SHA-256": row.ha1_sha256, "SHA-512-256": row.ha1_sha512_256}
    of_aor = dict(pair.split("=", 1) for pair in (row.ha1_of_aor or "").split(",") if pair)
    return Account(row.user, row.domain, row.display_name, row.created_at_ms, hashed, row.calls_max, of_aor)
