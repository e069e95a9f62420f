"""Turns of the offer/answer exchange: every (turn, act), by either side; waiting after glare."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx_sip.dialog.offer_answer import Act, Exchange, Turn, glare_wait_s
from pbx_sip.errors import LocalError, RemoteError

ALLOWED = {
    (Turn.STABLE, Act.SEND_OFFER): Turn.WE_OFFERED,
    (Turn.STABLE, Act.RECEIVE_OFFER): Turn.THEY_OFFERED,
    (Turn.STABLE, Act.REFUSED): Turn.STABLE,
    (Turn.WE_OFFERED, Act.RECEIVE_ANSWER): Turn.STABLE,
    (Turn.WE_OFFERED, Act.REFUSED): Turn.STABLE,
    (Turn.THEY_OFFERED, Act.SEND_ANSWER): Turn.STABLE,
    (Turn.THEY_OFFERED, Act.REFUSED): Turn.STABLE,
}
STATUS = {(Turn.WE_OFFERED, Act.RECEIVE_OFFER): 491, (Turn.THEY_OFFERED, Act.RECEIVE_OFFER): 500}


@pytest.mark.parametrize("turn", Turn)
@pytest.mark.parametrize("act", Act)
def test_every_cell(turn: Turn, act: Act) -> None:
    exchange = Exchange(turn)
    expected = ALLOWED.get((turn, act))
    does = exchange.send if act in (Act.SEND_OFFER, Act.SEND_ANSWER) else exchange.receive
    assert exchange.refusal(act) == STATUS.get((turn, act), 0)
    if expected is not None:
        does(act)
        assert exchange.turn is expected
        return
    with pytest.raises((LocalError, RemoteError)) as error:
        does(act)
    assert exchange.turn is turn
    if isinstance(error.value, RemoteError):
        assert error.value.status_hint == STATUS.get((turn, act), 400)


@given(st.floats(0, 1))
def test_glare_waits_never_meet(share: float) -> None:
    ours, theirs = glare_wait_s(True, share), glare_wait_s(False, 1 - share)
    assert 2.1 <= ours <= 4.0
    assert 0.0 <= theirs <= 2.0
    assert (ours * 100) == pytest.approx(round(ours * 100))
