"""What every event of a call says of it, from the call's first event: remembered, asked of SQL once for a batch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from pbx_events.cdr.builder import iso
from pbx_events.envelope import Context, Envelope, decode
from pbx_events.storage.database import Database
from pbx_events.storage.tables import events

REMEMBERED_MAX: Final = 10_000
"""Calls of which it is remembered: about 400 octets each, more than have events on their way at a time."""
BEGUN: Final = "call.initiated"


class Contexts(Database):
    """The calls of events."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._contexts: OrderedDict[str, Context] = OrderedDict()

    async def in_context(self, found: Sequence[Envelope]) -> Sequence[Envelope]:
        """The same events, each with its call, where the call's first event is kept."""
        known = self._contexts
        for event in found:
            if event.type == BEGUN:
                known[event.call_id] = _context(event)
        missing = {event.call_id for event in found if event.call_id and event.call_id not in known}
        if missing:
            for (payload,) in await self.rows(_FIRST.params(calls=list(missing))):
                first = decode(payload)
                if first is not None:
                    known[first.call_id] = _context(first)
        for event in found:
            event.context = known.get(event.call_id)
            if event.context is not None:
                known.move_to_end(event.call_id)
        while len(known) > REMEMBERED_MAX:
            known.popitem(last=False)
        return found


def _context(first: Envelope) -> Context:
    data = first.data
    return Context(data["caller"], data["dialled"], data["domain"], iso(first.at_ms))


_FIRST = sa.select(events.c.payload).where(
    events.c.call_id.in_(sa.bindparam("calls", expanding=True)), events.c.type == BEGUN
)
