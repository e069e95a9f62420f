"""Two phones, a lossy network and the B2BUA's core: any weather, any script, any jump of the clock."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pbx_signaling.calls.state import CallPolicy
from pbx_sip.address import HostPort
from support.netem import FINE, LOST, Fate, scheduled, stormy
from support.sim_rig import PBX, Rig
from support.ua import Plan, Ua, UaCall

SIMULATION = settings(
    max_examples=int(os.environ.get("SIM_EXAMPLES", "60")),
    derandomize="SIM_EXAMPLES" not in os.environ,  # the same schedules in each run; more and other ones on request
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking a whole simulation takes minutes
    deadline=None,
)
FATES = st.lists(
    st.one_of(
        st.just(FINE),
        st.just(LOST),
        st.floats(0.001, 3.0).map(lambda delay: (delay,)),
        st.tuples(st.floats(0.001, 3.0), st.floats(0.001, 3.0)),
    ),
    max_size=60,
)
PLANS = st.builds(
    Plan,
    ring_after=st.sampled_from((0.1, None, 1.2)),
    ring_status=st.sampled_from((180, 183)),
    ring_sdp=st.booleans(),
    reliable=st.booleans(),
    answer_after=st.sampled_from((1.0, 0.0, 3.0, None)),
    answer_status=st.sampled_from((200, 200, 200, 486, 302)),
    reply_inside=st.sampled_from((200, 200, 488)),
)


def _cancel(phone: Ua, call: UaCall) -> None:
    if not call.received:
        phone.cancel(call)


def _early_bye(phone: Ua, call: UaCall) -> None:
    if not call.received:  # "the callee's UA MUST NOT send a BYE on early dialogs" (RFC 3261 section 15)
        phone.tell_early(call, "BYE", offer=False)


PERFORMERS: dict[str, Callable[[Ua, UaCall], None]] = {
    "modify": Ua.modify,
    "update": lambda phone, call: phone.modify(call, "UPDATE"),
    "hold": lambda phone, call: phone.modify(call, hold=True),
    "no offer": lambda phone, call: phone.modify(call, offer=False),
    "info": Ua.tell,
    "cancel": _cancel,
    "hang up": Ua.hang_up,
    "early update": Ua.tell_early,
    "early info": lambda phone, call: phone.tell_early(call, "INFO", offer=False),
    "early reinvite": lambda phone, call: phone.tell_early(call, "INVITE"),
    "early bye": _early_bye,
    "options": lambda phone, call: phone.tell(call, "OPTIONS"),
    "refer": lambda phone, call: phone.tell(call, "REFER"),
}
ACTS = tuple(PERFORMERS)
SCRIPT = st.lists(st.tuples(st.floats(0.0, 8.0), st.sampled_from(("alice", "bob")), st.sampled_from(ACTS)), max_size=8)


def perform(phone: Ua, act: str) -> None:
    """One line of a script, on the phone's newest call."""
    if phone.calls:
        PERFORMERS[act](phone, phone.calls[-1])


def follow(rig: Rig, script: list[tuple[float, str, str]]) -> None:
    """Lets the phones act by a script."""
    for after, name, act in script:
        phone = rig.alice if name == "alice" else rig.bob
        rig.at(after, phone, lambda phone=phone, act=act: perform(phone, act))  # type: ignore[misc]


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
