"""Round-trip times and what endpoints report, read from RTCP that passes by (RFC 3550 section 6.4.1).

The relay remembers when an endpoint's sender report went through to the other one; the other's report echoes
it (LSR) with the time it was kept (DLSR): what is left is the round trip between relay and that other
endpoint, on one clock.
"""

from __future__ import annotations

from typing import Final

from pbx_media_relay.rtp import Report, SenderReport, reports

REMEMBERED: Final = 4
"""Sender reports kept: an endpoint reports on the last or the last but one; those come 5 s apart."""
RTT_MAX_NS: Final = 10_000_000_000
"""A longer round trip is a wrong clock or a forged report."""


class RoundTrip:
    """What one endpoint's RTCP told."""

    __slots__ = ("_sent", "reported_jitter", "reported_lost", "rtt_ns")

    def __init__(self) -> None:
        self.rtt_ns = 0
        self.reported_lost = 0
        self.reported_jitter = 0
        self._sent: list[tuple[int, int]] = []
        """Sender reports of this endpoint: NTP middle bits, and when they passed."""

    def receive(self, compound: bytes, peer: RoundTrip | None, now_ns: int) -> None:
        """Read a compound packet from this endpoint; `peer` is what the other endpoint sent."""
        for report in reports(compound):
            if isinstance(report, SenderReport):
                self._sent = [*self._sent, (report.ntp_middle, now_ns)][-REMEMBERED:]
            else:
                self.reported_lost, self.reported_jitter = report.lost, report.jitter
                if peer is not None and report.last_sr:
                    self._measure(report, peer, now_ns)

    def _measure(self, report: Report, peer: RoundTrip, now_ns: int) -> None:
        for ntp_middle, passed_ns in peer._sent:
            if ntp_middle == report.last_sr:
                rtt_ns = now_ns - passed_ns - report.delay_since_sr * 1_000_000_000 // 65536
                if 0 < rtt_ns < RTT_MAX_NS:
                    self.rtt_ns = rtt_ns
