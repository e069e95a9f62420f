"""Reception statistics of one RTP stream: loss (RFC 3550 A.1, A.3), order, duplicates, jitter (A.8), gaps.

Pure, integer arithmetic only, so that C and eBPF can do exactly the same. Departures from the appendices:
duplicates do not count as received (A.3 would let them hide losses); loss goes on over SSRC changes; jitter
looks only at packets in order with a new timestamp (video frames and DTMF events repeat theirs) and ignores
jumps of `JUMP_S`.
"""

from __future__ import annotations

from typing import Final

MAX_DROPOUT: Final = 3000
"""RFC 3550 A.1: a larger step ahead is a restarted sender, not loss."""
MAX_MISORDER: Final = 100
"""RFC 3550 A.1: a packet further behind belongs to a restarted sender."""
SEEN_WINDOW: Final = 64
"""How far back duplicates are recognised: one machine word."""
SEEN_MASK: Final = (1 << SEEN_WINDOW) - 1
JUMP_S: Final = 3
"""A transit time that changes by more is a new timestamp base (resume, re-keying), not jitter."""
NONE: Final = -1


class Reception:
    """What has been received of one stream; `receive` is called for every accepted RTP packet."""

    __slots__ = (
        "_bad",
        "_base",
        "_lost_before",
        "_max",
        "_received",
        "_seen",
        "_timestamp",
        "_transit",
        "duplicate",
        "gap_max_ns",
        "jitter_measured",
        "jitter_q4",
        "last_ns",
        "reordered",
        "ssrc",
        "ssrc_changes",
    )

    def __init__(self) -> None:
        self.ssrc = NONE
        self.ssrc_changes = 0
        self.reordered = 0
        self.duplicate = 0
        self.jitter_q4 = 0
        self.jitter_measured = False
        self.gap_max_ns = 0
        self.last_ns = 0
        """Arrival of the last packet; 0 where a gap must not be counted."""
        self._lost_before = 0
        self._max = 0
        self._base = 1
        self._received = 0
        self._seen = 0
        self._bad = NONE
        self._transit: int | None = None
        self._timestamp = NONE

    def __repr__(self) -> str:
        return f"<Reception {self.ssrc:#x} max {self._max} lost {self.lost}>"

    @property
    def lost(self) -> int:
        """Packets missing so far: expected less received, over all SSRCs. Late packets make it shrink."""
        return self._lost_before + self._max - self._base + 1 - self._received

    def pause(self) -> None:
        """The stream was told to stop: the silence until its next packet is no gap."""
        self.last_ns = 0
        self._transit = None

    def receive(self, sequence: int, timestamp: int, ssrc: int, clock_rate_hz: int, now_ns: int) -> None:
        """Count one packet that arrived at `now_ns`."""
        if self.last_ns and now_ns - self.last_ns > self.gap_max_ns:
            self.gap_max_ns = now_ns - self.last_ns
        self.last_ns = now_ns
        if ssrc != self.ssrc:
            self.ssrc_changes += self.ssrc != NONE
            self.ssrc = ssrc
            self._restart(sequence)
            in_order = True
        else:
            in_order = self._count(sequence)
        if clock_rate_hz and in_order and timestamp != self._timestamp:
            self._measure(timestamp, clock_rate_hz, now_ns)
            self._timestamp = timestamp

    def _count(self, sequence: int) -> bool:
        """Whether the packet is the newest; RFC 3550 A.1's update_seq without probation."""
        step = (sequence - self._max) & 0xFFFF
        if step == 0:
            self.duplicate += 1
            return False
        if step < MAX_DROPOUT:
            self._seen = (self._seen << step | 1) & SEEN_MASK if step < SEEN_WINDOW else 1
            self._max += step
            self._received += 1
            self._bad = NONE
            return True
        if step >= 0x10000 - MAX_MISORDER:
            self._count_late(0x10000 - step)
            return False
        if sequence == self._bad:
            self._restart(sequence)
            return True
        self._bad = (sequence + 1) & 0xFFFF
        return False

    def _count_late(self, behind: int) -> None:
        if behind < SEEN_WINDOW:
            if self._seen >> behind & 1:
                self.duplicate += 1
                return
            self._seen |= 1 << behind
        self.reordered += 1
        self._received += 1
        self._base = min(self._base, self._max - behind)

    def _restart(self, sequence: int) -> None:
        """A new sequence begins: what is missing of the old one stays lost."""
        self._lost_before = self.lost
        self._max = self._base = sequence
        self._received = self._seen = 1
        self._bad = NONE
        self._transit = None
        self._timestamp = NONE

    def _measure(self, timestamp: int, clock_rate_hz: int, now_ns: int) -> None:
        """RFC 3550 A.8, scaled by 16: J += |D| - ((J + 8) >> 4)."""
        arrival = now_ns * clock_rate_hz // 1_000_000_000
        transit = (arrival - timestamp) & 0xFFFFFFFF
        previous, self._transit = self._transit, transit
        if previous is None:
            return
        change = (transit - previous) & 0xFFFFFFFF
        if change >= 0x80000000:
            change = 0x100000000 - change
        if change > JUMP_S * clock_rate_hz:
            return
        self.jitter_measured = True
        self.jitter_q4 += change - ((self.jitter_q4 + 8) >> 4)
