"""An event as this service handles it: the head read once, the payload as plain values, ready for JSON, on demand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from pbx.events.v1 import events_pb2 as pb

TYPES: Final = tuple(field.name.replace("_", ".", 1) for field in pb.Event.DESCRIPTOR.oneofs_by_name["payload"].fields)
"""Every type of event, in the order of the contract."""


@dataclass(frozen=True, slots=True)
class Context:
    """The call of an event."""

    caller: str
    callee: str
    domain: str
    started_at: str


class Envelope:
    """One event. What the payload says is read when it is asked for: most events are stored and sent as they came."""

    __slots__ = (
        "_data",
        "at_ms",
        "call_id",
        "context",
        "elapsed_ms",
        "id",
        "raw",
        "sequence",
        "source",
        "traceparent",
        "type",
    )

    def __init__(self, message: pb.Event, kind: str, raw: bytes) -> None:
        self.id = message.id
        self.type = kind.replace("_", ".", 1)
        """ "call.initiated", "registration.added", ..."""
        self.at_ms = message.at_ms
        self.call_id = message.call_id
        self.sequence = message.sequence
        self.elapsed_ms = message.elapsed_ms
        self.source = message.source
        self.traceparent = message.traceparent
        self.raw = raw
        """The serialised message, as it stood in the stream."""
        self.context: Context | None = None
        """Its call, where it was read with it (`storage.contexts`)."""
        self._data: dict[str, Any] | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The payload: proto field names, enums as lower-case words, fields that were not measured as None."""
        if self._data is None:
            message = pb.Event.FromString(self.raw)
            self._data = plain(getattr(message, self.type.replace(".", "_", 1)))
        return self._data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Envelope) and (self.id, self.raw) == (other.id, other.raw)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Envelope {self.id} {self.type} {self.call_id} #{self.sequence}>"


def encode(message: pb.Event) -> Envelope:
    """An event that this service itself makes."""
    kind = message.WhichOneof("payload")
    assert kind is not None
    return Envelope(message, kind, message.SerializeToString())


def decode(raw: bytes) -> Envelope | None:
    """Reads what stands in the stream; None where it is no event of the contract that this version knows."""
    try:
        message = pb.Event.FromString(raw)
    except DecodeError:
        return None
    kind = message.WhichOneof("payload")
    return Envelope(message, kind, raw) if kind is not None and message.id else None


def holder_of(source: str) -> str:
    """Who lives or vanishes: "signaling/s1.m3x9" is "s1.m3x9", the instance s1 in its incarnation m3x9."""
    return source.rpartition("/")[2]


def instance_of(source: str) -> str:
    """The source without its incarnation: "signaling/s1.m3x9" is "signaling/s1"."""
    return source.partition(".")[0]


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
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return lambda message: dict(getattr(message, name))
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
