"""Values that signaling exchanges with a media relay, its contract in domain words: slots and endpoints."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pbx_sip.swift import swift


class Media(enum.IntEnum):
    """Media of a slot, numbered as in the relay's contract."""

    AUDIO = 1
    VIDEO = 2


class Direction(enum.IntEnum):
    """What an endpoint does, seen from itself (RFC 3264 section 5.1); numbered as in the relay's contract."""

    SENDRECV = 1
    SENDONLY = 2
    RECVONLY = 3
    INACTIVE = 4


DIRECTIONS = {direction.name.lower(): direction for direction in Direction}


@swift
@dataclass(frozen=True, slots=True)
class Codec:
    """A payload type in use."""

    number: int
    encoding: str
    clock_rate_hz: int
    channels: int = 1
    ptime_ms: int = 0


@dataclass(slots=True)
class StreamEndpoint:
    """Where one medium of one side is to be sent; port 0: declined."""

    side: int
    media: Media
    host: str
    port: int
    rtcp_host: str
    rtcp_port: int
    """0: no RTCP is to be sent there."""
    direction: Direction
    rtcp_mux: bool
    codecs: tuple[Codec, ...]
    signaling_host: str = ""
    """Where the side's SIP comes from: media of a phone behind a NAT comes from there too."""
    held: bool = False
    """Its address is unspecified: `host` is a former or a likely one, to which nothing at all is sent."""


@dataclass(slots=True)
class Slot:
    """Eight ports of a relay, and the addresses under which phones reach them."""

    relay: str
    index: int
    host4: str
    host6: str
    ports: dict[tuple[int, int], tuple[int, int]]
    """(side, media) to (RTP port, RTCP port)."""

    def host_for(self, family: int) -> str:
        """The address to announce to a phone of an address family (4 or 6); the other one where there is none."""
        return (self.host6 or self.host4) if family == 6 else (self.host4 or self.host6)

    @property
    def first_port(self) -> int:
        """The lowest port of the slot."""
        return min(pair[0] for pair in self.ports.values())
