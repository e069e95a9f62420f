"""Sums over datapath counters: of a stream that was installed more than once, and of the whole relay."""

from __future__ import annotations

from dataclasses import dataclass, field

from pbx_media_relay.datapath.base import ZEROS, Counters
from pbx_media_relay.forward import DropReason, Medium, Side
from pbx_media_relay.stream import Stream


@dataclass(frozen=True, slots=True)
class StreamReport:
    """What came from one remote endpoint, with what signaling said of it."""

    stream: Stream
    counters: Counters

    @property
    def side(self) -> Side:
        """The side it came from."""
        return self.stream.side

    @property
    def medium(self) -> Medium:
        """The medium."""
        return self.stream.medium


def joined(earlier: Counters, later: Counters) -> Counters:
    """The counters of a stream that was taken out and installed again; the later one's state, both one's
    sums."""
    if earlier == ZEROS:
        return later
    if not later.packets and not later.rtcp_packets:
        return earlier._replace(drops=_sum(earlier.drops, later.drops))
    return later._replace(
        packets=earlier.packets + later.packets,
        bytes=earlier.bytes + later.bytes,
        rtcp_packets=earlier.rtcp_packets + later.rtcp_packets,
        rtcp_bytes=earlier.rtcp_bytes + later.rtcp_bytes,
        lost=earlier.lost + later.lost,
        reordered=earlier.reordered + later.reordered,
        duplicate=earlier.duplicate + later.duplicate,
        gap_max_ns=max(earlier.gap_max_ns, later.gap_max_ns),
        first_packet_ns=earlier.first_packet_ns or later.first_packet_ns,
        drops=_sum(earlier.drops, later.drops),
    )


def last_heard_ns(counters: Counters) -> int:
    """When anything accepted last came: RTCP counts as life."""
    return max(counters.last_packet_ns, counters.last_rtcp_ns)


@dataclass(slots=True)
class Totals:
    """What the whole relay carried, in streams that are over."""

    packets: int = 0
    bytes: int = 0
    rtcp_packets: int = 0
    lost: int = 0
    late: int = 0
    """Packets that came after their successors. Each was missing before: `lost` falls by it, `missing` never does."""
    drops: list[int] = field(default_factory=lambda: [0] * len(DropReason))

    def add(self, counters: Counters) -> None:
        """Add one stream's."""
        if counters is ZEROS or counters == ZEROS:
            return
        self.packets += counters.packets
        self.bytes += counters.bytes + counters.rtcp_bytes
        self.rtcp_packets += counters.rtcp_packets
        self.lost += counters.lost
        self.late += counters.reordered
        for reason, count in enumerate(counters.drops):
            self.drops[reason] += count

    @property
    def missing(self) -> int:
        """Packets that were not there when their successor came."""
        return self.lost + self.late

    def copy(self) -> Totals:
        """An independent sum that starts from here."""
        return Totals(self.packets, self.bytes, self.rtcp_packets, self.lost, self.late, list(self.drops))


def _sum(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))
