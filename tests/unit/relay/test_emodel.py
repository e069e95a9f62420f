"""The E-model against figures of ITU-T G.107 and G.113, and against what must hold of any such model."""

from __future__ import annotations

import pytest

from pbx_media_relay.emodel import CODECS, delay_impairment, loss_impairment, mos_of, mos_of_rating, rating
from pbx_media_relay.stream import PayloadType

PCMU = PayloadType(0, "PCMU", 8000, 1, 20)


@pytest.mark.parametrize(
    ("r", "mos"), [(93.2, 4.41), (90, 4.34), (80, 4.03), (70, 3.60), (60, 3.10), (50, 2.58), (0, 1.0), (120, 4.5)]
)
def test_rating_to_mos_of_annex_b(r: float, mos: float) -> None:
    assert mos_of_rating(r) == pytest.approx(mos, abs=0.01)


@pytest.mark.parametrize(("delay_ms", "idd"), [(100, 0), (150, 0.2), (200, 3.0), (300, 14.6), (400, 24.4)])
def test_delay_impairment(delay_ms: float, idd: float) -> None:
    assert delay_impairment(delay_ms) == pytest.approx(idd, abs=0.4)


def test_loss_impairment_of_g711_with_concealment() -> None:
    assert loss_impairment(CODECS["PCMU"], 0) == 0
    assert loss_impairment(CODECS["PCMU"], 5) == pytest.approx(95 * 5 / 30.1)
    assert loss_impairment(CODECS["G729"], 0) == 11


def test_the_best_call_is_the_recommendations_default() -> None:
    assert rating(CODECS["PCMA"], 0, 0) == 93.2
    assert mos_of(PCMU, 0, 0, None) == pytest.approx(4.41, abs=0.005)


def test_more_loss_jitter_or_delay_is_never_better() -> None:
    scores = [mos_of(PCMU, loss, 5, 40) for loss in (0, 1, 5, 20, 100)]
    assert scores == sorted(scores, key=lambda score: -(score or 0))
    assert all(score is not None and 1.0 <= score <= 4.5 for score in scores)
    assert (mos_of(PCMU, 0, 200, 400) or 0) < (mos_of(PCMU, 0, 1, 400) or 0)


def test_an_unknown_codec_has_no_score() -> None:
    assert mos_of(PayloadType(96, "H264", 90000), 0, 0, None) is None
