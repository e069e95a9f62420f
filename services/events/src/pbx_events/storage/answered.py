"""What requests with an idempotency key were answered: a repetition gets the same answer, and does nothing again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from pbx_events.storage.database import Database
from pbx_events.storage.tables import answered

KEPT_MS: Final = 24 * 3600 * 1000
"""How long a key is known: longer than any client goes on trying."""
ABANDONED_MS: Final = 60_000
"""A request of that age without an answer died with its process: the next one with its key begins anew."""
FORGET_BATCH: Final = 100
"""Old rows that a new one takes along: more than one, so that the table does not grow."""


@dataclass(frozen=True, slots=True)
class Before:
    """A request with the same key that came before."""

    request: str
    status: int
    """0 while it is under way."""
    answer: bytes


class Answered(Database):
    """Requests by key."""

    async def begin(self, key: str, request: str, now_ms: int) -> Before | None:
        """Notes that a request begins; what stands under its key, if it is not the first."""

        def work(connection: sa.Connection) -> Before | None:
            old = sa.select(answered.c.key).where(answered.c.at_ms < now_ms - KEPT_MS).limit(FORGET_BATCH)
            connection.execute(answered.delete().where(answered.c.key.in_(old.scalar_subquery())))
            dead = sa.and_(answered.c.status == 0, answered.c.at_ms < now_ms - ABANDONED_MS)
            connection.execute(answered.delete().where(answered.c.key == key, dead))
            row = connection.execute(sa.select(answered).where(answered.c.key == key)).first()
            if row is not None:
                return Before(row.request, row.status, bytes(row.answer))
            connection.execute(answered.insert().values(key=key, request=request, at_ms=now_ms, answer=b""))
            return None

        return await self.write(work)

    async def finish(self, key: str, status: int, answer: bytes) -> None:
        """Notes the answer."""
        query = answered.update().where(answered.c.key == key).values(status=status, answer=answer)
        await self.write(lambda connection: connection.execute(query))

    async def give_up(self, key: str) -> None:
        """It came to nothing: the next one with its key begins anew."""
        await self.write(lambda connection: connection.execute(answered.delete().where(answered.c.key == key)))
