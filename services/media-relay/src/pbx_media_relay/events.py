"""What the relay tells: frozen values, turned into messages by `api/` and into logs and metrics by
`observe`."""

from __future__ import annotations

from dataclasses import dataclass

from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.forward import Medium, Side


@dataclass(frozen=True, slots=True)
class FirstPacket:
    """The first RTP packet of a stream was accepted."""

    call_id: str
    instance_id: str
    at_ns: int
    side: Side
    medium: Medium
    source: Endpoint


@dataclass(frozen=True, slots=True)
class MediaTimeout:
    """Nothing came from either side for the call's media timeout."""

    call_id: str
    instance_id: str
    at_ns: int
    silent_ns: int


@dataclass(frozen=True, slots=True)
class LeaseExpired:
    """The slot was taken back because its instance vanished."""

    call_id: str
    instance_id: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Draining:
    """The relay takes no new calls and ends at `deadline_ns`; told to every instance."""

    at_ns: int
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class SlotBroken:
    """Another process holds a port of a slot; for logs and metrics alone."""

    slot: int
    port: int


@dataclass(frozen=True, slots=True)
class CallLost:
    """A call of a former process could not be taken up again; for logs alone."""

    call_id: str
    reason: str


RelayEvent = FirstPacket | MediaTimeout | LeaseExpired | Draining | SlotBroken | CallLost
