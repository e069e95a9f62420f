"""An event as this service handles it: the contract's message read once into plain values, ready for JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from pbx.events.v1 import events_pb2 as pb


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event."""

    id: str
    type: str
    """ "call.initiated", "registration.added", ..."""
    at_ms: int
    call_id: str
    sequence: int
    elapsed_ms: int
    source: str
    data: dict[str, Any]
    """The payload: proto field names, enums as lower-case words, fields that were not measured as None."""


def decode(raw: bytes) -> Envelope | None:
    """Reads what stands in the stream; None where it is no event of the contract that this version knows."""
    try:
        event = pb.Event.FromString(raw)
    except DecodeError:
        return None
    kind = event.WhichOneof("payload")
    if kind is None or not event.id:
        return None
    return Envelope(
        id=event.id,
        type=kind.replace("_", ".", 1),
        at_ms=event.at_ms,
        call_id=event.call_id,
        sequence=event.sequence,
        elapsed_ms=event.elapsed_ms,
        source=event.source,
        data=plain(getattr(event, kind)),
    )


def plain(message: Message) -> dict[str, Any]:
    """A message as a dict: every field, unset messages and optionals as None."""
    return {name: read(message) for name, read in _readers(message)}


def _readers(message: Message) -> list[tuple[str, Any]]:
    descriptor = message.DESCRIPTOR
    readers = _CACHE.get(descriptor.full_name)
    if readers is None:
        readers = _CACHE[descriptor.full_name] = [(field.name, _reader(field)) for field in descriptor.fields]
    return readers


_CACHE: Final[dict[str, list[tuple[str, Any]]]] = {}


def _reader(field: Any) -> Any:
    name = field.name
    if field.is_repeated:
        if field.message_type is not None:
            return lambda message: [plain(item) for item in getattr(message, name)]
        return lambda message: list(getattr(message, name))
    if field.message_type is not None:
        return lambda message: plain(getattr(message, name)) if message.HasField(name) else None
    if field.enum_type is not None:
        words = {value.number: _word(value.name, field.enum_type.name) for value in field.enum_type.values}
        return lambda message: words.get(getattr(message, name))
    if field.has_presence:
        return lambda message: getattr(message, name) if message.HasField(name) else None
    return lambda message: getattr(message, name)


def _word(value: str, enum: str) -> str | None:
    """CALL_SIDE_CALLER of CallSide is "caller"; the unspecified value is None."""
    prefix = "".join(f"_{char}" if char.isupper() else char.upper() for char in enum).lstrip("_").upper() + "_"
    word = value.removeprefix(prefix).lower()
    return None if word == "unspecified" else word
