"""What signaling says of one medium on one side: the values that cross from the edge into the session
table."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.forward import Medium, Side

CODEC_CACHE: Final = 256
"""Phones offer a handful of lists; bounded because they choose them."""
NOT_SPEECH: Final = frozenset({"TELEPHONE-EVENT", "CN", "RED"})
"""Payload types beside the codec: their clock need not be the codec's."""


class Direction(enum.IntEnum):
    """RFC 3264 section 5.1, seen from the remote endpoint. Numbered as in the contract."""

    SENDRECV = 1
    SENDONLY = 2
    RECVONLY = 3
    INACTIVE = 4


class Latching(enum.IntEnum):
    """How sources may be learned. Numbered as in the contract."""

    AUTO = 1
    STRICT = 2


class PayloadType(NamedTuple):
    """A payload type in use."""

    number: int
    encoding: str
    """As in a=rtpmap."""
    clock_rate_hz: int
    channels: int = 1
    ptime_ms: int = 0
    """0: not announced."""


@dataclass(frozen=True, slots=True)
class Stream:
    """The remote endpoint of one medium on one side."""

    side: Side
    medium: Medium
    rtp: Endpoint | None = None
    """None: declined, or not known yet."""
    rtcp: Endpoint | None = None
    """None: the port after RTP's, or RTP's own with mux."""
    direction: Direction = Direction.SENDRECV
    rtcp_mux: bool = False
    payload_types: tuple[PayloadType, ...] = ()
    relatch: bool = False
    """A new offer or answer came: the latch opens again."""
    signaling_host: str = ""
    """Where its SIP came from; empty: not known."""
    no_rtcp: bool = False
    """Nothing but RTP may be sent there."""

    @property
    def index(self) -> int:
        """Place of this stream among the four of its slot, in the order of their ports."""
        return self.side * 2 + self.medium

    @property
    def rtcp_endpoint(self) -> Endpoint:
        """Where its RTCP is sent; only of a stream that has an RTP endpoint."""
        assert self.rtp is not None
        if self.rtcp_mux:
            return self.rtp
        return self.rtcp or Endpoint(self.rtp.host, min(self.rtp.port + 1, 65535))

    @property
    def codec(self) -> PayloadType | None:
        """The first payload type that carries the medium itself; None where none was told."""
        return codec_of(self.payload_types)


@lru_cache(maxsize=CODEC_CACHE)
def codec_of(payload_types: tuple[PayloadType, ...]) -> PayloadType | None:
    """See `Stream.codec`."""
    for payload_type in payload_types:
        if payload_type.encoding.upper() not in NOT_SPEECH:
            return payload_type
    return None
