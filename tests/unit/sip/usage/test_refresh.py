"""The session timer of one dialog (RFC 4028), as messages and times move it."""

from __future__ import annotations

import pytest

from pbx_sip.dialog.session_timer import IntervalTooSmall, SessionPolicy
from pbx_sip.errors import LocalError
from pbx_sip.usage.frozen import Clock
from pbx_sip.usage.output import RefreshDue, SessionExpired
from pbx_sip.usage.refresh import BUSY_S, RETRY_S, SOON_S, FrozenRefresh, Refresh, State
from support.sip_messages import request, response

POLICY = SessionPolicy(600, 90)


def asked(**headers: str) -> Refresh:
    """A timer that our 2xx agreed to with the peer's INVITE at time 0."""
    refresh = Refresh(POLICY, owns_call_id=False)
    extra = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    refresh.grant(request(extra=(("Supported", "timer"), *extra)), 0.0)
    return refresh


def granted(**headers: str) -> Refresh:
    """A timer that the peer's 2xx agreed to with our INVITE at time 0."""
    refresh = Refresh(POLICY, owns_call_id=True)
    refresh.granted(response(request(), 200, **headers), 0.0)
    return refresh


def test_what_is_wished_first_and_again() -> None:
    refresh = Refresh(POLICY, owns_call_id=True)
    assert refresh.wish() == (("Session-Expires", "600"), ("Min-SE", "90"))
    refresh.granted(response(request(), 200, **{"Session-Expires": "300;refresher=uac"}), 0.0)
    assert refresh.wish() == (("Session-Expires", "300;refresher=uac"), ("Min-SE", "90"))
    assert Refresh(SessionPolicy(0, 90), owns_call_id=True).wish() == ()


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        ({}, (("Session-Expires", "600;refresher=uac"), ("Require", "timer"))),
        ({"Session_Expires": "200;refresher=uas"}, (("Session-Expires", "200;refresher=uas"),)),
        ({"Session_Expires": "900"}, (("Session-Expires", "600;refresher=uac"), ("Require", "timer"))),
    ],
)
def test_what_is_granted(headers: dict[str, str], fields: tuple[tuple[str, str], ...]) -> None:
    extra = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    invite = request(extra=(("Supported", "timer"), *extra))
    assert Refresh(POLICY, owns_call_id=False).grant(invite, 0.0) == fields


def test_nothing_is_granted_to_who_knows_no_timers_or_where_none_are_wanted() -> None:
    refresh = Refresh(POLICY, owns_call_id=False)
    assert refresh.grant(request(), 0.0) == ()
    assert (refresh.state, refresh.next_timeout) == (State.OFF, None)
    off = Refresh(SessionPolicy(0, 90), owns_call_id=False)
    assert off.grant(request(extra=(("Supported", "timer"),)), 0.0) == ()


def test_an_interval_that_is_too_small_is_refused() -> None:
    with pytest.raises(IntervalTooSmall):
        asked(Session_Expires="30")


def test_our_refresh_is_due_after_half_of_the_interval_and_the_end_comes_before_its_end() -> None:
    refresh = granted(**{"Session-Expires": "300;refresher=uac", "Allow": "INVITE, UPDATE"})
    assert refresh.next_timeout == 150.0
    refresh.handle_timeout(149.0)
    assert refresh.drain() == []
    refresh.handle_timeout(150.0)
    assert refresh.drain() == [RefreshDue("UPDATE")]
    assert (refresh.state, refresh.next_timeout) == (State.ASKING, 268.0)
    refresh.handle_timeout(268.0)
    assert refresh.drain() == [SessionExpired()]
    assert (refresh.state, refresh.next_timeout) == (State.EXPIRED, None)
    refresh.handle_timeout(999.0)
    assert refresh.drain() == []


def test_the_peers_refresh_is_only_waited_for() -> None:
    refresh = granted(**{"Session-Expires": "300;refresher=uas"})
    assert refresh.next_timeout == 268.0
    refresh.handle_timeout(268.0)
    assert refresh.drain() == [SessionExpired()]


def test_a_busy_session_is_refreshed_a_little_later() -> None:
    refresh = granted(**{"Session-Expires": "300;refresher=uac"})
    refresh.handle_timeout(150.0)
    assert refresh.drain() == [RefreshDue("INVITE")]
    refresh.busy(150.0)
    assert refresh.next_timeout == 150.0 + BUSY_S


@pytest.mark.parametrize(
    ("status", "headers", "after_s"),
    [
        (422, {"Min-SE": "700"}, SOON_S),
        (405, {}, SOON_S),
        (491, {}, 3.05),
        (500, {}, RETRY_S),
        (404, {}, RETRY_S),
    ],
)
def test_a_refused_refresh_is_tried_again(status: int, headers: dict[str, str], after_s: float) -> None:
    refresh = granted(**{"Session-Expires": "300;refresher=uac", "Allow": "UPDATE"})
    refresh.handle_timeout(150.0)
    assert refresh.refused(response(request(), status, **headers), 150.0, 0.5)
    assert refresh.next_timeout == pytest.approx(150.0 + after_s, abs=0.02)
    assert refresh.allows_update == (status != 405)
    assert refresh.policy.min_se_s == (700 if status == 422 else 90)


@pytest.mark.parametrize("status", [408, 481])
def test_a_dialog_that_is_gone_is_told(status: int) -> None:
    refresh = granted(**{"Session-Expires": "300;refresher=uac"})
    assert not refresh.refused(response(request(), status), 150.0, 0.5)


def test_a_grant_that_cannot_be_read_and_the_end_of_the_dialog_stop_the_timer() -> None:
    refresh = granted(**{"Session-Expires": "300;refresher=uac"})
    refresh.granted(response(request(), 200, **{"Session-Expires": "soon"}), 10.0)
    assert refresh.next_timeout is None
    refresh = granted(**{"Session-Expires": "300;refresher=uac"})
    refresh.stop()
    refresh.busy(1.0)
    assert (refresh.state, refresh.next_timeout) == (State.OFF, None)


@pytest.mark.parametrize("at", [None, 150.0, 268.0])
def test_frozen_and_thawed_it_goes_on_alike(at: float | None) -> None:
    refresh = granted(**{"Session-Expires": "300;refresher=uac", "Allow": "UPDATE"})
    if at is not None:
        refresh.handle_timeout(at)
        refresh.drain()
    thawed = Refresh.thaw(refresh.freeze(Clock(1000.0)), Clock(900.0))
    assert (thawed.state, thawed.wish(), thawed.allows_update) == (refresh.state, refresh.wish(), True)
    due = refresh.next_timeout
    assert thawed.next_timeout == (None if due is None else due + 100.0)
    off = Refresh(POLICY, owns_call_id=True).freeze(Clock(0.0))
    assert Refresh.thaw(off, Clock(0.0)).state is State.OFF


def test_a_value_of_a_newer_release_is_refused() -> None:
    frozen = Refresh(POLICY, owns_call_id=True).freeze(Clock(0.0))
    fields = {name: getattr(frozen, name) for name in frozen.__slots__} | {"version": 99}
    with pytest.raises(LocalError):
        Refresh.thaw(FrozenRefresh(**fields), Clock(0.0))
