"""The fold: all events of a call in, its CDR out. Pure; the order and repetition of the events do not matter.

Times come from the wall clock of the call's owner, durations from its monotonic one. What was not measured is None.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pbx.events.v1 import events_pb2 as pb
from pbx_events.envelope import Envelope

Cdr = dict[str, Any]


def build(events: Iterable[Envelope]) -> Cdr | None:
    """The CDR of a call; None where its first event is missing. `ended_at` is None while it lives."""
    by_type: dict[str, Envelope] = {}
    for event in sorted({event.id: event for event in events}.values(), key=lambda e: e.sequence):
        by_type[event.type] = event
    first = by_type.get("call.initiated")
    if first is None:
        return None
    ended = by_type.get("call.ended")
    data = ended.data if ended is not None else {}
    dialing = by_type.get("call.dialing")
    answered = by_type.get("call.answered")
    caller, dialled = first.data["caller"], first.data["dialled"]
    duration_ms = ended.elapsed_ms - first.elapsed_ms if ended is not None else None
    return {
        "id": first.call_id,
        "call_id": first.call_id,
        "revision": 1,
        "caller": caller,
        "caller_name": first.data["caller_name"] or None,
        "callee": dialled,
        "dialled": dialled,
        "domain": first.data["domain"],
        "connected": answered.data["connected"] if answered is not None else None,
        "started_at": iso(first.at_ms),
        "ringing_at": _at(by_type.get("call.ringing")),
        "answered_at": _at(answered),
        "ended_at": _at(ended),
        "duration_ms": duration_ms,
        "talk_ms": (data["duration_ms"] if answered is not None else 0) if ended is not None else None,
        "outcome": _outcome(data, answered),
        "origin": data.get("origin"),
        "hung_up_by": data.get("by"),
        "sip_status": data.get("sip_status"),
        "sip_reason": data.get("sip_reason") or None,
        "q850_cause": data.get("q850_cause") or None,
        "cause": data.get("cause"),
        "relay_id": (dialing.data["relay_id"] or None) if dialing is not None else None,
        "instance": first.source,
        "legs": _legs(first, dialing, answered, data),
    }


def node_lost(last: Envelope, event_id: str, at_ms: int) -> Envelope:
    """The end that the reaper writes for a call whose owner vanished after `last`, the last that was heard.

    It has the sequence of that event: should the owner speak again after all, its own end stands behind this one and
    wins. When exactly the call ended nobody measured: durations end with the last event.
    """
    data = dict.fromkeys(_ENDED) | {"origin": "node_lost", "outcome": "failed", "cause": "node_lost", "media": []}
    source, elapsed_ms = "events/reaper", last.elapsed_ms
    return Envelope(event_id, "call.ended", at_ms, last.call_id, last.sequence, elapsed_ms, source, data)


_ENDED = [field.name for field in pb.CallEnded.DESCRIPTOR.fields]


def _legs(
    first: Envelope, dialing: Envelope | None, answered: Envelope | None, data: dict[str, Any]
) -> list[dict[str, Any]]:
    known = answered.data if answered is not None else {}
    caller = data.get("caller_leg") or known.get("caller_leg") or first.data["leg"]
    callee = data.get("callee_leg") or known.get("callee_leg") or (dialing.data["leg"] if dialing is not None else None)
    media = data.get("media") or []
    legs = []
    for side, leg in (("caller", caller), ("callee", callee)):
        if leg is not None:
            streams = [{k: v for k, v in item.items() if k != "side"} for item in media if item["side"] == side]
            legs.append({"side": side, **{k: v or None for k, v in leg.items()}, "media": streams})
    return legs


def _outcome(data: dict[str, Any], answered: Envelope | None) -> str | None:
    """A call that was lost with its owner after its answer was an answered one; `origin` tells the rest."""
    return "answered" if answered is not None and data.get("origin") == "node_lost" else data.get("outcome")


def _at(event: Envelope | None) -> str | None:
    return iso(event.at_ms) if event is not None else None


def iso(at_ms: int) -> str:
    """Milliseconds since the Unix epoch as RFC 3339 in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
