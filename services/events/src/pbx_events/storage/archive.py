"""What was stored, for those who ask: CDRs and events by page and filter."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from ulid import ULID

from pbx_events.cdr.builder import Cdr
from pbx_events.envelope import Envelope, decode
from pbx_events.storage.database import Database
from pbx_events.storage.tables import cdrs, events
from pbx_runtime.errors import NotFound

ID_MARGIN_MS: Final = 60_000
"""How far the time inside a call id may be from the time at which the call started: both are of one process and one
turn of its loop, so this bounds no more than a step of its clock."""


class Archive(Database):
    """The questions of the API."""

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
        asked = _Asked(before, limit, since_ms, until_ms)
        # An outcome is rare to nobody: where a user is named too, its index must not be the one that is walked.
        how = sa.func.coalesce(cdrs.c.outcome, "") if caller or callee or user else cdrs.c.outcome
        equal: list[tuple[Any, str]] = [(cdrs.c.caller, caller), (cdrs.c.callee, callee), (how, outcome)]
        wanted = [column == value for column, value in equal if value]
        query = _either(asked, wanted, user) if user else asked.query(wanted).order_by(cdrs.c.id.desc())
        rows = await self.rows(query.limit(limit))
        return [json.loads(row.document) | {"revision": row.revision} for row in rows]

    async def cdr(self, call_id: str) -> Cdr:
        """One CDR. Raises NotFound."""
        rows = await self.rows(sa.select(cdrs.c.document, cdrs.c.revision).where(cdrs.c.id == call_id))
        if not rows:
            raise NotFound(f"no CDR {call_id}")
        document: Cdr = json.loads(rows[0].document)
        return document | {"revision": rows[0].revision}

    async def list_events(
        self, *, after: str = "", before: str = "", limit: int = 50, call_id: str = "", kind: str = ""
    ) -> list[Envelope]:
        """Events: newest first, or oldest first behind `after`."""
        order = events.c.id.asc() if after else events.c.id.desc()
        query = sa.select(events.c.payload).order_by(order).limit(limit)
        if after:
            query = query.where(events.c.id > after)
        if before:
            query = query.where(events.c.id < before)
        if call_id:
            query = query.where(events.c.call_id == call_id)
        if kind:
            query = query.where(events.c.type == kind)
        return [event for (payload,) in await self.rows(query) if (event := decode(payload)) is not None]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A page of a time."""

    before: str
    limit: int
    since_ms: int | None
    until_ms: int | None

    def query(self, wanted: list[Any]) -> sa.Select[Any]:
        """The records of that time that are `wanted`, in no order yet.

        The time bounds the ids too: a page in order of ids then starts where that time does, in every index, and does
        not walk to it from the newest record.
        """
        query = sa.select(cdrs.c.id, cdrs.c.document, cdrs.c.revision).where(*wanted)
        if self.since_ms is not None:
            query = query.where(
                cdrs.c.started_at_ms >= self.since_ms, cdrs.c.id >= _first_id(self.since_ms - ID_MARGIN_MS)
            )
        if self.until_ms is not None:
            query = query.where(
                cdrs.c.started_at_ms < self.until_ms, cdrs.c.id < _first_id(self.until_ms + ID_MARGIN_MS)
            )
        return query.where(cdrs.c.id < self.before) if self.before else query


def _first_id(at_ms: int) -> str:
    """The least ULID of a millisecond."""
    clamped = min(max(at_ms, 0), 2**48 - 1)
    return str(ULID.from_bytes(clamped.to_bytes(6, "big") + bytes(10)))


def _either(asked: _Asked, wanted: list[Any], user: str) -> sa.Select[Any]:
    """The records from or to a user: a page by each of the two indexes, merged. With OR the planner reads them all."""
    sides = [
        sa.select(asked.query([*wanted, *mine]).order_by(cdrs.c.id.desc()).limit(asked.limit).subquery())
        for mine in ([cdrs.c.caller == user], [cdrs.c.callee == user, cdrs.c.caller != user])
    ]
    both = sa.union_all(*sides).subquery()
    return sa.select(both).order_by(both.c.id.desc())
