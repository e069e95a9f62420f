"""The way of an event into SQL: stored once, put on its way to the endpoints, folded into the CDR when its call ends.

One transaction for a batch, a handful of statements however large it is. The payload is stored as it came; it is read
where it must be.

A CDR is made when the call's end and its relay's figures are here, or MEDIA_WAIT_MS after the end without them; which
calls wait stands in SQL, so that another replica, or this one started again, goes on. Figures that come later still are
an event like others and change no CDR.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from pbx_events.cdr.builder import MEDIA, REAPER, Cdr, awaits_media, build, renumbered
from pbx_events.cdr.event import CREATED, UPDATED, written
from pbx_events.envelope import Envelope, decode, holder_of
from pbx_events.storage.database import Database
from pbx_events.storage.hooks import read_hooks
from pbx_events.storage.subscription import PENDING, Webhook
from pbx_events.storage.tables import cdrs, deliveries, events, exports, open_calls, unfolded
from pbx_runtime.clock import Clock, SystemClock

BEGUN: Final = "call.initiated"
ENDED: Final = "call.ended"
ANSWERED: Final = "call.answered"
ADOPTED: Final = "call.adopted"
USER_MAX: Final = 128
"""The width of the columns."""
MEDIA_WAIT_MS: Final = 5_000
"""How long a CDR waits for the relay's figures: they come within a tenth of a second, or one after Redis is back."""
OVERDUE_BATCH: Final = 500
"""CDRs of one transaction that waited long enough: all that a relay carried, where it died."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a batch came to."""

    fresh: list[Envelope]
    """Those that were not stored before."""
    cdrs: list[Cdr]
    """The CDRs that were written or corrected."""


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call that lives, as far as its owner told."""

    last: Envelope
    """The last that was heard of it."""
    answered: bool


class Ledger(Database):
    """Events and what is made of them."""

    sinks: tuple[str, ...] = ()
    """Where CDRs go besides the table, by name: what is written here is exported by `sink.exporter`."""
    clock: Clock = SystemClock()
    media_missing = 0
    """CDRs written without the figures of a relay that carried their call."""
    media_late = 0
    """Figures that came after their CDR."""

    async def take(self, batch: Sequence[Envelope], hooks: Sequence[Webhook]) -> Taken:
        """Stores events, the CDRs of calls that ended with them, and their deliveries; all or nothing.

        Events that were stored before are passed over.
        """
        return await self.write(lambda connection: self._take(connection, batch, hooks))

    def _take(self, connection: sa.Connection, batch: Sequence[Envelope], hooks: Sequence[Webhook]) -> Taken:
        unknown = self._unknown(connection, batch)
        if not unknown:
            return Taken([], [])
        ends = self._ends_of(connection, unknown)
        fresh = [_behind_its_end(event, ends.get(event.call_id, ())) for event in unknown]
        connection.execute(_STORE, [_event_row(event) for event in fresh])
        self._subscribe(connection, fresh, hooks)
        # What comes after the end of a call corrects its CDR.
        over = {event.call_id for event in fresh if event.type == ENDED} | ends.keys()
        self._track(connection, fresh, over)
        return Taken(fresh, self._fold(connection, fresh, over, ends.keys(), hooks))

    def _unknown(self, connection: sa.Connection, batch: Sequence[Envelope]) -> list[Envelope]:
        unique = {event.id: event for event in batch}
        for known in connection.execute(_KNOWN, {"ids": list(unique)}).scalars():
            del unique[known]
        return list(unique.values())

    def _ends_of(self, connection: sa.Connection, unknown: Sequence[Envelope]) -> dict[str, list[Envelope]]:
        """The ends that are stored already of the calls in a batch."""
        found: dict[str, list[Envelope]] = {}
        calls = list({event.call_id for event in unknown if event.call_id})
        rows = connection.execute(_EVENTS_OF.where(events.c.type == ENDED), {"calls": calls}) if calls else ()
        for row in rows:
            event = decode(row.payload)
            if event is not None:
                found.setdefault(event.call_id, []).append(event)
        return found

    def _subscribe(self, connection: sa.Connection, fresh: Sequence[Envelope], hooks: Sequence[Webhook]) -> None:
        if not self.is_sqlite:
            hooks = read_hooks(connection)  # another replica may have made one since
        if not hooks:
            return
        known = self._parties(connection, fresh) if any(hook.user for hook in hooks) else {}
        rows = [
            {"webhook_id": hook.id, "event_id": event.id, "call_id": event.call_id}
            for event in fresh
            for hook in hooks
            if hook.wants(event) and (not hook.user or hook.concerns(*_ends(event, known)))
        ]
        if rows:
            connection.execute(_SUBSCRIBE, rows)

    def _parties(self, connection: sa.Connection, fresh: Sequence[Envelope]) -> dict[str, tuple[str, str]]:
        """Who calls whom, by call: the first event of a call tells it for all of them."""
        calls = list({event.call_id for event in fresh if event.call_id})
        rows = connection.execute(_EVENTS_OF.where(events.c.type == BEGUN), {"calls": calls})
        first = (event for row in rows if (event := decode(row.payload)) is not None)
        return {event.call_id: (event.data["caller"], event.data["dialled"]) for event in first}

    def _track(self, connection: sa.Connection, fresh: Sequence[Envelope], over: set[str]) -> None:
        """Keeps the list of calls that live, for the reaper."""
        begun = {event.call_id: event for event in fresh if event.type == BEGUN}
        rows = [
            {"call_id": call_id, "instance": holder_of(event.source), "started_at_ms": event.at_ms}
            for call_id, event in begun.items()
            if call_id not in over
        ]
        if rows:
            connection.execute(self._open, rows)
        for event in fresh:
            if event.type == ADOPTED and event.call_id not in over:
                moved = open_calls.update().where(open_calls.c.call_id == event.call_id)
                connection.execute(moved.values(instance=holder_of(event.source)))
        gone = [{"call": call_id} for call_id in over - begun.keys()]
        if gone:
            connection.execute(_CLOSE, gone)

    def _fold(
        self,
        connection: sa.Connection,
        fresh: Sequence[Envelope],
        over: set[str],
        ended_before: Set[str],
        hooks: Sequence[Webhook],
    ) -> list[Cdr]:
        """Writes the CDRs of calls that are over, but for those that wait for their relay."""
        known = over & ended_before
        waiting = set(connection.execute(_WAITING, {"calls": list(known)}).scalars()) if known else set()
        told = {event.call_id for event in fresh if event.type != MEDIA}
        late = known - waiting - told
        self.media_late += len(late)
        by_call = self._heard(connection, fresh, over - late)
        unready = {
            call_id
            for call_id, heard in by_call.items()
            if (call_id in waiting or call_id not in known) and awaits_media(heard)
        }
        if begins := unready - waiting:
            until_ms = self.clock.epoch_ms() + MEDIA_WAIT_MS
            rows = [{"call_id": call_id, "until_ms": until_ms} for call_id in begins]
            connection.execute(unfolded.insert(), rows)
        if ends := waiting - unready:
            connection.execute(_FOLDED, [{"call": call_id} for call_id in ends])
        ready = {call_id: heard for call_id, heard in by_call.items() if call_id not in unready}
        return self._record(connection, ready, hooks)

    async def fold_overdue(self) -> int:
        """Writes the CDRs that waited long enough, without their relay's figures; how many."""
        now_ms = self.clock.epoch_ms()
        overdue = sa.select(unfolded.c.call_id).where(unfolded.c.until_ms <= now_ms).limit(OVERDUE_BATCH)
        if not await self.rows(overdue.limit(1)):
            return 0

        def work(connection: sa.Connection) -> int:
            calls = set(connection.execute(overdue).scalars())
            connection.execute(unfolded.delete().where(unfolded.c.call_id.in_(calls)))
            self._record(connection, self._heard(connection, (), calls), read_hooks(connection))
            return len(calls)

        folded = await self.write(work)
        self.media_missing += folded
        return folded

    def _heard(
        self, connection: sa.Connection, fresh: Sequence[Envelope], calls: set[str]
    ) -> dict[str, list[Envelope]]:
        """All events of calls: read back, unless the batch has them all."""
        by_call = _whole(fresh, calls)
        rest = [call_id for call_id in calls if call_id not in by_call]
        if rest:
            for row in connection.execute(_EVENTS_OF, {"calls": rest}):
                event = decode(row.payload)
                if event is not None:
                    by_call.setdefault(row.call_id, []).append(event)
        return by_call

    def _record(
        self, connection: sa.Connection, by_call: dict[str, list[Envelope]], hooks: Sequence[Webhook]
    ) -> list[Cdr]:
        built = [cdr for cdr in map(build, by_call.values()) if cdr is not None]
        if built:
            told = self._told(connection, built, hooks)
            rows = [cdr_row(cdr, min(e.at_ms for e in by_call[cdr["id"]])) for cdr in built]
            connection.execute(self._upsert, rows)
            if told:
                connection.execute(_STORE, [_event_row(event) for event in told])
                self._subscribe(connection, told, hooks)
            on_their_way = [{"sink": sink, "cdr_id": cdr["id"]} for cdr in built for sink in self.sinks]
            if on_their_way:
                connection.execute(exports.insert(), on_their_way)
        return built

    def _told(self, connection: sa.Connection, built: Sequence[Cdr], hooks: Sequence[Webhook]) -> list[Envelope]:
        """The events of records that are about to be written; none where no webhook wants such."""
        if not self.is_sqlite:
            hooks = read_hooks(connection)  # another replica may have made one since
        if not any(hook.wants_type(kind) for hook in hooks for kind in (CREATED, UPDATED)):
            return []
        found = connection.execute(_BEFORE, {"ids": [cdr["id"] for cdr in built]})
        before = {row.id: (row.document, row.revision) for row in found}
        return written(built, before, self.clock.epoch_ms())

    # Statements of this database's dialect are made once: each is a net of cycles for the garbage collector.

    @cached_property
    def _open(self) -> Any:
        return self.insert(open_calls).on_conflict_do_nothing()

    @cached_property
    def _upsert(self) -> Any:
        insert = self.insert(cdrs)
        newer = {
            column.name: insert.excluded[column.name] for column in cdrs.c if column.name not in ("id", "revision")
        }
        newer["revision"] = cdrs.c.revision + 1
        differs = cdrs.c.document != insert.excluded.document
        return insert.on_conflict_do_update(index_elements=["id"], set_=newer, where=differs)

    # --- calls that live, as far as their events tell

    async def open_instances(self) -> list[str]:
        """Who holds calls: signaling instances, each with its incarnation where that is known."""
        return [name for (name,) in await self.rows(sa.select(open_calls.c.instance).distinct())]

    async def open_calls(self, instance: str, limit: int) -> list[OpenCall]:
        """Calls that an instance holds, as far as it told of them."""
        mine = sa.select(open_calls.c.call_id).where(open_calls.c.instance == instance)
        mine = mine.order_by(open_calls.c.call_id).limit(limit)
        query = sa.select(events.c.payload).where(events.c.call_id.in_(mine.scalar_subquery()))
        last: dict[str, OpenCall] = {}
        for (payload,) in await self.rows(query.order_by(events.c.sequence)):
            event = decode(payload)
            if event is not None:
                before = last.get(event.call_id)
                answered = event.type == ANSWERED or (before is not None and before.answered)
                last[event.call_id] = OpenCall(event, answered)
        return list(last.values())


def _behind_its_end(event: Envelope, ends: Iterable[Envelope]) -> Envelope:
    """An event as it came, or numbered behind the end that the reaper wrote for its call meanwhile."""
    reaped = next((end for end in ends if end.source == REAPER), None)
    return event if reaped is None or event.source == REAPER else renumbered(event, reaped)


MESSAGES: Final = frozenset({"message.sent", "message.delivered", "message.failed"})


def _ends(event: Envelope, calls: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """From whom and to whom an event is; both are the user of a registration."""
    if event.call_id:
        return calls.get(event.call_id, ("", ""))
    if event.type in MESSAGES:
        return str(event.data["sender"]), str(event.data["recipient"]).partition("@")[0]
    user = str(event.data.get("aor") or event.data.get("user") or "").partition("@")[0]
    return user, user


def _whole(fresh: Iterable[Envelope], over: set[str]) -> dict[str, list[Envelope]]:
    """The calls that came as a whole in this batch: their events need not be read back."""
    found: dict[str, list[Envelope]] = {}
    for event in fresh:
        if event.call_id in over:
            found.setdefault(event.call_id, []).append(event)
    return {call_id: heard for call_id, heard in found.items() if _is_whole(heard)}


def _is_whole(heard: Sequence[Envelope]) -> bool:
    ends = [event.sequence for event in heard if event.type == ENDED]
    numbered = {event.sequence for event in heard if event.sequence}
    return len(ends) == 1 and numbered == set(range(1, ends[0] + 1))


_KNOWN = sa.select(events.c.id).where(events.c.id.in_(sa.bindparam("ids", expanding=True)))
_STORE = events.insert()
_SUBSCRIBE = deliveries.insert().values(state=PENDING, attempts=0, next_at_ms=0, last_error="")
_CLOSE = open_calls.delete().where(open_calls.c.call_id == sa.bindparam("call"))
_WAITING = sa.select(unfolded.c.call_id).where(unfolded.c.call_id.in_(sa.bindparam("calls", expanding=True)))
_FOLDED = unfolded.delete().where(unfolded.c.call_id == sa.bindparam("call"))
_BEFORE = sa.select(cdrs.c.id, cdrs.c.document, cdrs.c.revision).where(
    cdrs.c.id.in_(sa.bindparam("ids", expanding=True))
)
_EVENTS_OF = sa.select(events.c.call_id, events.c.payload).where(
    events.c.call_id.in_(sa.bindparam("calls", expanding=True))
)


def _event_row(event: Envelope) -> dict[str, Any]:
    return {
        "id": event.id,
        "type": event.type,
        "at_ms": event.at_ms,
        "call_id": event.call_id,
        "sequence": event.sequence,
        "payload": event.raw,
    }


def _filtered(user: str) -> str:
    """A user as the filters of the API see it: a caller may write anything, and the document has all of it."""
    return user[:USER_MAX].replace("\0", "\ufffd")


def cdr_row(cdr: Cdr, started_at_ms: int) -> dict[str, Any]:
    """A CDR as it stands in its table."""
    return {
        "id": cdr["id"],
        "caller": _filtered(cdr["caller"]),
        "callee": _filtered(cdr["callee"]),
        "outcome": cdr["outcome"] or "",
        "started_at_ms": started_at_ms,
        "document": msgspec.json.encode(cdr).decode(),
    }
