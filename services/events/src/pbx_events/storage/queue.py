"""The queues of the endpoints: what is due, what became of it, who serves which endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from pbx_events.envelope import decode
from pbx_events.storage.contexts import Contexts
from pbx_events.storage.subscription import (
    DEAD,
    DELIVERED,
    ERROR_MAX,
    EXCERPT_MAX,
    PENDING,
    Delivery,
    Outcome,
    Replay,
    Webhook,
)
from pbx_events.storage.tables import IS_DEAD, IS_LATER, IS_PENDING, attempts, deliveries, events, webhooks

REPLAY_MAX: Final = 10_000
"""Events of one replay: a transaction of bounded size; ask again from the last one for more."""


class Queue(Contexts):
    """Deliveries."""

    async def due(self, hook_id: str, now_ms: int, limit: int) -> list[Delivery]:
        """Deliveries of an endpoint that are due, oldest first.

        One that waits for its next attempt holds up its own call alone: what of that call came later is not due.
        """
        query = _DUE.params(hook=hook_id, now=now_ms).limit(limit)
        found = [(row, event) for row in await self.rows(query) if (event := decode(row.payload)) is not None]
        await self.in_context([event for _, event in found])
        return [Delivery(row.id, event, row.attempts, row.next_at_ms) for row, event in found]

    async def next_due_ms(self, hook_id: str) -> int | None:
        """When the next further attempt is due; None where none waits. For an endpoint of which nothing is due now."""
        mine = (deliveries.c.webhook_id == hook_id, IS_LATER)
        ((at_ms,),) = await self.rows(sa.select(sa.func.min(deliveries.c.next_at_ms)).where(*mine))
        return int(at_ms) if at_ms is not None else None

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Notes the outcomes of attempts, in one transaction."""
        delivered = [{"delivery": o.delivery.id} for o in outcomes if o.state == DELIVERED and not o.delivery.attempts]
        rows = [_settled_row(o) for o in outcomes if o.state != DELIVERED or o.delivery.attempts]
        log = [_attempt_row(outcome) for outcome in outcomes]

        def work(connection: sa.Connection) -> None:
            if delivered:
                connection.execute(_DELIVERED, delivered)
            if rows:
                connection.execute(_SETTLED, rows)
            connection.execute(attempts.insert(), log)

        await self.write(work)

    async def hasten(self, hook_id: str) -> None:
        """An endpoint that was down is back: what waits for its next attempt waits no longer."""
        mine = (deliveries.c.webhook_id == hook_id, IS_LATER)
        await self.write(lambda connection: connection.execute(deliveries.update().where(*mine).values(next_at_ms=0)))

    async def lease(self, hook_id: str, holder: str, now_ms: int, until_ms: int) -> bool:
        """Whether this replica serves an endpoint from now until then: it did before, or nobody does."""
        free = sa.or_(webhooks.c.lease_holder == holder, webhooks.c.lease_until_ms < now_ms)
        change = webhooks.update().where(webhooks.c.id == hook_id, free)
        change = change.values(lease_holder=holder, lease_until_ms=until_ms)
        return bool((await self.write(lambda connection: connection.execute(change).rowcount)) == 1)

    async def release(self, holder: str) -> None:
        """This replica serves none any more."""
        change = webhooks.update().where(webhooks.c.lease_holder == holder)
        change = change.values(lease_holder="", lease_until_ms=0)
        await self.write(lambda connection: connection.execute(change))

    async def list_attempts(self, hook_id: str, before: int | None, limit: int) -> list[dict[str, Any]]:
        """The attempts of an endpoint, newest first."""
        query = sa.select(attempts).where(attempts.c.webhook_id == hook_id).order_by(attempts.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(attempts.c.id < before)
        return [dict(row._mapping) for row in await self.rows(query)]

    async def list_dead(self, hook_id: str, before: int | None, limit: int) -> list[dict[str, Any]]:
        """The dead letters of an endpoint, newest first."""
        query = sa.select(deliveries).where(deliveries.c.webhook_id == hook_id, IS_DEAD)
        if before is not None:
            query = query.where(deliveries.c.id < before)
        return [dict(row._mapping) for row in await self.rows(query.order_by(deliveries.c.id.desc()).limit(limit))]

    async def replay(self, hook: Webhook, selection: Replay) -> int:
        """Puts events on their way to an endpoint once more, delivered or dead or never sent. Returns how many."""
        query = sa.select(events.c.payload).order_by(events.c.id).limit(REPLAY_MAX)
        if selection.event_ids:
            query = query.where(events.c.id.in_(selection.event_ids))
        if selection.since_ms is not None:
            query = query.where(events.c.at_ms >= selection.since_ms)
        if selection.until_ms is not None:
            query = query.where(events.c.at_ms < selection.until_ms)
        found = [event for (payload,) in await self.rows(query) if (event := decode(payload)) is not None]
        again = {"state": PENDING, "attempts": 0, "next_at_ms": 0, "last_error": ""}
        rows = [
            {"webhook_id": hook.id, "event_id": event.id, "call_id": event.call_id} | again
            for event in found
            if selection.event_ids or hook.wants(event)
        ]
        if rows:
            insert = self.insert(deliveries).on_conflict_do_update(
                index_elements=["webhook_id", "event_id"], set_=again
            )
            await self.write(lambda connection: connection.execute(insert, rows))
        return len(rows)

    async def last_errors(self) -> dict[str, str]:
        """Why the last attempt of an endpoint failed, where it did."""
        # One step into the index for each endpoint; GROUP BY would read the whole log.
        newest = sa.select(sa.func.max(attempts.c.id)).where(attempts.c.webhook_id == webhooks.c.id).correlate(webhooks)
        query = sa.select(attempts).join(webhooks, attempts.c.id == newest.scalar_subquery())
        failed = (row for row in await self.rows(query) if not 200 <= row.status < 300)
        return {row.webhook_id: f"{row.status} {row.excerpt}".strip()[:ERROR_MAX] for row in failed}

    async def backlog(self) -> dict[tuple[str, str], int]:
        """(webhook, state) to its count; for people: it counts all that are kept."""
        counts = {DELIVERED: await self._counts(), PENDING: await self.waiting(), DEAD: await self._counts(IS_DEAD)}
        for hook in counts[DELIVERED]:
            counts[DELIVERED][hook] -= counts[PENDING].get(hook, 0) + counts[DEAD].get(hook, 0)
        return {(hook, state): count for state, of in counts.items() for hook, count in of.items() if count}

    async def waiting(self) -> dict[str, int]:
        """How many wait, by webhook; cheap, however many were delivered."""
        return await self._counts(IS_PENDING)

    async def _counts(self, *which: sa.ColumnElement[bool]) -> dict[str, int]:
        hook = deliveries.c.webhook_id
        return dict(await self.rows(sa.select(hook, sa.func.count()).where(*which).group_by(hook)))


def _due_query() -> sa.Select[Any]:
    older = deliveries.alias("older")
    hook: sa.BindParameter[str] = sa.bindparam("hook")
    now: sa.BindParameter[int] = sa.bindparam("now")
    blocked = sa.exists().where(
        older.c.webhook_id == hook,
        older.c.call_id == deliveries.c.call_id,
        older.c.state == sa.literal_column("'pending'"),
        older.c.id < deliveries.c.id,
        older.c.next_at_ms > now,
        older.c.call_id != "",
    )
    return (
        sa.select(deliveries.c.id, deliveries.c.attempts, deliveries.c.next_at_ms, events.c.payload)
        .join(events, events.c.id == deliveries.c.event_id)
        .where(deliveries.c.webhook_id == hook, IS_PENDING)
        .where(deliveries.c.next_at_ms <= now, ~blocked)
        .order_by(deliveries.c.id)
    )


_DUE = _due_query()
_DELIVERED = (
    deliveries.update()
    .where(deliveries.c.id == sa.bindparam("delivery"))
    .values(state=DELIVERED, attempts=1, last_error="")
)
_SETTLED = (
    deliveries.update()
    .where(deliveries.c.id == sa.bindparam("delivery"))
    .values(
        state=sa.bindparam("then"),
        attempts=sa.bindparam("tried"),
        next_at_ms=sa.bindparam("due"),
        last_error=sa.bindparam("why"),
    )
)


def _settled_row(outcome: Outcome) -> dict[str, Any]:
    return {
        "delivery": outcome.delivery.id,
        "then": outcome.state,
        "tried": outcome.delivery.attempts + 1,
        "due": outcome.next_at_ms,
        "why": outcome.error[:ERROR_MAX],
    }


def _attempt_row(outcome: Outcome) -> dict[str, Any]:
    return {
        "webhook_id": outcome.webhook_id,
        "event_id": outcome.delivery.event.id,
        "at_ms": outcome.at_ms,
        "status": outcome.status,
        "duration_ms": outcome.duration_ms,
        "excerpt": outcome.error[:EXCERPT_MAX],
    }
