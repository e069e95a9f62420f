"""The `Forward`: what a datapath must know of one side of one medium, RTP and RTCP together.

It says which packets are accepted on a pair of local ports and where the *other* side's packets are sent. The
destination of what is accepted here is the endpoint of `peer`, sent from the peer's local port: symmetric
RTP, so a datapath that latches a source re-aims the peer's traffic by itself. Datapaths with a flow table of
their own make two entries of it, (port, family) for RTP and (port + 1, family) for RTCP. Not called a flow:
RFC 5626 owns the word.

Every time here is CLOCK_MONOTONIC in nanoseconds: Python's `time.monotonic_ns`, `clock_gettime`,
`bpf_ktime_get_ns`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pbx_media_relay.endpoint import Endpoint

PORTS_PER_SLOT: Final = 8
RATE_LIMIT_PPS: Final = 3000
"""Packets a second and forward: 30 times G.711 at 10 ms, and 30 Mbit/s of video in full packets."""
EVERY_PAYLOAD_TYPE: Final = (1 << 128) - 1


class Side(enum.IntEnum):
    """The two sides of a call, in the order of their ports in a slot."""

    A = 0
    B = 1


class Medium(enum.IntEnum):
    """The media of a slot, in the order of their ports on a side."""

    AUDIO = 0
    VIDEO = 1


def forward_id(slot: int, side: Side, medium: Medium) -> int:
    """Number of a forward: its RTP port divided by 2, below 32768, so that it may index an array."""
    return slot * 4 + side * 2 + medium


def place_of(forward: int) -> tuple[int, Side, Medium]:
    """Slot, side and medium of a forward's number."""
    return forward // 4, Side(forward >> 1 & 1), Medium(forward & 1)


def slot_of(port: int) -> int:
    """Number of the slot that a port belongs to: slots are aligned, whatever the shard."""
    return port // PORTS_PER_SLOT


def rtp_port(slot_port: int, side: Side, medium: Medium) -> int:
    """The RTP port of one medium on one side in the slot that begins at `slot_port`; RTCP is the next one."""
    return slot_port + side * 4 + medium * 2


def payload_mask(numbers: Iterable[int]) -> int:
    """Bit set of payload types; all of them where none is given, since nothing is then known."""
    mask = 0
    for number in numbers:
        mask |= 1 << number
    return mask or EVERY_PAYLOAD_TYPE


class DropReason(enum.IntEnum):
    """Why an accepted socket's packet was not relayed. The order is the C ABI's."""

    SOURCE = 0
    """Not from the endpoint that was announced or latched, and the window is closed or the packet
    implausible."""
    MALFORMED = 1
    """Neither RTP nor RTCP as that port expects them (RFC 3550, RFC 5761): STUN, DTLS, truncated, noise."""
    DIRECTION = 2
    """The sender may not send now, or the peer may not receive (hold; RTCP where it has no place for it)."""
    NO_DESTINATION = 3
    """The peer's forward is not installed (yet)."""
    RATE = 4
    """Over the forward's packet rate limit."""
    SEND = 5
    """The kernel refused to send it (no route, full queue)."""


@dataclass(frozen=True, slots=True)
class Forward:
    """One side of one medium. Frozen: a change is a new value, upserted under the same id."""

    id: int
    """See `forward_id`. Counters are kept under it."""
    peer: int
    """Id of the forward to whose endpoint accepted packets go."""
    port: int
    """Local RTP port, even; the local RTCP port is the next one."""
    rtp: Endpoint
    """The announced remote RTP endpoint."""
    rtcp: Endpoint
    """The announced remote RTCP endpoint; equal to `rtp` with `rtcp_mux`."""
    rtcp_mux: bool = False
    """RTP and RTCP share the RTP port in both directions (RFC 5761). RTCP on the other port is still
    taken."""
    receive: bool = True
    """Whether RTP from this endpoint is relayed. RTCP always is (RFC 3264 section 5.1)."""
    send: bool = True
    """Whether RTP is relayed to this endpoint. RTCP is, but for `no_rtcp`."""
    no_rtcp: bool = False
    """Whether RTCP is kept from this endpoint: it has no port for it, or an unspecified address (RFC 3264 section
    8.4)."""
    fixed: bool = False
    """Asymmetric RTP: what goes to this endpoint goes where it was announced, whatever was latched."""
    latch_until_ns: int = 0
    """When the latch window closes; 0: strict, nothing but the announced endpoint."""
    generation: int = 0
    """Raised by signaling to open the latch again. An upsert with the same generation keeps what was
    latched."""
    hint_host: str = ""
    """Address from which the endpoint's signaling came: preferred by the latch (RFC 7362 section 5). Empty:
    none."""
    payload_types: int = EVERY_PAYLOAD_TYPE
    """Bit set of the payload types that a packet must have to be latched."""
    clock_rate_hz: int = 0
    """RTP clock of the medium, for jitter; 0: jitter is not measured."""
    limit_pps: int = RATE_LIMIT_PPS
    """Accepted packets (RTP and RTCP) per second above which they are dropped; 0: no limit."""
    tap: bool = False
    """Copies of accepted RTP packets go to the listener (`Listener.tapped`)."""

    def __post_init__(self) -> None:
        """Refuse what no implementation could carry."""
        if self.port & 1 or not 0 < self.port < 65535:
            raise ValueError(f"RTP port {self.port} is not an even port")
        if not (0 < self.rtp.port < 65536 and 0 < self.rtcp.port < 65536):
            raise ValueError(f"remote port out of range: {self.rtp} {self.rtcp}")
