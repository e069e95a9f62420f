"""Two phones that call each other directly, and scripts for them: what the simulations of phones alone share."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from pbx_sip.address import HostPort
from support.netem import LOST, Fate, Network, always
from support.ua import Plan, Stage, Ua

ALICE, BOB = HostPort("192.0.2.10", 5060), HostPort("192.0.2.20", 5060)

FATES = st.lists(
    st.one_of(
        st.just(LOST),
        st.floats(0.001, 3.0).map(lambda delay: (delay,)),
        st.tuples(st.floats(0.001, 3.0), st.floats(0.001, 3.0)),
    ),
    max_size=30,
)


class Rig:
    """Alice calls Bob directly."""

    def __init__(self, weather: Callable[[], Fate] | None = None, plan: Plan | None = None) -> None:
        self.network = Network(weather or always())
        self.alice, self.bob = Ua("alice", ALICE, BOB), Ua("bob", BOB, ALICE)
        self.bob.plan = plan or Plan()
        for phone in (self.alice, self.bob):
            self.network.add(phone)

    def at(self, after: float, phone: Ua, act: Callable[[], object]) -> None:
        """Lets a phone do something."""

        def acts() -> None:
            act()

        phone.at(self.network.now + after, acts)

    def end(self) -> None:
        """Whoever still talks hangs up; then everything runs out."""
        self.network.run(120)
        for phone in (self.alice, self.bob):
            for call in phone.calls:
                if call.stage is Stage.UP:
                    phone.hang_up(call)
                elif call.stage is not Stage.OVER and not call.received:
                    phone.cancel(call)
        self.network.run(120)
        self.network.settle()
        for phone in (self.alice, self.bob):
            phone.assert_clean()


SCRIPT = st.lists(
    st.tuples(
        st.floats(0.0, 8.0),
        st.sampled_from(("alice", "bob")),
        st.sampled_from(("modify", "update", "hold", "info", "cancel", "hang up")),
    ),
    max_size=6,
)


def perform(rig: Rig, phone: Ua, act: str) -> None:
    """One line of a script, on the phone's newest call."""
    if not phone.calls:
        return
    call = phone.calls[-1]
    match act:
        case "modify":
            phone.modify(call)
        case "update":
            phone.modify(call, "UPDATE")
        case "hold":
            phone.modify(call, hold=True)
        case "info":
            phone.tell(call)
        case "cancel":
            if not call.received:
                phone.cancel(call)
        case "hang up":
            phone.hang_up(call)
