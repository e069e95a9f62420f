"""The data of an event as others see it: one word and one value for a thing, as in CDRs and in live calls.

The stream's messages are the services' own; what differs from a CDR's words is said here, once, as tables that the
event catalogue is made from too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pbx_events.envelope import Envelope

RENAMED: Final[Mapping[tuple[str, str], str]] = {
    ("call.ended", "by"): "hung_up_by",
    ("call.ended", "duration_ms"): "talk_ms",
}
"""(type, field of the message) to the word that the CDR has for it."""
LEFT_OUT: Final = frozenset((("call.dialing", "callee"), ("registration.added", "source"), ("call.ended", "media")))
"""Fields whose thing is told by others: the callee without its domain, the phone's address without its transport, media
figures by media.reported."""
CALL_FIELDS: Final[Mapping[str, tuple[str, str]]] = {
    "caller": ("string", "The caller's user; null: the call's first event is not kept any more"),
    "callee": ("string", "The user that was dialled"),
    "domain": ("string", "The caller's domain"),
    "started_at": ("date-time", "When the call came in"),
}
"""What every event of a call says of it."""
ADDED: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "call.ended": {
        "duration_ms": ("integer", "Monotonic milliseconds from the first event of the call to this one"),
        "talk_ms": ("integer", "Monotonic milliseconds from the answer to the end; 0 where not answered"),
    },
    "registration.added": {
        "transport": ("string", "Over which the REGISTER came: udp, tcp, tls, ws or wss"),
        "remote_address": ("string", "Whence it came: host:port, IPv6 in brackets"),
    },
}
DOCUMENTS: Final = frozenset((("cdr.created", "cdr"), ("cdr.updated", "cdr")))
"""Fields that hold JSON, and are shown as what it says."""
ZERO_IS_NOTHING: Final = frozenset(("final_status", "relay_port", "sip_status", "q850_cause"))
"""Numbers whose 0 means that there is none."""


def data_of(event: Envelope) -> dict[str, Any]:
    """What an event tells. Empty texts and numbers that mean nothing are null, as in CDRs."""
    data: dict[str, Any] = {"call_id": event.call_id or None, "sequence": event.sequence or None}
    if event.call_id:
        for name in CALL_FIELDS:
            data[name] = (getattr(event.context, name) or None) if event.context is not None else None
    for name, value in event.data.items():
        if (event.type, name) in DOCUMENTS:
            data[name] = msgspec.json.decode(value)
        elif (event.type, name) not in LEFT_OUT:
            data[RENAMED.get((event.type, name), name)] = _cleaned(name, value)
    if event.type == "call.ended":
        data["duration_ms"] = None if data["origin"] == "node_lost" else event.elapsed_ms
        data["talk_ms"] = None if data["origin"] == "node_lost" else data["talk_ms"] or 0
    if event.type == "registration.added":
        transport, _, address = str(event.data["source"]).partition(":")
        data |= {"transport": transport or None, "remote_address": address or None}
    return data


def _cleaned(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _cleaned(key, each) for key, each in value.items()}
    if isinstance(value, list):
        return [_cleaned("", each) for each in value]
    return None if value == "" or (value == 0 and name in ZERO_IS_NOTHING) else value
