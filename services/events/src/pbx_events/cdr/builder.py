"""The fold: all events of a call in, its CDR out. Pure; the order and repetition of the events do not matter.

Times come from the wall clock of the call's owner, durations from its monotonic one. What was not measured is None.
Media figures come from the relay that carried the call last, in an event of its own: `awaits_media` says whether it is
still to come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from pbx.events.v1 import events_pb2 as pb
from pbx_events.envelope import Envelope, encode, instance_of

Cdr = dict[str, Any]
MEDIA: Final = "media.reported"
MEDIA_FIELDS: Final = (
    "media",
    "packets",
    "bytes",
    "packets_lost",
    "jitter_ms",
    "mos",
    "rtt_ms",
    "packets_reordered",
    "packets_duplicate",
    "packets_dropped",
)
"""What a record tells of a relay's figures; the event has them all."""
REAPER: Final = "events/reaper"
"""The source of the ends that this service itself writes."""


def build(events: Iterable[Envelope]) -> Cdr | None:
    """The CDR of a call; None where its first event is missing. `ended_at` is None while it lives."""
    # What the owner says of the end stands behind what the reaper concluded.
    ordered = _ordered(events)
    last_of = {event.type: event for event in ordered}
    first = last_of.get("call.initiated")
    if first is None:
        return None
    first_of = {event.type: event for event in reversed(ordered)}
    ended, dialing = last_of.get("call.ended"), last_of.get("call.dialing")
    answered = first_of.get("call.answered")
    data = ended.data if ended is not None else {}
    begun, dialled = first.data, first.data["dialled"]
    return {
        "id": first.call_id,
        "call_id": first.call_id,
        "revision": 1,
        "caller": begun["caller"],
        "caller_name": begun["caller_name"] or None,
        "callee": dialled,
        "dialled": dialled,
        "domain": begun["domain"],
        "connected": answered.data["connected"] if answered is not None else None,
        "target": (answered.data["target"] or None) if answered is not None else None,
        "started_at": iso(first.at_ms),
        "ringing_at": _at(first_of.get("call.ringing")),
        "answered_at": _at(answered),
        "ended_at": _at(ended),
        "duration_ms": _duration_ms(first, ended),
        "talk_ms": _talk_ms(data, answered),
        "outcome": _outcome(data, answered),
        "origin": data.get("origin"),
        "hung_up_by": data.get("by"),
        "sip_status": data.get("sip_status") or None,
        "sip_reason": data.get("sip_reason") or None,
        "q850_cause": data.get("q850_cause") or None,
        "cause": data.get("cause"),
        "hangup_reason": data.get("hangup_reason") or None,
        "relay_id": _relay_id(dialing, last_of.get("call.media_migrated")),
        "instance": instance_of(first.source),
        "legs": _legs(first, dialing, answered, data, _media(ordered, last_of)),
        "recordings": [_recording(event) for event in ordered if event.type == "recording.stored"],
        "migrations": [_migration(event) for event in ordered if event.type in _MIGRATIONS],
        "traceparent": first.traceparent or None,
    }


def awaits_media(events: Iterable[Envelope]) -> bool:
    """Whether a call that has ended was carried by a relay that has not told its figures."""
    ordered = _ordered(events)
    last_of = {event.type: event for event in ordered}
    relay_id = _relay_id(last_of.get("call.dialing"), last_of.get("call.media_migrated"))
    return relay_id is not None and _media_of(ordered, relay_id) is None and not _told_by_owner(last_of)


def _ordered(events: Iterable[Envelope]) -> list[Envelope]:
    return sorted({event.id: event for event in events}.values(), key=lambda e: (e.sequence, e.source != REAPER, e.id))


def _media(ordered: Sequence[Envelope], last_of: Mapping[str, Envelope]) -> list[dict[str, Any]]:
    """The figures of the relay that carried the media last."""
    relay_id = _relay_id(last_of.get("call.dialing"), last_of.get("call.media_migrated"))
    return _media_of(ordered, relay_id) or _told_by_owner(last_of)


def _media_of(ordered: Sequence[Envelope], relay_id: str | None) -> list[dict[str, Any]] | None:
    """What this relay told; None where it told nothing."""
    for event in ordered:
        if event.type == MEDIA and event.data["relay_id"] == relay_id:
            return list(event.data["streams"])
    return None


def _told_by_owner(last_of: Mapping[str, Envelope]) -> list[dict[str, Any]]:
    """What signaling told of them, as it did before relays told them themselves."""
    ended = last_of.get("call.ended")
    return list(ended.data["media"]) if ended is not None else []


_MIGRATIONS = ("call.media_migrated", "call.adopted")


def _duration_ms(first: Envelope, ended: Envelope | None) -> int | None:
    """From the begin to the end; None while it lives, and where it was lost and nobody measured."""
    if ended is None or ended.data["origin"] == "node_lost":
        return None
    return ended.elapsed_ms - first.elapsed_ms


def _talk_ms(data: dict[str, Any], answered: Envelope | None) -> int | None:
    """From the answer to the end; None while it lives, and where it was lost and nobody measured."""
    if not data:
        return None
    if answered is None:
        return 0
    return None if data["origin"] == "node_lost" else int(data["duration_ms"] or 0)


def _relay_id(dialing: Envelope | None, migrated: Envelope | None) -> str | None:
    """The relay that carried the media last."""
    if migrated is not None:
        return migrated.data["to_relay_id"] or None
    return (dialing.data["relay_id"] or None) if dialing is not None else None


def _migration(event: Envelope) -> dict[str, Any]:
    what, key = ("media", "relay_id") if event.type == "call.media_migrated" else ("call", "instance_id")
    return {"at": iso(event.at_ms), "what": what, "from": event.data[f"from_{key}"], "to": event.data[f"to_{key}"]}


def _recording(event: Envelope) -> dict[str, Any]:
    return {name: event.data[name] for name in ("path", "duration_ms", "bytes", "relay_id")}


def node_lost(last: Envelope, event_id: str, at_ms: int, *, answered: bool = False) -> Envelope:
    """The end that the reaper writes for a call whose owner vanished after `last`, the last that was heard.

    It has the next sequence: should the owner speak again after all, what it says is numbered behind this
    (`renumbered`), and its own end wins. When exactly the call ended nobody measured: it has no duration.
    """
    outcome = pb.OUTCOME_ANSWERED if answered else pb.OUTCOME_FAILED
    ended = pb.CallEnded(origin=pb.ORIGIN_NODE_LOST, outcome=outcome, cause="node_lost")
    return encode(
        pb.Event(
            id=event_id,
            at_ms=at_ms,
            call_id=last.call_id,
            sequence=last.sequence + 1,
            elapsed_ms=last.elapsed_ms,
            source=REAPER,
            traceparent=last.traceparent,
            call_ended=ended,
        )
    )


def renumbered(event: Envelope, reaped: Envelope) -> Envelope:
    """What an owner says after all, behind the end that the reaper wrote: of a call no number comes twice."""
    if event.sequence < reaped.sequence:
        return event
    message = pb.Event.FromString(event.raw)
    message.sequence += 1
    return encode(message)


def _legs(
    first: Envelope,
    dialing: Envelope | None,
    answered: Envelope | None,
    data: dict[str, Any],
    media: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    known = answered.data if answered is not None else {}
    caller = data.get("caller_leg") or known.get("caller_leg") or first.data["leg"]
    callee = data.get("callee_leg") or known.get("callee_leg") or (dialing.data["leg"] if dialing is not None else None)
    legs = []
    for side, leg in (("caller", caller), ("callee", callee)):
        if leg is not None:
            streams = [{name: item[name] for name in MEDIA_FIELDS} for item in media if item["side"] == side]
            legs.append({"side": side, **{k: v or None for k, v in leg.items()}, "media": streams})
    return legs


def _outcome(data: dict[str, Any], answered: Envelope | None) -> str | None:
    """A call that was lost with its owner after its answer was an answered one; `origin` tells the rest.

    Also where the event of the end, of a version before, says that it failed.
    """
    return "answered" if answered is not None and data.get("origin") == "node_lost" else data.get("outcome")


def _at(event: Envelope | None) -> str | None:
    return iso(event.at_ms) if event is not None else None


def iso(at_ms: int) -> str:
    """Milliseconds since the Unix epoch as RFC 3339 in UTC."""
    seconds, milliseconds = divmod(at_ms, 1000)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    """Many events of one second are told."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()
