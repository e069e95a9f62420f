"""Freeze and thaw: a phone that is made anew from its frozen value after every step says what it would have said.

Each ladder is played twice on one schedule: with agents that live through it, and with agents that are thawed after
each step. A usage or transaction that forgets anything makes another ladder, octet by octet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx_sip.errors import LocalError
from pbx_sip.tokens import CountingTokens
from pbx_sip.usage.agent import Agent, FrozenAgent
from pbx_sip.usage.frozen import Clock
from pbx_sip.usage.origin import Origin, at_address
from support.netem import Fate, scheduled, stormy
from support.simulation import SIMULATION
from support.two_ua import FATES, SCRIPT, Rig, perform
from support.ua import Plan

Script = Iterable[tuple[float, str, str]]
SAME = Clock(0.0)
"""Keeps times as they are: a schedule may have two of them closer together than the microsecond of other clocks."""
AHEAD = Clock(1_000_000.0)


def ladder(
    weather: Callable[[], Fate],
    plan: Plan,
    script: Script,
    *,
    thaws: bool,
    offer: bool = True,
    reliable: bool = False,
    clock: Clock = SAME,
) -> list[bytes]:
    """All datagrams of a call of Alice's that was played to its end, in the order in which they were sent."""
    rig = Rig(weather, plan)
    rig.alice.thaws = rig.bob.thaws = lambda: thaws
    rig.alice.clock = rig.bob.clock = clock
    rig.alice.call("bob", offer=offer, reliable=reliable)
    for after, name, act in script:
        phone = rig.alice if name == "alice" else rig.bob
        rig.at(after, phone, lambda phone=phone, act=act: perform(rig, phone, act))  # type: ignore[misc]
    rig.end()
    return [datagram.data for datagram in rig.network.sent]


@SIMULATION
@given(FATES, SCRIPT, st.booleans(), st.booleans(), st.sampled_from((200, 200, 486)))
def test_any_weather_any_script(
    fates: list[Fate], script: list[tuple[float, str, str]], offer: bool, reliable: bool, status: int
) -> None:
    def play(thaws: bool) -> list[bytes]:
        plan = Plan(answer_status=status, reliable=reliable, ring_sdp=reliable)
        return ladder(scheduled(fates), plan, script, thaws=thaws, offer=offer, reliable=reliable)

    assert play(thaws=True) == play(thaws=False)


@pytest.mark.parametrize("seed", range(8))
def test_storms(seed: int) -> None:
    acts = ("modify", "info", "update", "hold", "modify")
    script = [(3.0 + 4 * number, name, act) for number, act in enumerate(acts) for name in ("alice", "bob")]

    def play(thaws: bool) -> list[bytes]:
        weather = stormy(seed, loss=0.25, double=0.2, late=0.2)
        return ladder(weather, Plan(reliable=True), script, thaws=thaws, clock=AHEAD)

    assert play(thaws=True) == play(thaws=False)


def frozen_call() -> tuple[Rig, FrozenAgent]:
    """Two phones that talk, and Alice's agent as a value."""
    rig = Rig()
    rig.alice.call("bob")
    rig.network.run(5)
    return rig, rig.alice.agent.freeze(Clock(0.0))


def test_a_value_of_a_newer_release_is_refused() -> None:
    _, frozen = frozen_call()
    call_id, usages = frozen.calls[0]
    newer = tuple(dataclasses.replace(usage, version=99) if hasattr(usage, "version") else usage for usage in usages)
    with pytest.raises(LocalError, match="newer"):
        Agent.thaw(dataclasses.replace(frozen, calls=((call_id, newer),)), origin(), Clock(0.0))


def test_a_transaction_that_is_here_is_not_thawed_again() -> None:
    rig, frozen = frozen_call()
    agent = Agent.thaw(frozen, origin(), Clock(0.0))
    assert frozen.transactions
    with pytest.raises(LocalError, match="is here"):
        agent.layer.thaw(frozen.transactions[0], lambda name: None, lambda at: at)
    strange = dataclasses.replace(frozen.transactions[0], kind="proxy")
    with pytest.raises(LocalError, match="proxy"):
        Agent.thaw(dataclasses.replace(frozen, transactions=(strange,)), origin(), Clock(0.0))
    rig.end()


def test_deadlines_follow_the_wall_clock() -> None:
    """A process whose own clock reads something else fires at the same moment of the wall clock."""
    rig, _ = frozen_call()
    due = rig.alice.agent.next_timeout
    assert due is not None
    moved = Agent.thaw(rig.alice.agent.freeze(Clock(5000.0)), origin(), Clock(5000.0 - 120.0)).next_timeout
    assert moved == pytest.approx(due + 120.0, abs=0.03)
    rig.end()


def origin() -> Origin:
    """Alice's."""
    return at_address(CountingTokens("alice"), "192.0.2.10:5060", "<sip:alice@192.0.2.10:5060>")
