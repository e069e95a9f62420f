"""Forgets what is old, a small transaction at a time: the loop that takes events never waits long for it."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from ulid import ULID

from pbx_events.storage.database import Database
from pbx_events.storage.subscription import DEAD, DELIVERED
from pbx_events.storage.tables import IS_OPEN, attempts, cdrs, deliveries, events, exports

FORGET_BATCH: Final = 250
"""Rows of one transaction: median 25 ms, at most 41 ms of 200 000 CDRs (`make bench-events ARGS="--forget 200000"`)."""


class Retention(Database):
    """Each method forgets at most FORGET_BATCH rows from before a time, and returns how many: 0 when done."""

    async def forget_cdrs(self, before_ms: int) -> int:
        """CDRs of calls that began before; not those that a sink still waits for."""
        waits = sa.exists().where(exports.c.cdr_id == cdrs.c.id)
        old = sa.select(cdrs.c.id).where(cdrs.c.started_at_ms < before_ms, ~waits)
        return await self._forget(cdrs, cdrs.c.id, old.order_by(cdrs.c.started_at_ms))

    async def forget_events(self, before_ms: int) -> int:
        """Events that no delivery needs: one that waits or is dead keeps its event."""
        needed = sa.exists().where(deliveries.c.event_id == events.c.id, IS_OPEN)
        old = sa.select(events.c.id).where(events.c.at_ms < before_ms, ~needed)
        return await self._forget(events, events.c.id, old.order_by(events.c.at_ms))

    async def forget_deliveries(self, webhook_id: str, before_ms: int) -> int:
        """Deliveries of an endpoint that are done, or were given up."""
        mine = (deliveries.c.webhook_id == webhook_id, deliveries.c.event_id < _first_ulid(before_ms))
        old = sa.select(deliveries.c.id).where(*mine, deliveries.c.state.in_((DELIVERED, DEAD)))
        return await self._forget(deliveries, deliveries.c.id, old)

    async def forget_attempts(self, before_ms: int) -> int:
        """The log of attempts."""
        # Ids grow with time: the oldest rows are the first, and no index by time is needed.
        oldest = sa.select(attempts.c.id, attempts.c.at_ms).order_by(attempts.c.id).limit(FORGET_BATCH).subquery()
        old = sa.select(oldest.c.id).where(oldest.c.at_ms < before_ms)
        return await self._forget(attempts, attempts.c.id, old)

    async def _forget(self, table: sa.Table, key: sa.Column[Any], old: sa.Select[Any]) -> int:
        doomed = table.delete().where(key.in_(old.limit(FORGET_BATCH).scalar_subquery()))
        return int(await self.write(lambda connection: connection.execute(doomed).rowcount))


def _first_ulid(at_ms: int) -> str:
    """What is smaller is the ULID of an earlier time."""
    return str(ULID.from_bytes(max(at_ms, 0).to_bytes(6, "big") + bytes(10)))
