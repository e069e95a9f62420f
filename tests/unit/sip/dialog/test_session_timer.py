"""Session timers: table 2 of RFC 4028, the 422 dance, and what is due when."""

from __future__ import annotations

import pytest

from pbx_sip.dialog.session_timer import (
    Duty,
    IntervalTooSmall,
    Refresher,
    SessionExpires,
    SessionPolicy,
    SessionTimer,
    min_se_of,
)
from pbx_sip.errors import ParseError
from pbx_sip.message.message import Request
from support.sip_messages import request, response

POLICY = SessionPolicy(interval_s=1800, min_se_s=90)


def invite(*, se: str = "", min_se: str = "", timer: bool = True) -> Request:
    """An INVITE that asks for a session timer."""
    extra = [("Supported", "timer")] if timer else []
    extra += [("Session-Expires", se)] if se else []
    extra += [("Min-SE", min_se)] if min_se else []
    return request(extra=tuple(extra))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1800", SessionExpires(1800)),
        ("1800;refresher=uac", SessionExpires(1800, "uac")),
        ("90 ; Refresher = UAS;x=y", SessionExpires(90, "uas")),
    ],
)
def test_session_expires(text: str, value: SessionExpires) -> None:
    assert SessionExpires.parse(text) == value
    assert SessionExpires.parse(str(value)) == value


@pytest.mark.parametrize("text", ["", "x", "-1", "1800;refresher=me", "9999999999"])
def test_session_expires_that_is_none(text: str) -> None:
    with pytest.raises(ParseError):
        SessionExpires.parse(text)


@pytest.mark.parametrize(
    ("asks", "interval", "role", "refresher"),
    [
        (invite(se="1800"), 1800, "uac", Refresher.REMOTE),
        (invite(se="1800;refresher=uas"), 1800, "uas", Refresher.LOCAL),
        (invite(se="1800;refresher=uac"), 1800, "uac", Refresher.REMOTE),
        (invite(se="7200"), 1800, "uac", Refresher.REMOTE),
        (invite(se="7200", min_se="3600"), 3600, "uac", Refresher.REMOTE),
        (invite(se="600", timer=False), 600, "uas", Refresher.LOCAL),
        (invite(se="30", timer=False), 90, "uas", Refresher.LOCAL),
        (invite(), 1800, "uac", Refresher.REMOTE),
    ],
)
def test_agreement_as_uas(asks: Request, interval: int, role: str, refresher: Refresher) -> None:
    timer, value = POLICY.as_uas(asks, 100.0)
    assert value == SessionExpires(interval, role)
    assert timer == SessionTimer(interval, refresher, 100.0)


def test_no_timer_where_the_peer_knows_none() -> None:
    assert POLICY.as_uas(invite(timer=False), 0.0) == (None, None)


def test_too_small_an_interval_is_refused_with_our_minimum() -> None:
    with pytest.raises(IntervalTooSmall) as error:
        SessionPolicy(1800, 300).as_uas(invite(se="120"), 0.0)
    assert (error.value.status_hint, error.value.min_se_s) == (422, 300)


def test_422_raises_the_policy_until_it_brings_nothing() -> None:
    refusal = response(request(), 422, Min_SE="3600")
    raised = POLICY.raised(refusal)
    assert raised == SessionPolicy(3600, 3600)
    assert raised.raised(refusal) is None
    assert POLICY.raised(response(request(), 422)) is None


@pytest.mark.parametrize(
    ("value", "timer"),
    [
        ("1800;refresher=uas", SessionTimer(1800, Refresher.REMOTE, 5.0)),
        ("1800;refresher=uac", SessionTimer(1800, Refresher.LOCAL, 5.0)),
        ("1800", SessionTimer(1800, Refresher.LOCAL, 5.0)),
        ("10;refresher=uac", SessionTimer(90, Refresher.LOCAL, 5.0)),
    ],
)
def test_agreement_as_uac(value: str, timer: SessionTimer) -> None:
    assert POLICY.as_uac(response(request(), 200, Session_Expires=value), 5.0) == timer


def test_no_agreement_without_the_header() -> None:
    assert POLICY.as_uac(response(request(), 200), 0.0) is None


@pytest.mark.parametrize(("value", "expected"), [(None, 90), ("10", 90), ("120;x=y", 120), ("x", 90)])
def test_min_se(value: str | None, expected: int) -> None:
    assert min_se_of(response(request(), 422, **({"Min_SE": value} if value else {}))) == expected


def test_what_is_due_when() -> None:
    ours, theirs = SessionTimer(1800, Refresher.LOCAL, 0.0), SessionTimer(90, Refresher.REMOTE, 0.0)
    assert (ours.next_timeout, ours.ends_at) == (900.0, 1768.0)
    assert [ours.due(at) for at in (899.9, 900.0, 1767.9, 1768.0)] == [
        Duty.NOTHING,
        Duty.REFRESH,
        Duty.REFRESH,
        Duty.END,
    ]
    assert theirs.next_timeout == 60.0  # a third of 90 s is less than 32 s
    assert [theirs.due(at) for at in (45.0, 59.9, 60.0)] == [Duty.NOTHING, Duty.NOTHING, Duty.END]
