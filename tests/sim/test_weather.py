"""Two phones, a lossy network and the B2BUA's core: any weather, any script, any jump of the clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbx_signaling.calls.state import CallPolicy
from pbx_sip.address import HostPort
from support.netem import Fate, scheduled, stormy
from support.sim_rig import PBX, Rig
from support.sim_scripts import ACTS, FATES, PLANS, SCRIPT, follow
from support.simulation import SIMULATION
from support.ua import Plan, Ua


@SIMULATION
@given(FATES, SCRIPT, PLANS, st.booleans(), st.booleans())
def test_any_weather_any_script(
    fates: list[Fate], script: list[tuple[float, str, str]], plan: Plan, offer: bool, reliable: bool
) -> None:
    rig = Rig(scheduled(fates), plan, policy=CallPolicy(no_answer_s=60.0))
    call = rig.alice.call("1008", offer=offer, reliable=reliable)
    follow(rig, script)
    rig.end()
    assert call.status
    assert rig.pbx.core.counters.calls <= 1  # none where every copy of the INVITE was lost
    if call.status == 200:
        assert rig.bob.calls[0].status == 200
        assert "ANSWERED" in rig.pbx.names() or call.ended_by == "cancelled"


@SIMULATION
@given(FATES, SCRIPT, PLANS, st.floats(0, 6), st.sampled_from((0.4, 1.0, 33.0, 5000.0)))
def test_any_weather_with_a_jump_of_the_clock(
    fates: list[Fate], script: list[tuple[float, str, str]], plan: Plan, after: float, seconds: float
) -> None:
    rig = Rig(scheduled(fates), plan, policy=CallPolicy(no_answer_s=60.0))
    rig.alice.call("1008", reliable=True)
    follow(rig, script)
    rig.network.run(after)
    rig.network.jump(seconds)
    rig.end()


@pytest.mark.parametrize("seed", range(20))
def test_storms(seed: int) -> None:
    rig = Rig(stormy(seed, loss=0.25, double=0.2, late=0.2), authenticate=seed % 2 == 0)
    acts = [act for act in ACTS if not act.startswith("early")] * 2
    follow(rig, [(3 + 2 * number, "alice" if number % 2 else "bob", act) for number, act in enumerate(acts)])
    rig.alice.call("1008")
    rig.end()


def test_many_calls_at_once_in_a_storm() -> None:
    rig = Rig(stormy(7, loss=0.1))
    others = [Ua(str(2000 + number), HostPort(f"198.51.100.{number}", 5060), PBX) for number in range(1, 41)]
    for phone in others:
        rig.network.add(phone)
        rig.pbx.registrar.passwords[phone.user] = "x"
        rig.pbx.bind(phone.user, phone.address)
    for number, phone in enumerate(others[:20]):
        phone.at(
            rig.network.now + number / 50, lambda phone=phone, to=others[20 + number]: phone.call(to.user) and None
        )  # type: ignore[misc]
        phone.at(rig.network.now + 20 + number, lambda phone=phone: phone.hang_up(phone.calls[-1]))  # type: ignore[misc]
    rig.phones = (*rig.phones, *others)
    rig.end()
    assert rig.pbx.core.counters.calls == 20
    assert rig.pbx.relay.reserved >= 18
