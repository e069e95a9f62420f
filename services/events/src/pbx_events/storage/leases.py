"""What one replica does for all: a row that names who does it, and until when."""

from __future__ import annotations

import sqlalchemy as sa

from pbx_events.storage.database import Database
from pbx_events.storage.tables import leases


class Leases(Database):
    """Leases by name."""

    async def hold(self, name: str, holder: str, now_ms: int, until_ms: int) -> bool:
        """Whether `holder` holds the lease from now until then: it did before, or nobody does."""
        insert = self.insert(leases).values(name=name, holder=holder, until_ms=until_ms)
        free = sa.or_(leases.c.holder == holder, leases.c.until_ms < now_ms)
        taken = insert.on_conflict_do_update(
            index_elements=["name"], set_={"holder": holder, "until_ms": until_ms}, where=free
        )
        return bool((await self.write(lambda connection: connection.execute(taken).rowcount)) == 1)

    async def let_go(self, holder: str) -> None:
        """This replica holds none any more."""
        await self.write(lambda connection: connection.execute(leases.delete().where(leases.c.holder == holder)))
