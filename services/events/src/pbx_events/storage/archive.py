"""What was stored, for those who ask: CDRs and events by page and filter."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from ulid import ULID

from pbx_events.cdr.builder import Cdr
from pbx_events.envelope import Envelope, decode
from pbx_events.storage.database import Database
from pbx_events.storage.tables import cdrs, events
from pbx_runtime.errors import NotFound

ID_MARGIN_MS: Final = 60_000
"""How far the time inside a call id may be from the time at which the call started: both are of one process and one
turn of its loop, so this bounds no more than a step of its clock."""
LAST_CHARACTER: Final = 0x10FFFF
FIRST_SURROGATE: Final = 0xD800
"""No text has these: what follows U+D7FF is U+E000."""


@dataclass(frozen=True, slots=True)
class CdrFilter:
    """Which CDRs. A name may have several values; one that ends with `*` stands for all that begin so."""

    before: str = ""
    limit: int = 50
    caller: tuple[str, ...] = ()
    callee: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    """Caller or callee."""
    outcome: tuple[str, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None
    duration_ms_min: int | None = None
    talk_ms_min: int | None = None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events: the newest first, or the oldest first behind `after`."""

    after: str = ""
    before: str = ""
    limit: int = 50
    call_id: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    """Types, or `call.*`."""
    since_ms: int | None = None
    until_ms: int | None = None


class Archive(Database):
    """The questions of the API."""

    async def list_cdrs(self, wanted: CdrFilter | None = None) -> list[Cdr]:
        """CDRs that started in [since, until), newest first: call ids are ULIDs and sort by time."""
        of = wanted or CdrFilter()
        asked = _Asked(of.before, of.limit, of.since_ms, of.until_ms)
        # An outcome is rare to nobody: where a user is named too, its index must not be the one that is walked.
        how = sa.func.coalesce(cdrs.c.outcome, "") if of.caller or of.callee or of.user else cdrs.c.outcome
        named = [(cdrs.c.caller, of.caller), (cdrs.c.callee, of.callee), (how, of.outcome)]
        terms = [self._is_one_of(column, values) for column, values in named if values]
        lengths = [("duration_ms", of.duration_ms_min), ("talk_ms", of.talk_ms_min)]
        terms += [self._number_in(name) >= least for name, least in lengths if least is not None]
        query = self._either(asked, terms, of.user) if of.user else asked.query(terms).order_by(cdrs.c.id.desc())
        rows = await self.rows(query.limit(of.limit))
        return [json.loads(row.document) | {"revision": row.revision} for row in rows]

    async def cdr(self, call_id: str) -> Cdr:
        """One CDR. Raises NotFound."""
        rows = await self.rows(sa.select(cdrs.c.document, cdrs.c.revision).where(cdrs.c.id == call_id))
        if not rows:
            raise NotFound(f"no CDR {call_id}")
        document: Cdr = json.loads(rows[0].document)
        return document | {"revision": rows[0].revision}

    async def list_events(self, wanted: EventFilter | None = None) -> list[Envelope]:
        """Events: newest first, or oldest first behind `after`."""
        of = wanted or EventFilter()
        order = events.c.id.asc() if of.after else events.c.id.desc()
        query = sa.select(events.c.payload).order_by(order).limit(of.limit)
        if of.after:
            query = query.where(events.c.id > of.after)
        if of.before:
            query = query.where(events.c.id < of.before)
        if of.call_id:
            query = query.where(_one_of(events.c.call_id, of.call_id))
        if of.kind:
            query = query.where(self._is_one_of(events.c.type, of.kind))
        # An event's id has its time: so a page begins where the time does.
        if of.since_ms is not None:
            query = query.where(events.c.at_ms >= of.since_ms, events.c.id >= _first_id(of.since_ms - ID_MARGIN_MS))
        if of.until_ms is not None:
            query = query.where(events.c.at_ms < of.until_ms, events.c.id < _first_id(of.until_ms + ID_MARGIN_MS))
        return [event for (payload,) in await self.rows(query) if (event := decode(payload)) is not None]

    async def event(self, event_id: str) -> Envelope:
        """One event. Raises NotFound."""
        rows = await self.rows(sa.select(events.c.payload).where(events.c.id == event_id))
        found = decode(rows[0].payload) if rows else None
        if found is None:
            raise NotFound(f"no event {event_id}")
        return found

    def _is_one_of(self, column: Any, values: tuple[str, ...]) -> sa.ColumnElement[bool]:
        exact = tuple(value for value in values if not value.endswith("*"))
        prefixes = [value[:-1] for value in values if value.endswith("*")]
        terms = ([_one_of(column, exact)] if exact else []) + [self._begins(column, prefix) for prefix in prefixes]
        return terms[0] if len(terms) == 1 else sa.or_(*terms)

    def _begins(self, column: Any, prefix: str) -> sa.ColumnElement[bool]:
        if not self.is_sqlite:
            return sa.func.starts_with(column, prefix)
        # SQLite compares octets: all that begin with it lie between it and its successor, and an index serves them.
        last = ord(prefix[-1]) + 1
        if last > LAST_CHARACTER:
            successor = prefix + chr(LAST_CHARACTER)
        else:
            successor = prefix[:-1] + chr(0xE000 if last == FIRST_SURROGATE else last)
        return sa.and_(column >= prefix, column < successor)

    def _number_in(self, name: str) -> Any:
        """A number of a CDR's document: of what an index has left, and without an index of its own."""
        kind = sa.JSON if self.is_sqlite else postgresql.JSON
        document = sa.type_coerce(cdrs.c.document, kind) if self.is_sqlite else sa.cast(cdrs.c.document, kind)
        return sa.cast(document[name].as_string(), sa.BigInteger)

    def _either(self, asked: _Asked, terms: list[Any], user: tuple[str, ...]) -> sa.Select[Any]:
        """The records from or to a user: a page by each index, merged. With OR the planner reads them all."""
        called, calls = self._is_one_of(cdrs.c.callee, user), self._is_one_of(cdrs.c.caller, user)
        sides = [
            sa.select(asked.query([*terms, *mine]).order_by(cdrs.c.id.desc()).limit(asked.limit).subquery())
            for mine in ([calls], [called, sa.not_(calls)])
        ]
        both = sa.union_all(*sides).subquery()
        return sa.select(both).order_by(both.c.id.desc())


def _one_of(column: Any, values: tuple[str, ...]) -> sa.ColumnElement[bool]:
    found: sa.ColumnElement[bool] = column == values[0] if len(values) == 1 else column.in_(values)
    return found


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
