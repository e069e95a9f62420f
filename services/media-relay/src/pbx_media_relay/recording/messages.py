"""What the relay and its recording worker say to each other: one message a datagram, copied packets in a
fixed frame."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import msgspec

from pbx_media_relay.forward import Side
from pbx_media_relay.stream import PayloadType

PACKET: Final = struct.Struct("!BIBQ")
PACKET_KIND: Final = 0x50
"""First octet of a copied packet; a msgpack map of the other messages never begins with it."""
MESSAGE_MAX: Final = 65536


class Open(msgspec.Struct, frozen=True, tag=True):
    """Begin a recording."""

    key: int
    path: str
    start_ns: int
    codecs: tuple[tuple[PayloadType, ...], tuple[PayloadType, ...]]
    """Payload types of side A and of side B."""


class Codecs(msgspec.Struct, frozen=True, tag=True):
    """The payload types of a side changed."""

    key: int
    side: Side
    payload_types: tuple[PayloadType, ...]


class End(msgspec.Struct, frozen=True, tag=True):
    """End a recording."""

    key: int
    end_ns: int


class Stored(msgspec.Struct, frozen=True, tag=True):
    """A file was closed; said by the worker."""

    key: int
    path: str
    duration_ms: int
    bytes: int
    error: str = ""
    """Why it ended before its time; empty where it did not."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A copied packet."""

    key: int
    side: Side
    at_ns: int
    rtp: bytes


Word = Open | Codecs | End
_encode = msgspec.msgpack.Encoder().encode
_word = msgspec.msgpack.Decoder(Word)
_stored = msgspec.msgpack.Decoder(Stored)


def encode(message: Word | Stored | Packet) -> bytes:
    """One datagram."""
    if isinstance(message, Packet):
        return PACKET.pack(PACKET_KIND, message.key, message.side, message.at_ns) + message.rtp
    return _encode(message)


def decode(data: bytes) -> Word | Packet:
    """What the relay said."""
    if data[0] == PACKET_KIND:
        _, key, side, at_ns = PACKET.unpack_from(data)
        return Packet(key, Side(side), at_ns, data[PACKET.size :])
    word: Word = _word.decode(data)
    return word


def decode_stored(data: bytes) -> Stored:
    """What the worker said."""
    return _stored.decode(data)
