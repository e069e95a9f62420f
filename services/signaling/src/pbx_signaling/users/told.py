"""What is told of a message outside of calls: the values of its events, never what stands in it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class MessageRecord(enum.IntEnum):
    """What is told of a message, in this order."""

    SENT = 0
    DELIVERED = 1
    FAILED = 2


@dataclass(frozen=True, slots=True)
class Told:
    """What an event says of a message; never what stands in it."""

    record: MessageRecord
    message_id: str
    """Also of the events that follow."""
    sender: str
    recipient: str
    """Address-of-record; where a phone sent the message on, that of the other user."""
    content_type: str
    octets: int
    tried: int
    """Bindings to which it was sent."""
    status: int = 0
    """What its sender was told."""
    cause: str = ""
    at: float = 0.0
    """Monotonic seconds."""
    lasted_s: float = 0.0
    """Since it was taken on."""
