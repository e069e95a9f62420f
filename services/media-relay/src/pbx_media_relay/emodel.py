"""Mean opinion score by the E-model (ITU-T G.107, with G.107.1 for wideband), from what a relay can measure.

R = R0 - Is - Id - Ie,eff (+ A = 0). All parameters that a relay cannot know (levels, echo, noise) have the
recommendation's defaults, which gives R0 - Is = 93.2; Ie and Bpl of the codecs are those of ITU-T G.113
appendix I. Wideband codecs are scored on the R scale of G.107.1 (to 129) mapped to MOS as there. No score is
made for codecs whose parameters are not in the table, nor for streams too short to have a loss rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from pbx_media_relay.stream import PayloadType

R_DEFAULT: Final = 93.2
"""G.107 (2015) table 3: R with every parameter at its default."""
R_WIDEBAND: Final = 129.0
"""G.107.1 (2019): R of a wideband connection with every parameter at its default."""
BURST_RATIO: Final = 1.0
"""Random loss: the relay keeps no loss pattern."""
PTIME_MS: Final = 20
"""Where none was announced; RFC 3551 section 4.5's default."""
JITTER_BUFFERS: Final = 2
"""A de-jitter buffer delays by about twice the jitter, and by a packet."""


@dataclass(frozen=True, slots=True)
class Impairment:
    """A codec's figures: G.113 appendix I (narrowband), appendix IV (wideband)."""

    ie: float
    """Equipment impairment without loss."""
    bpl: float
    """Packet-loss robustness."""
    delay_ms: float
    """Algorithmic delay: frame and look-ahead beyond the packet itself."""
    wideband: bool = False


CODECS: Final = {
    "PCMU": Impairment(0, 25.1, 0),
    "PCMA": Impairment(0, 25.1, 0),
    "G729": Impairment(11, 19.0, 5),
    "G723": Impairment(15, 16.1, 7.5),
    "GSM": Impairment(20, 43.0, 0),
    "ILBC": Impairment(10, 34.0, 0),
    "G722": Impairment(13, 4.9, 1.5, wideband=True),
}
"""PCMU and PCMA with the packet-loss concealment of G.711 appendix I, as every phone of today has it."""


def mos_of(codec: PayloadType, loss_percent: float, jitter_ms: float | None, rtt_ms: float | None) -> float | None:
    """The score, 1.0 to 4.5; None for a codec that is not in the table."""
    known = CODECS.get(codec.encoding.upper())
    if known is None:
        return None
    r = rating(known, loss_percent, one_way_ms(codec, known, jitter_ms, rtt_ms))
    return mos_of_wideband_rating(r) if known.wideband else mos_of_rating(r)


def one_way_ms(codec: PayloadType, known: Impairment, jitter_ms: float | None, rtt_ms: float | None) -> float:
    """Mouth-to-ear delay as far as it is known: packet, look-ahead, jitter buffer, half the round trip."""
    ptime_ms = codec.ptime_ms or PTIME_MS
    buffer_ms = JITTER_BUFFERS * (jitter_ms or 0) + ptime_ms
    return ptime_ms + known.delay_ms + buffer_ms + (rtt_ms or 0) / 2


def rating(known: Impairment, loss_percent: float, delay_ms: float) -> float:
    """The transmission rating factor R, bounded below by 0."""
    best = R_WIDEBAND if known.wideband else R_DEFAULT
    return max(0.0, best - delay_impairment(delay_ms) - loss_impairment(known, loss_percent))


def loss_impairment(known: Impairment, loss_percent: float) -> float:
    """Ie,eff of G.107 equation 7-29 (in G.107.1 the 95 is 95 as well)."""
    return known.ie + (95 - known.ie) * loss_percent / (loss_percent / BURST_RATIO + known.bpl)


def delay_impairment(delay_ms: float) -> float:
    """Idd of G.107 equations 7-27 and 7-28, with the default sensitivity class (sT = 1, mT = 100 ms)."""
    if delay_ms <= 100:
        return 0.0
    x = math.log2(delay_ms / 100)
    return 25 * (math.pow(1 + x**6, 1 / 6) - 3 * math.pow(1 + (x / 3) ** 6, 1 / 6) + 2)


def mos_of_rating(r: float) -> float:
    """G.107 annex B."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)


def mos_of_wideband_rating(r: float) -> float:
    """G.107.1: the rating divided by 1.29 goes through annex B's curve."""
    return mos_of_rating(r / 1.29)
