"""How a stream sounded: jitter in milliseconds, loss in percent, MOS by the E-model. None: not measured."""

from __future__ import annotations

from dataclasses import dataclass

from pbx_media_relay.counters import StreamReport
from pbx_media_relay.emodel import mos_of


@dataclass(frozen=True, slots=True)
class Quality:
    """Derived figures of one stream."""

    jitter_ms: float | None
    loss_percent: float | None
    mos: float | None


def quality_of(report: StreamReport) -> Quality:
    """Derive what the counters allow."""
    counters, codec = report.counters, report.stream.codec
    jitter_ms = None
    if counters.jitter_measured and codec is not None and codec.clock_rate_hz:
        jitter_ms = counters.jitter_q4 / 16 * 1000 / codec.clock_rate_hz
    unique = counters.packets - counters.duplicate
    expected = unique + max(counters.lost, 0)
    loss_percent = 100 * max(counters.lost, 0) / expected if expected > 0 else None
    mos = None
    if codec is not None and loss_percent is not None:
        rtt_ms = counters.rtt_ns / 1e6 if counters.rtt_ns else None
        mos = mos_of(codec, loss_percent, jitter_ms, rtt_ms)
    return Quality(jitter_ms, loss_percent, mos)
