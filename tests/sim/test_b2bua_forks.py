"""A callee behind a forking proxy: several early dialogs, several answers (RFC 3261 section 13.2.2.4)."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from pbx_sip.address import HostPort
from support import several_phones
from support.forking_proxy import ForkingProxy
from support.netem import Fate, always, scheduled
from support.simulation import SIMULATION
from support.ua import Plan, Stage, statuses

PROXY = HostPort("192.0.2.20", 5060)


class Rig(several_phones.Rig):
    """As that of several phones, with a proxy before them: the product knows one binding."""

    def __init__(self, plans: list[Plan], weather: Callable[[], Fate] | None = None) -> None:
        super().__init__(plans, weather, proxies=[PROXY.host])

    def register(self) -> None:
        """The proxy is the user's binding; it forks to the phones."""
        self.pbx.bind("1008", PROXY)
        self.network.add(ForkingProxy(PROXY, [phone.address for phone in self.phones]))


def test_one_of_three_answers() -> None:
    rig = Rig([Plan(answer_after=None), Plan(answer_after=2.0), Plan(answer_after=None)])
    call = rig.alice.call("1008")
    rig.network.run(5)
    assert call.stage is Stage.UP
    assert statuses(rig.alice, "INVITE") == [100, 180, 180, 180, 200]
    assert [phone.calls[0].ended_by for phone in rig.phones] == ["cancelled", "", "cancelled"]
    assert rig.pbx.names() == ["INITIATED", "DIALING", "RINGING", "ANSWERED"]
    rig.alice.modify(call)
    rig.network.run(2)
    assert "INVITE" in rig.phones[1].notes.seen[1:]
    rig.end()


def test_two_answer_at_once() -> None:
    rig = Rig([Plan(answer_after=1.0), Plan(answer_after=1.002)], always((0.05,)))
    call = rig.alice.call("1008")
    rig.network.run(5)
    assert call.stage is Stage.UP
    assert [phone.calls[0].stage for phone in rig.phones] == [Stage.UP, Stage.OVER]
    assert rig.phones[1].notes.seen == ["INVITE", "CANCEL", "ACK", "BYE"]
    rig.end()


def test_the_second_answer_comes_from_a_dialog_that_was_used() -> None:
    """Its PRACK took a CSeq number: the BYE must take the next."""
    rig = Rig([Plan(answer_after=1.0), Plan(answer_after=1.0, reliable=True)], always((0.1,)))
    rig.alice.call("1008", reliable=True)
    rig.network.run(10)
    assert [phone.calls[0].stage for phone in rig.phones] == [Stage.UP, Stage.OVER]
    rig.end()


def test_all_refuse() -> None:
    rig = Rig([Plan(answer_status=603), Plan(answer_status=486, answer_after=2.0)])
    call = rig.alice.call("1008")
    rig.network.run(5)
    assert call.status == 486
    rig.end()


def test_cancel_while_all_ring() -> None:
    rig = Rig([Plan(answer_after=None)] * 3)
    call = rig.alice.call("1008")
    rig.network.run(2)
    rig.alice.cancel(call)
    rig.network.run(2)
    assert call.status == 487
    assert {phone.calls[0].ended_by for phone in rig.phones} == {"cancelled"}
    rig.end()


def test_two_answer_what_the_caller_gave_up() -> None:
    rig = Rig([Plan(answer_after=1.0), Plan(answer_after=1.0)], always((0.1,)))
    call = rig.alice.call("1008")
    rig.alice.at(rig.network.now + 1.05, lambda: rig.alice.cancel(call))
    rig.network.run(5)
    assert call.stage is Stage.OVER
    assert [phone.calls[0].stage for phone in rig.phones] == [Stage.OVER, Stage.OVER], rig.network.told()
    rig.end()


PLANS = st.lists(
    st.builds(
        Plan,
        ring_after=st.sampled_from((0.1, 0.5, None)),
        ring_sdp=st.booleans(),
        reliable=st.booleans(),
        answer_after=st.sampled_from((0.2, 1.0, 1.1, 3.0, None)),
        answer_status=st.sampled_from((200, 200, 486, 480)),
    ),
    min_size=1,
    max_size=3,
)
DELAYS = st.lists(st.floats(0.001, 0.4).map(lambda delay: (delay,)), max_size=50)


@SIMULATION
@given(PLANS, DELAYS, st.one_of(st.none(), st.floats(0.0, 4.0)), st.booleans(), st.booleans())
def test_any_forks(plans: list[Plan], delays: list[Fate], cancelled: float | None, reliable: bool, offer: bool) -> None:
    rig = Rig(plans, scheduled(delays))
    call = rig.alice.call("1008", reliable=reliable, offer=offer)
    if cancelled is not None:
        rig.alice.at(rig.network.now + cancelled, lambda: rig.alice.cancel(call))
    rig.end()
    assert call.status
