"""What an Allocate or a Begin asks for, and the relay as others see it: values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pbx_media_relay.errors import InvalidStreamError
from pbx_media_relay.ports import Shard, SlotCounts
from pbx_media_relay.session import Refusal
from pbx_media_relay.stream import Latching, Stream

CALL_ID_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Order:
    """What an Allocate asks for."""

    call_id: str
    instance_id: str
    streams: tuple[Stream, ...] = ()
    media_timeout_s: int = 0
    """Seconds without a packet of any side after which the call counts as silent; 0: as the relay is set."""
    latching: Latching = Latching.AUTO
    refused: tuple[Refusal, ...] = ()
    """Endpoints that could not be read; of `streams` they are a part, without an address."""


@dataclass(frozen=True, slots=True)
class Status:
    """The relay as others see it."""

    draining: bool
    slots: SlotCounts
    """Granted slots count as taken."""
    shard: Shard
    granted: int = 0


def check_call_id(call_id: str) -> None:
    """Raises InvalidStreamError where it is none."""
    if not 0 < len(call_id) <= CALL_ID_MAX:
        raise InvalidStreamError(f"a call id has 1 to {CALL_ID_MAX} characters")
