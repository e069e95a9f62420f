"""The events that tell of records: `cdr.created` and `cdr.updated`, each with the whole CDR.

This service makes them itself, beside the record and in its transaction, and only where a webhook wants them: the table
of records has all of it anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from ulid import ULID

from pbx.events.v1 import events_pb2 as pb
from pbx_events.cdr.builder import Cdr
from pbx_events.envelope import Envelope, encode
from pbx_runtime.trace import call_traceparent

CREATED: Final = "cdr.created"
UPDATED: Final = "cdr.updated"
SOURCE: Final = "events/cdr"


def written(built: Sequence[Cdr], before: Mapping[str, tuple[str, int]], now_ms: int) -> list[Envelope]:
    """What is to be told of records as they are now; `before`: document and revision of those that were there.

    A record that came out as it was is no event.
    """
    made = []
    for cdr in built:
        document, revision = before.get(cdr["id"], ("", 0))
        if document != msgspec.json.encode(cdr).decode():
            made.append(_event(cdr | {"revision": revision + 1}, now_ms))
    return made


def _event(cdr: Cdr, now_ms: int) -> Envelope:
    event = pb.Event(id=str(ULID()), at_ms=now_ms, call_id=cdr["id"], source=SOURCE)
    event.traceparent = call_traceparent(event.call_id, event.id)
    payload = event.cdr_created if cdr["revision"] == 1 else event.cdr_updated
    payload.cdr = msgspec.json.encode(cdr).decode()
    return encode(event)
