"""Freeze and thaw: legs that are made anew from their frozen values after every step say what they would have said.

Each ladder is played twice on one schedule: with legs that live through it, and with legs that are thawed after each
step. A leg or usage that forgets anything makes another ladder, octet by octet. `SIM_THAWS=1` plays all simulations of
this directory with thawed legs.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx_signaling.calls.state import CallPolicy
from pbx_signaling.legs.callee import OutboundLeg
from pbx_signaling.legs.caller import InboundLeg
from pbx_signaling.legs.frozen import FrozenInbound, FrozenLeg, FrozenOutbound
from pbx_sip.errors import LocalError
from pbx_sip.usage.frozen import Clock
from support.netem import Fate, scheduled, stormy
from support.sim_rig import Rig
from support.sim_scripts import ACTS, FATES, PLANS, SCRIPT, follow
from support.simulation import SIMULATION
from support.ua import Plan


def ladder(rig: Rig, script: list[tuple[float, str, str]], *, thaws: bool, **how: Any) -> list[bytes]:
    """All datagrams of a call of Alice's that was played to its end, in the order in which they were sent."""
    rig.pbx.harness.thaws = thaws
    rig.pbx.harness.renews = True
    rig.alice.call("1008", **how)
    follow(rig, script)
    rig.end()
    return [datagram.data for datagram in rig.network.sent]


@SIMULATION
@given(FATES, SCRIPT, PLANS, st.booleans(), st.booleans())
def test_any_weather_any_script(
    fates: list[Fate], script: list[tuple[float, str, str]], plan: Plan, offer: bool, reliable: bool
) -> None:
    def play(thaws: bool) -> list[bytes]:
        rig = Rig(scheduled(fates), dataclasses.replace(plan), policy=CallPolicy(no_answer_s=60.0))
        return ladder(rig, script, thaws=thaws, offer=offer, reliable=reliable)

    assert play(thaws=True) == play(thaws=False)


@pytest.mark.parametrize("seed", range(8))
def test_storms(seed: int) -> None:
    acts = [act for act in ACTS if not act.startswith("early")] * 2
    script = [(3.0 + 2 * number, "alice" if number % 2 else "bob", act) for number, act in enumerate(acts)]

    def play(thaws: bool) -> list[bytes]:
        rig = Rig(stormy(seed, loss=0.25, double=0.2, late=0.2), authenticate=seed % 2 == 0)
        return ladder(rig, script, thaws=thaws)

    assert play(thaws=True) == play(thaws=False)


@pytest.mark.parametrize("after", [0.5, 5.0])
def test_a_value_crosses_the_wire_and_a_newer_one_is_refused(after: float) -> None:
    rig = Rig()
    rig.alice.call("1008")
    rig.network.run(after)
    (entry,) = rig.pbx.calls.values()
    assert entry.caller is not None
    assert entry.callee is not None
    clock = Clock(1_700_000_000.0)
    for leg, kind in ((entry.caller, FrozenInbound), (entry.callee, FrozenOutbound)):
        frozen: Any = leg.freeze(clock)
        read = msgspec.msgpack.decode(msgspec.msgpack.encode(frozen), type=kind)
        made: Any = type(leg).thaw(read, leg.sip, entry, clock)
        assert made.freeze(clock) == frozen
        with pytest.raises(LocalError, match="newer"):
            type(leg).thaw(dataclasses.replace(frozen, version=99), leg.sip, entry, clock)
    rig.end()


def test_every_field_of_a_leg_is_in_its_value() -> None:
    """A field that is added to a leg and not to its struct is forgotten by the next process."""
    of_leg = {field.name for field in dataclasses.fields(FrozenLeg)}
    elsewhere = {"sip", "_call", "_alarm", "_alarm_at", "_timed", "_usages", "within", "uas", "uac"}
    for kind, frozen in ((InboundLeg, FrozenInbound), (OutboundLeg, FrozenOutbound)):
        held = of_leg | {field.name for field in dataclasses.fields(frozen)} | {"patience"}
        slots = {slot for each in kind.__mro__[:-1] for slot in each.__slots__}
        assert {slot.lstrip("_") for slot in slots - elsewhere} <= held
