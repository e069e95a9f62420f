"""CDRs on their way to sinks: written with the CDR in one transaction, removed once the sink has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from pbx_events.storage.database import Database
from pbx_events.storage.tables import cdrs, exports


@dataclass(frozen=True, slots=True)
class Export:
    """A CDR for a sink."""

    id: int
    """Grows with every CDR and revision; what orders a sink."""
    cdr_id: str
    revision: int
    document: str
    """The CDR in JSON, as the table has it: without its revision."""


class Exports(Database):
    """The queues of the sinks."""

    async def next_exports(self, sink: str, limit: int) -> list[Export]:
        """The oldest that wait, each as it is now: of a CDR that was corrected meanwhile, the correction."""
        query = (
            sa.select(exports.c.id, exports.c.cdr_id, cdrs.c.revision, cdrs.c.document)
            .join(cdrs, cdrs.c.id == exports.c.cdr_id)
            .where(exports.c.sink == sink)
            .order_by(exports.c.id)
            .limit(limit)
        )
        return [Export(*row) for row in await self.rows(query)]

    async def exported(self, sink: str, done: Sequence[Export]) -> None:
        """The sink has them for good."""
        mine = (exports.c.sink == sink, exports.c.id <= done[-1].id)
        await self.write(lambda connection: connection.execute(exports.delete().where(*mine)))

    async def export_backlog(self, sink: str) -> int:
        """How many wait."""
        ((count,),) = await self.rows(sa.select(sa.func.count()).where(exports.c.sink == sink))
        return int(count)
