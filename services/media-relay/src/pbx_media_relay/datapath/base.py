"""The `Datapath` Protocol: what the control plane asks of whatever moves the packets.

Life cycle: construct, `start` once, then any number of `bind`/`upsert`/`remove`/`unbind`, `close` once.
Everything is idempotent and synchronous: it is done, or has raised, when the call returns. All calls come
from the event loop's thread, and so do the listener's callbacks; an implementation's own threads must hand
over (eventfd, ring buffer).

The path of a packet, the same everywhere (tests/conformance/test_datapath.py is the oracle's word):

1. No forward on that local port: `stray`, remembered only by `last_heard_ns`.
2. Not RTP/RTCP: MALFORMED. The RTP port takes RTP (version 2, at least 12 octets) and, with rtcp_mux, RTCP
   (version 2, at least 8 octets, second octet 192..223); the RTCP port takes RTCP. A keep-alive on the RTP port
   (`rtp.is_keep_alive`) is MALFORMED too, and may latch its source.
3. Source: equal to the accepted one, or latched now (`latching.py`); else SOURCE.
4. Rate limit: RATE. Windows are whole seconds of the monotonic clock.
5. Counted as received: packets, bytes, sequence, jitter, first and last packet; RTCP's reports are read.
6. RTP: the sender's `receive` and the peer's `send`; RTCP: not the peer's `no_rtcp`; else DIRECTION.
7. No peer installed: NO_DESTINATION. Else sent from the peer's local port of the peer's family to the peer's
   accepted endpoint (RTCP: to its RTCP endpoint, or its RTP endpoint from its RTP port with rtcp_mux); a
   refusal is SEND.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.forward import DropReason, Forward

NO_DROPS = (0,) * len(DropReason)


class Counters(NamedTuple):
    """What came from one forward's endpoint since its first upsert. Only ever grows, until `remove`."""

    packets: int = 0
    """RTP packets accepted (steps 1 to 4 passed)."""
    bytes: int = 0
    """Their UDP payload in octets."""
    rtcp_packets: int = 0
    """RTCP packets accepted."""
    rtcp_bytes: int = 0
    """Their UDP payload in octets."""
    lost: int = 0
    """RTP packets missing (RFC 3550 A.3), duplicates not counted as received, over all SSRCs."""
    reordered: int = 0
    """RTP packets that came after one with a higher sequence number."""
    duplicate: int = 0
    """RTP packets that came twice."""
    jitter_q4: int = 0
    """Interarrival jitter of RFC 3550 A.8 in sixteenths of a timestamp unit (the appendix's scaled
    integer)."""
    jitter_measured: bool = False
    """Whether two packets allowed a jitter at all."""
    gap_max_ns: int = 0
    """Longest time between two accepted RTP packets."""
    first_packet_ns: int = 0
    """When the first accepted RTP packet came; 0: none."""
    last_packet_ns: int = 0
    """When the last accepted RTP packet came; 0: none."""
    last_rtcp_ns: int = 0
    """When the last accepted RTCP packet came; 0: none."""
    ssrc: int = 0
    """SSRC of the last RTP packet."""
    ssrc_changes: int = 0
    """How often the SSRC changed."""
    payload_type: int = -1
    """Payload type of the last RTP packet; -1: none."""
    rtt_ns: int = 0
    """Last round trip between relay and endpoint, from its reports' LSR and DLSR; 0: not measured."""
    reported_lost: int = 0
    """Cumulative loss that the endpoint last reported of what it receives (RFC 3550 section 6.4.1)."""
    reported_jitter: int = 0
    """Jitter that the endpoint last reported, in timestamp units."""
    source: Endpoint | None = None
    """Where accepted RTP came from; None: nothing came."""
    source_rtcp: Endpoint | None = None
    """Where accepted RTCP came from; None: nothing came."""
    drops: tuple[int, ...] = NO_DROPS
    """Packets dropped, indexed by `DropReason`."""


ZEROS = Counters()
"""Of a forward from whose endpoint nothing came."""


class PortInUseError(Exception):
    """Another process holds a port of the slot."""

    def __init__(self, port: int) -> None:
        super().__init__(f"port {port} is held by another process")
        self.port = port


class DatapathError(Exception):
    """The datapath refused an operation; the slot's forwards are unchanged."""


class Listener(Protocol):
    """What a datapath tells, within a second: one that cannot push looks at its own counters."""

    def first_packet(self, forward: int, source: Endpoint, at_ns: int) -> None:
        """The first RTP packet of a forward was accepted."""

    def tapped(self, forward: int, packet: bytes, at_ns: int) -> None:
        """An RTP packet of a forward with `tap` was accepted."""


class Datapath(Protocol):
    """Moves packets between the two sides of calls."""

    @property
    def name(self) -> str:
        """ "python", "native", "ebpf" or "null"; a label value."""

    def start(self, listener: Listener) -> frozenset[int]:
        """Begin; called once, on the running event loop. Answers the ids of forwards that outlived a former
        process."""

    def bind(self, slot_port: int) -> None:
        """Own the 8 ports from `slot_port`, in every family served. Raises PortInUseError, holding none
        then."""

    def unbind(self, slot_port: int) -> None:
        """Give the 8 ports back. Their forwards were removed before."""

    def last_heard_ns(self, slot_port: int) -> int:
        """When any packet, accepted or not, last came to one of the 8 ports; 0: never, or not known."""

    def upsert(self, forward: Forward) -> None:
        """Install or replace one forward. Counters go on. Raises DatapathError."""

    def remove(self, forward: int) -> Counters:
        """Take one forward out and answer its final counters; zeros where there was none."""

    def counters(self, forwards: Iterable[int]) -> list[Counters]:
        """Counters of forwards, in that order; zeros where there is none. Must not disturb the packets."""

    def close(self) -> None:
        """End. A datapath whose forwards outlive the process (pinned maps) leaves them in place."""
