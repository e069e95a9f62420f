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
from pbx_events.storage.tables import attempts, cdrs, deliveries, events, metadata, open_calls, webhooks
from pbx_runtime.errors import NotFound, Unavailable

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
PENDING, DELIVERED, DEAD = "pending", "delivered", "dead"
ENDED: Final = "call.ended"
EXCERPT_MAX: Final = 512
"""Characters of an answer that the log of attempts keeps: enough to see what went wrong."""
REPLAY_MAX: Final = 10_000
"""Events of one replay: a transaction of bounded size; ask again from the last one for more."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """One subscription. `types` is empty for all; the secret is shown once, when it is made."""

    id: str
    url: str
    secret: str
    types: tuple[str, ...]
    enabled: bool
    created_at_ms: int
    old_secret: str = ""
    """The secret before the last rotation."""
    old_secret_until_ms: int = 0
    """Until when deliveries are signed with it too."""

    def secrets(self, now_ms: int) -> tuple[str, ...]:
        """The secrets that are valid now, the newest first."""
        return (
            (self.secret, self.old_secret) if self.old_secret and now_ms < self.old_secret_until_ms else (self.secret,)
        )

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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt came to."""

    webhook_id: str
    delivery: Delivery
    state: str
    next_at_ms: int
    at_ms: int
    duration_ms: int
    status: int
    error: str
    """The first of the answer, or why there was none."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Which events to send again: those named, or those of a time."""

    event_ids: tuple[str, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None


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

    async def empty(self) -> None:
        """Forgets everything; for tests."""
        with _mapped():
            async with self._engine.begin() as connection:
                for table in metadata.sorted_tables:
                    await connection.execute(table.delete())

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
                over = await self._over(connection, fresh)
                await self._track(connection, fresh, over)
                return await self._fold(connection, over)

    async def _over(self, connection: AsyncConnection, fresh: Sequence[Envelope]) -> set[str]:
        """The calls of a batch that have ended, with it or before: what came late corrects the CDR."""
        over = {event.call_id for event in fresh if event.type == ENDED}
        rest = {event.call_id for event in fresh if event.call_id} - over
        if rest:
            query = sa.select(events.c.call_id).where(events.c.call_id.in_(rest), events.c.type == ENDED)
            over.update(call_id for (call_id,) in await connection.execute(query))
        return over

    async def _track(self, connection: AsyncConnection, fresh: Sequence[Envelope], over: set[str]) -> None:
        """Keeps the list of calls that live, for the reaper."""
        begun = {event.call_id: event for event in fresh if event.type == "call.initiated"}
        rows = [
            {"call_id": call_id, "instance": instance_of(event.source), "started_at_ms": event.at_ms}
            for call_id, event in begun.items()
            if call_id not in over
        ]
        if rows:
            await connection.execute(self._insert(open_calls).on_conflict_do_nothing(), rows)
        for event in fresh:
            if event.type == "call.adopted":
                moved = open_calls.update().where(open_calls.c.call_id == event.call_id)
                await connection.execute(moved.values(instance=event.data["to_instance_id"]))
        gone = over - begun.keys()
        if gone:
            await connection.execute(open_calls.delete().where(open_calls.c.call_id.in_(gone)))

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
            newer["revision"] = cdrs.c.revision + 1
            await connection.execute(
                insert.on_conflict_do_update(
                    index_elements=["id"], set_=newer, where=cdrs.c.document != insert.excluded.document
                ),
                rows,
            )
        return built

    # --- calls that live, as far as their events tell

    async def open_instances(self) -> list[str]:
        """The signaling instances that hold calls."""
        return [name for (name,) in await self._all(sa.select(open_calls.c.instance).distinct())]

    async def open_calls(self, instance: str, limit: int) -> list[Envelope]:
        """The last event of calls that an instance holds."""
        mine = sa.select(open_calls.c.call_id).where(open_calls.c.instance == instance)
        mine = mine.order_by(open_calls.c.call_id).limit(limit)
        query = sa.select(events.c.document).where(events.c.call_id.in_(mine.scalar_subquery()))
        last: dict[str, Envelope] = {}
        for (document,) in await self._all(query.order_by(events.c.sequence)):
            event = _envelope(document)
            last[event.call_id] = event
        return list(last.values())

    async def list_cdrs(
        self,
        *,
        before: str = "",
        limit: int = 50,
        caller: str = "",
        callee: str = "",
        outcome: str = "",
        user: str = "",
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> list[Cdr]:
        """CDRs that started in [since, until), newest first: call ids are ULIDs and sort by time."""
        query = sa.select(cdrs.c.document, cdrs.c.revision).order_by(cdrs.c.id.desc()).limit(limit)
        if since_ms is not None:
            query = query.where(cdrs.c.started_at_ms >= since_ms)
        if until_ms is not None:
            query = query.where(cdrs.c.started_at_ms < until_ms)
        for column, value in ((cdrs.c.caller, caller), (cdrs.c.callee, callee), (cdrs.c.outcome, outcome)):
            if value:
                query = query.where(column == value)
        if user:
            query = query.where(sa.or_(cdrs.c.caller == user, cdrs.c.callee == user))
        if before:
            query = query.where(cdrs.c.id < before)
        return [json.loads(document) | {"revision": revision} for document, revision in await self._all(query)]

    async def cdr(self, call_id: str) -> Cdr:
        """One CDR. Raises NotFound."""
        rows = await self._all(sa.select(cdrs.c.document, cdrs.c.revision).where(cdrs.c.id == call_id))
        if not rows:
            raise NotFound(f"no CDR {call_id}")
        document: Cdr = json.loads(rows[0].document)
        return document | {"revision": rows[0].revision}

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
            Webhook(
                row.id,
                row.url,
                row.secret,
                tuple(json.loads(row.types)),
                row.enabled,
                row.created_at_ms,
                row.old_secret,
                row.old_secret_until_ms,
            )
            for row in rows
        ]

    async def webhook(self, hook_id: str) -> Webhook:
        """One subscription. Raises NotFound."""
        for hook in await self.list_webhooks():
            if hook.id == hook_id:
                return hook
        raise NotFound(f"no webhook {hook_id}")

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
                await connection.execute(attempts.delete().where(attempts.c.webhook_id == hook_id))
        if not gone.rowcount:
            raise NotFound(f"no webhook {hook_id}")

    async def disable_webhook(self, hook_id: str) -> None:
        """The endpoint said that it is gone (410)."""
        with _mapped():
            async with self._engine.begin() as connection:
                await connection.execute(webhooks.update().where(webhooks.c.id == hook_id).values(enabled=False))

    async def due(self, hook_id: str, now_ms: int, limit: int) -> list[Delivery]:
        """Deliveries of an endpoint that are due: of each call only the oldest, so that its order is kept.

        One that waits for its next attempt holds up its own call alone.
        """
        older = deliveries.alias("older")
        blocked = sa.exists().where(
            older.c.webhook_id == hook_id,
            older.c.call_id == deliveries.c.call_id,
            older.c.state == PENDING,
            older.c.id < deliveries.c.id,
            older.c.call_id != "",
        )
        query = (
            sa.select(deliveries, events.c.document)
            .join(events, events.c.id == deliveries.c.event_id)
            .where(deliveries.c.webhook_id == hook_id, deliveries.c.state == PENDING)
            .where(deliveries.c.next_at_ms <= now_ms, ~blocked)
            .order_by(deliveries.c.next_at_ms, deliveries.c.id)
            .limit(limit)
        )
        return [
            Delivery(row.id, _envelope(row.document), row.attempts, row.next_at_ms) for row in await self._all(query)
        ]

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Notes the outcomes of attempts, in one transaction."""
        query = deliveries.update().where(deliveries.c.id == sa.bindparam("delivery_id"))
        rows = [
            {
                "delivery_id": outcome.delivery.id,
                "state": outcome.state,
                "attempts": outcome.delivery.attempts + 1,
                "next_at_ms": outcome.next_at_ms,
                "last_error": outcome.error[:256],
            }
            for outcome in outcomes
        ]
        log = [
            {
                "webhook_id": outcome.webhook_id,
                "event_id": outcome.delivery.event.id,
                "at_ms": outcome.at_ms,
                "status": outcome.status,
                "duration_ms": outcome.duration_ms,
                "excerpt": outcome.error[:EXCERPT_MAX],
            }
            for outcome in outcomes
        ]
        with _mapped():
            async with self._engine.begin() as connection:
                await connection.execute(query, rows)
                await connection.execute(attempts.insert(), log)

    async def hasten(self, hook_id: str) -> None:
        """An endpoint that was down is back: what waits for its next attempt waits no longer."""
        mine = (deliveries.c.webhook_id == hook_id, deliveries.c.state == PENDING, deliveries.c.next_at_ms > 0)
        with _mapped():
            async with self._engine.begin() as connection:
                await connection.execute(deliveries.update().where(*mine).values(next_at_ms=0))

    async def list_attempts(self, hook_id: str, before: int | None, limit: int) -> list[dict[str, Any]]:
        """The attempts of an endpoint, newest first."""
        query = sa.select(attempts).where(attempts.c.webhook_id == hook_id).order_by(attempts.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(attempts.c.id < before)
        return [dict(row._mapping) for row in await self._all(query)]

    async def replay(self, hook: Webhook, selection: Replay) -> int:
        """Puts events on their way to an endpoint once more, delivered or dead or never sent. Returns how many."""
        query = sa.select(events.c.document).order_by(events.c.id).limit(REPLAY_MAX)
        if selection.event_ids:
            query = query.where(events.c.id.in_(selection.event_ids))
        if selection.since_ms is not None:
            query = query.where(events.c.at_ms >= selection.since_ms)
        if selection.until_ms is not None:
            query = query.where(events.c.at_ms < selection.until_ms)
        found = [_envelope(document) for (document,) in await self._all(query)]
        again = {"state": PENDING, "attempts": 0, "next_at_ms": 0, "last_error": ""}
        rows = [
            {"webhook_id": hook.id, "event_id": event.id, "call_id": event.call_id} | again
            for event in found
            if selection.event_ids or hook.wants(event)
        ]
        if rows:
            insert = self._insert(deliveries).on_conflict_do_update(
                index_elements=["webhook_id", "event_id"], set_=again
            )
            with _mapped():
                async with self._engine.begin() as connection:
                    await connection.execute(insert, rows)
        return len(rows)

    async def rotate(self, hook_id: str, secret: str, until_ms: int) -> None:
        """A new secret; the one before stays valid until then. Raises NotFound."""
        change = {"old_secret": webhooks.c.secret, "secret": secret, "old_secret_until_ms": until_ms}
        with _mapped():
            async with self._engine.begin() as connection:
                done = await connection.execute(webhooks.update().where(webhooks.c.id == hook_id).values(**change))
        if not done.rowcount:
            raise NotFound(f"no webhook {hook_id}")

    async def backlog(self) -> dict[tuple[str, str], int]:
        """(webhook, state) to its count."""
        group = (deliveries.c.webhook_id, deliveries.c.state)
        rows = await self._all(sa.select(*group, sa.func.count()).group_by(*group))
        return {(hook, state): count for hook, state, count in rows}


_FIELDS: Final = tuple(field.name for field in fields(Envelope))
"""Read one by one: `asdict` copies the payload in depth, which was a fifth of this service's work."""


def instance_of(source: str) -> str:
    """ "signaling/s1" is instance "s1"."""
    return source.rpartition("/")[2]


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
