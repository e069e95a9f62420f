"""Two phones over a network that loses, doubles, delays and reorders: both end clean, and agree on what happened."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.netem import LOST, Fate, always, scheduled, stormy
from support.simulation import SIMULATION
from support.two_ua import FATES, SCRIPT, Rig, perform
from support.ua import Plan, Stage, statuses


def test_a_call_in_fine_weather() -> None:
    rig = Rig()
    call = rig.alice.call("bob")
    rig.network.run(5)
    assert call.stage is Stage.UP
    assert statuses(rig.alice, "INVITE") == [100, 180, 200]
    assert rig.bob.notes.seen == ["INVITE", "ACK"]
    rig.alice.hang_up(call)
    rig.network.run(1)
    assert rig.bob.calls[0].ended_by == "peer"
    rig.end()


@pytest.mark.parametrize(
    ("plan", "status"),
    [(Plan(answer_status=486), 486), (Plan(answer_after=0.0, ring_after=None, answer_status=603), 603)],
)
def test_refusals(plan: Plan, status: int) -> None:
    rig = Rig(plan=plan)
    call = rig.alice.call("bob")
    rig.network.run(5)
    assert (call.stage, call.status) == (Stage.OVER, status)
    rig.end()


def test_a_delayed_offer_is_answered_in_the_ack() -> None:
    rig = Rig()
    rig.alice.call("bob", offer=False)
    rig.network.run(5)
    assert len(rig.bob.notes.bodies) == 1
    rig.end()


def test_cancel_while_ringing() -> None:
    rig = Rig(plan=Plan(answer_after=None))
    call = rig.alice.call("bob")
    rig.at(2, rig.alice, lambda: rig.alice.cancel(call))
    rig.network.run(5)
    assert (call.status, call.ended_by, rig.bob.calls[0].ended_by) == (487, "cancelled", "cancelled")
    rig.end()


def test_the_200_is_faster_than_the_cancel() -> None:
    rig = Rig(weather=always((0.1,)), plan=Plan(answer_after=1.0))
    call = rig.alice.call("bob")
    rig.at(1.15, rig.alice, lambda: rig.alice.cancel(call))
    rig.network.run(5)
    assert (call.status, call.ended_by, rig.bob.calls[0].ended_by) == (200, "cancelled", "peer")
    rig.end()


def test_reliable_progress_is_confirmed() -> None:
    rig = Rig(plan=Plan(reliable=True, ring_sdp=True, ring_status=183))
    rig.alice.call("bob", reliable=True)
    rig.network.run(5)
    assert "PRACK" in rig.bob.notes.seen
    assert statuses(rig.alice, "PRACK") == [200]
    rig.end()


def test_glare_is_solved_by_waiting() -> None:
    rig = Rig(weather=always((0.1,)))
    call = rig.alice.call("bob")
    rig.network.run(3)
    rig.alice.modify(call)
    rig.bob.modify(rig.bob.calls[0])
    rig.network.run(10)
    assert statuses(rig.alice, "INVITE")[-1] == statuses(rig.bob, "INVITE")[-1] == 200
    assert 491 in statuses(rig.alice, "INVITE")
    rig.end()


@pytest.mark.parametrize("seconds", [40.0, 3600.0])
@pytest.mark.parametrize("after", [0.05, 0.5, 1.002, 3.0])
def test_a_jump_of_the_clock(after: float, seconds: float) -> None:
    rig = Rig()
    rig.alice.call("bob")
    rig.network.run(after)
    rig.network.jump(seconds)
    rig.end()


def test_a_peer_that_is_gone() -> None:
    rig = Rig()
    call = rig.alice.call("bob")
    rig.network.run(3)
    rig.network.weather = always(LOST)
    rig.alice.modify(call)
    rig.network.run(100)
    assert call.ended_by == "lost"
    rig.end()


@SIMULATION
@given(FATES, SCRIPT, st.booleans(), st.booleans(), st.sampled_from((200, 200, 486)))
def test_any_weather_any_script(
    fates: list[Fate], script: list[tuple[float, str, str]], offer: bool, reliable: bool, status: int
) -> None:
    rig = Rig(scheduled(fates), Plan(answer_status=status, reliable=reliable, ring_sdp=reliable))
    call = rig.alice.call("bob", offer=offer, reliable=reliable)
    for after, name, act in script:
        phone = rig.alice if name == "alice" else rig.bob
        rig.at(after, phone, lambda phone=phone, act=act: perform(rig, phone, act))  # type: ignore[misc]
    rig.end()
    assert call.status
    if call.status == 200 and call.ended_by != "cancelled":
        assert rig.bob.calls[0].status == 200


@pytest.mark.parametrize("seed", range(20))
def test_storms(seed: int) -> None:
    rig = Rig(stormy(seed, loss=0.25, double=0.2, late=0.2))
    for phone in (rig.alice, rig.bob):
        for number, act in enumerate(("modify", "info", "update", "hold", "modify")):
            rig.at(3 + 4 * number, phone, lambda phone=phone, act=act: perform(rig, phone, act))  # type: ignore[misc]
    rig.alice.call("bob")
    rig.end()
