"""The store of this service: one transaction per batch of events, CDRs and deliveries with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import alembic.command
import alembic.config
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from pbx_events.cdr.builder import Cdr, build
from pbx_events.envelope import Envelope
from pbx_events.storage.tables import cdrs, deliveries, events, webhooks
from pbx_runtime.errors import NotFound, Unavailable

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
PENDING, DELIVERED, DEAD = "pending", "delivered", "dead"


@dataclass(frozen=True, slots=True)
class Webhook:
    """One subscription. `types` is empty for all; the secret is shown once, when it is made."""

    id: str
    url: str
    secret: str
    types: tuple[str, ...]
    enabled: bool
    created_at_ms: int

    def wants(self, event: Envelope) -> bool:
        """Whether an event goes there: by its type, or by a prefix as "call.*"."""
        return self.enabled and (not self.types or any(_matches(pattern, event.type) for pattern in self.types))

    def __repr__(self) -> str:
        """Without the secret."""
        return f"<Webhook {self.id} {self.url}>"


def _matches(pattern: str, kind: str) -> bool:
    return kind.startswith(pattern[:-1]) if pattern.endswith("*") else kind == pattern


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way to an endpoint."""

    id: int
    event: Envelope
    attempts: int
    next_at_ms: int


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise Unavailable(f"event store: {type(error).__name__}") from error


class Store:
    """SQLite (WAL) or PostgreSQL, by its URL. Raises Unavailable where it cannot be reached."""

    def __init__(self, url: str) -> None:
        self._engine: AsyncEngine = create_async_engine(url, pool_pre_ping=True)
        self._is_sqlite = url.startswith("sqlite")
        if self._is_sqlite:
            sa.event.listen(self._engine.sync_engine, "connect", _pragmas)

    async def migrate(self) -> None:
        """Brings the schema to its newest version."""
        with _mapped():
            async with self._engine.begin() as connection:
                await connection.run_sync(_upgrade)

    async def close(self) -> None:
        """Closes the pool."""
        await self._engine.dispose()

    def _insert(self, table: sa.Table) -> Any:
        return sqlite.insert(table) if self._is_sqlite else postgresql.insert(table)

    # --- events and CDRs

    async def take(self, batch: Sequence[Envelope], hooks: Sequence[Webhook]) -> list[Cdr]:
        """Stores events, the CDRs of calls that ended with them, and their deliveries; all or nothing.

        Events that were stored before are passed over. Returns the CDRs written.
        """
        with _mapped():
            async with self._engine.begin() as connection:
                fresh = await self._fresh(connection, batch)
                if not fresh:
                    return []
                await connection.execute(events.insert(), [_event_row(event) for event in fresh])
                await self._subscribe(connection, fresh, hooks)
                ended = {event.call_id for event in fresh if event.type == "call.ended"}
                return await self._fold(connection, ended)

    async def _fresh(self, connection: AsyncConnection, batch: Sequence[Envelope]) -> list[Envelope]:
        unique = {event.id: event for event in batch}
        query = sa.select(events.c.id).where(events.c.id.in_(unique))
        for (known,) in await connection.execute(query):
            del unique[known]
        return list(unique.values())

    async def _subscribe(
        self, connection: AsyncConnection, fresh: Sequence[Envelope], hooks: Sequence[Webhook]
    ) -> None:
        rows = [
            {"webhook_id": hook.id, "event_id": event.id, "call_id": event.call_id, "state": PENDING}
            | {"attempts": 0, "next_at_ms": 0, "last_error": ""}
            for event in fresh
            for hook in hooks
            if hook.wants(event)
        ]
        if rows:
            await connection.execute(deliveries.insert(), rows)

    async def _fold(self, connection: AsyncConnection, calls: set[str]) -> list[Cdr]:
        if not calls:
            return []
        by_call: dict[str, list[Envelope]] = {}
        query = sa.select(events.c.call_id, events.c.document).where(events.c.call_id.in_(calls))
        for call_id, document in await connection.execute(query):
            by_call.setdefault(call_id, []).append(_envelope(document))
        built = [cdr for cdr in map(build, by_call.values()) if cdr is not None]
        rows = [_cdr_row(cdr, min(e.at_ms for e in by_call[cdr["id"]])) for cdr in built]
        if rows:
            insert = self._insert(cdrs)
            newer = {name: insert.excluded[name] for name in rows[0] if name != "id"}
            await connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=newer), rows)
        return built

    async def list_cdrs(
        self,
        *,
        before: str = "",
        limit: int = 50,
        caller: str = "",
        callee: str = "",
        outcome: str = "",
        user: str = "",
    ) -> list[Cdr]:
        """CDRs, newest first: call ids are ULIDs and sort by time."""
        query = sa.select(cdrs.c.document).order_by(cdrs.c.id.desc()).limit(limit)
        for column, value in ((cdrs.c.caller, caller), (cdrs.c.callee, callee), (cdrs.c.outcome, outcome)):
            if value:
                query = query.where(column == value)
        if user:
            query = query.where(sa.or_(cdrs.c.caller == user, cdrs.c.callee == user))
        if before:
            query = query.where(cdrs.c.id < before)
        return [json.loads(document) for (document,) in await self._all(query)]

    async def cdr(self, call_id: str) -> Cdr:
        """One CDR. Raises NotFound."""
        rows = await self._all(sa.select(cdrs.c.document).where(cdrs.c.id == call_id))
        if not rows:
            raise NotFound(f"no CDR {call_id}")
        document: Cdr = json.loads(rows[0][0])
        return document

    async def list_events(
        self, *, after: str = "", before: str = "", limit: int = 50, call_id: str = "", kind: str = ""
    ) -> list[Envelope]:
        """Events: newest first, or oldest first behind `after`."""
        order = events.c.id.asc() if after else events.c.id.desc()
        query = sa.select(events.c.document).order_by(order).limit(limit)
        if after:
            query = query.where(events.c.id > after)
        if before:
            query = query.where(events.c.id < before)
        if call_id:
            query = query.where(events.c.call_id == call_id)
        if kind:
            query = query.where(events.c.type == kind)
        return [_envelope(document) for (document,) in await self._all(query)]

    async def _all(self, query: sa.Select[Any]) -> Sequence[Any]:
        with _mapped():
            async with self._engine.connect() as connection:
                rows: Sequence[Any] = (await connection.execute(query)).all()
                return rows

    # --- webhooks

    async def list_webhooks(self) -> list[Webhook]:
        """All subscriptions, oldest first."""
        rows = await self._all(sa.select(webhooks).order_by(webhooks.c.created_at_ms, webhooks.c.id))
        return [
            Webhook(row.id, row.url, row.secret, tuple(json.loads(row.types)), row.enabled, row.created_at_ms)
            for row in rows
        ]

    async def add_webhook(self, hook: Webhook) -> None:
        """Makes a subscription."""
        with _mapped():
            async with self._engine.begin() as connection:
                await connection.execute(webhooks.insert().values(asdict(hook) | {"types": json.dumps(hook.types)}))

    async def remove_webhook(self, hook_id: str) -> None:
        """Ends a subscription and what is on its way. Raises NotFound."""
        with _mapped():
            async with self._engine.begin() as connection:
                gone = await connection.execute(webhooks.delete().where(webhooks.c.id == hook_id))
                await connection.execute(deliveries.delete().where(deliveries.c.webhook_id == hook_id))
        if not gone.rowcount:
            raise NotFound(f"no webhook {hook_id}")

    async def disable_webhook(self, hook_id: str) -> None:
        """The endpoint said that it is gone (410)."""
        with _mapped():
            async with self._engine.begin() as connection:
                await connection.execute(webhooks.update().where(webhooks.c.id == hook_id).values(enabled=False))

    async def due(self, hook_id: str, now_ms: int, limit: int) -> list[Delivery]:
        """Deliveries of an endpoint that are due: of each call only the oldest, so that its order is kept."""
        query = (
            sa.select(deliveries, events.c.document)
            .join(events, events.c.id == deliveries.c.event_id)
            .where(deliveries.c.webhook_id == hook_id, deliveries.c.state == PENDING)
            .order_by(deliveries.c.id)
            .limit(10 * limit)
        )
        found: list[Delivery] = []
        calls: set[str] = set()
        for row in await self._all(query):
            if row.call_id and row.call_id in calls:
                continue
            calls.add(row.call_id)
            if row.next_at_ms <= now_ms:
                found.append(Delivery(row.id, _envelope(row.document), row.attempts, row.next_at_ms))
        return found[:limit]

    async def settle(self, delivery: Delivery, state: str, next_at_ms: int, error: str) -> None:
        """Notes the outcome of an attempt."""
        row = {"state": state, "attempts": delivery.attempts + 1, "next_at_ms": next_at_ms, "last_error": error[:256]}
        with _mapped():
            async with self._engine.begin() as connection:
                await connection.execute(deliveries.update().where(deliveries.c.id == delivery.id).values(**row))

    async def backlog(self) -> dict[tuple[str, str], int]:
        """(webhook, state) to its count."""
        group = (deliveries.c.webhook_id, deliveries.c.state)
        rows = await self._all(sa.select(*group, sa.func.count()).group_by(*group))
        return {(hook, state): count for hook, state, count in rows}


_FIELDS: Final = tuple(field.name for field in fields(Envelope))
"""Read one by one: `asdict` copies the payload in depth, which was a fifth of this service's work."""


def _event_row(event: Envelope) -> dict[str, Any]:
    return {
        "id": event.id,
        "type": event.type,
        "at_ms": event.at_ms,
        "call_id": event.call_id,
        "sequence": event.sequence,
        "document": json.dumps({name: getattr(event, name) for name in _FIELDS}, separators=(",", ":")),
    }


def _cdr_row(cdr: Cdr, started_at_ms: int) -> dict[str, Any]:
    return {
        "id": cdr["id"],
        "caller": cdr["caller"],
        "callee": cdr["callee"],
        "outcome": cdr["outcome"] or "",
        "started_at_ms": started_at_ms,
        "document": json.dumps(cdr, separators=(",", ":")),
    }


def _envelope(document: str) -> Envelope:
    return Envelope(**json.loads(document))


def _pragmas(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _upgrade(connection: Any) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")
