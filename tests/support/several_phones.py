"""Alice, the product, and several phones of one user, each with its plan; and strategies for all of that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from pbx_signaling.calls.hunt import HuntPolicy, Ringing
from pbx_signaling.calls.state import CallPolicy
from pbx_sip.address import HostPort
from pbx_sip.message.message import Message, Request
from pbx_sip.message.parse import parse
from support.b2bua_node import B2buaNode
from support.lawful import assert_lawful
from support.netem import LOST, Fate, Network, always, scheduled
from support.ua import Plan, Stage, Ua

ALICE, PBX = HostPort("192.0.2.10", 5060), HostPort("192.0.2.1", 5060)
PHONES = [HostPort(f"192.0.2.{number}", 5060) for number in (21, 22, 23, 24)]
DEAF = Plan(ring_after=None, answer_after=None)
RINGS = Plan(answer_after=None)


class Rig:
    """Alice, the product, and the phones of one user, each with its plan."""

    def __init__(
        self,
        plans: list[Plan],
        weather: Callable[[], Fate] | None = None,
        *,
        hunt: HuntPolicy | None = None,
        branch_s: float = 20.0,
        proxies: Sequence[str] = (),
    ) -> None:
        self.network = Network(weather or always())
        self.policy = CallPolicy(no_answer_s=60.0, branch_s=branch_s, hunt=hunt or HuntPolicy())
        self.pbx = B2buaNode(PBX, policy=self.policy, proxies=proxies)
        self.pbx.registrar.passwords = {"1004": "x", "1008": "x"}
        self.alice = Ua("1004", ALICE, PBX)
        self.phones = [Ua(f"p{where.host[-2:]}", where, PBX) for where, _ in zip(PHONES, plans, strict=False)]
        for phone, plan in zip(self.phones, plans, strict=True):
            phone.plan = plan
        self.network.add(self.pbx)
        for phone in (self.alice, *self.phones):
            self.network.add(phone)
        self.register()

    def register(self) -> None:
        """The product learns how the user is reached: here each phone is a binding."""
        self.pbx.bind("1008", *(phone.address for phone in self.phones))

    def prefer(self, *preferences: int) -> None:
        """The q values of the phones, in thousandths."""
        bindings = self.pbx.registrar.bindings
        bindings["1008"] = [
            replace(target, q_thousandths=q) for target, q in zip(bindings["1008"], preferences, strict=False)
        ]

    def lose(self, number: int) -> None:
        """A phone is gone, and known to be."""
        targets = self.pbx.registrar.bindings["1008"]
        targets[number] = replace(targets[number], unreachable=True)
        self.cut(number)

    def cut(self, number: int) -> None:
        """A phone hears nothing any more."""
        self.network.censor = lambda datagram: LOST if datagram.target == PHONES[number] else None

    def heal(self) -> None:
        """It does again."""
        self.network.censor = lambda datagram: None

    def stages(self) -> list[Stage | None]:
        """Where the call stands at each phone; None: it was not invited."""
        return [phone.calls[0].stage if phone.calls else None for phone in self.phones]

    def messages(self, to: HostPort) -> list[Message]:
        """All that the product sent to an address."""
        return [parse(each.data) for each in self.network.ladder if each.target == to and each.source == PBX]

    def reasons(self, number: int) -> list[str]:
        """The Reason headers of the CANCEL that a phone got."""
        cancels = [
            each for each in self.messages(PHONES[number]) if isinstance(each, Request) and each.method == "CANCEL"
        ]
        return cancels[0].headers.all("Reason") if cancels else []

    def end(self) -> None:
        """Everything ends, and nothing is left."""
        self.network.run(200)
        for call in self.alice.calls:
            if call.stage is Stage.UP:
                self.alice.hang_up(call)
            elif call.stage is not Stage.OVER:
                self.alice.cancel(call)
        self.network.run(200)
        self.network.settle()
        self.pbx.assert_clean()
        for phone in (self.alice, *self.phones):
            phone.assert_clean()
        assert_lawful(self.network, PBX)


PLANS = st.lists(
    st.builds(
        Plan,
        ring_after=st.sampled_from((0.1, 0.5, None)),
        ring_sdp=st.booleans(),
        reliable=st.booleans(),
        answer_after=st.sampled_from((0.2, 1.0, 1.1, 3.0, None)),
        answer_status=st.sampled_from((200, 200, 486, 480, 603)),
    ),
    min_size=1,
    max_size=4,
)
DELAYS = st.lists(st.floats(0.001, 0.4).map(lambda delay: (delay,)), max_size=50)
HUNTS = st.builds(HuntPolicy, st.sampled_from(Ringing), st.integers(1, 4))


@dataclass(frozen=True)
class Story:
    """What happens in one call."""

    plans: list[Plan]
    hunt: HuntPolicy
    preferences: list[int]
    delays: list[Fate]
    cancelled: float | None
    """When the caller gives up."""
    changed: float
    """When the caller changes the session, where the call is up then."""
    reliable: bool
    offer: bool


STORIES = st.builds(
    Story,
    plans=PLANS,
    hunt=HUNTS,
    preferences=st.lists(st.sampled_from((1000, 1000, 500)), min_size=4, max_size=4),
    delays=DELAYS,
    cancelled=st.one_of(st.none(), st.floats(0.0, 4.0)),
    changed=st.floats(1.0, 6.0),
    reliable=st.booleans(),
    offer=st.booleans(),
)


def begin(story: Story) -> Rig:
    """The rig of a story, in which all is planned that happens."""
    rig = Rig(story.plans, scheduled(story.delays), hunt=story.hunt, branch_s=2.0)
    rig.prefer(*story.preferences)
    call = rig.alice.call("1008", reliable=story.reliable, offer=story.offer)

    def change() -> None:
        if call.stage is Stage.UP and not call.modifying:
            rig.alice.modify(call)

    if story.cancelled is not None:
        rig.alice.at(rig.network.now + story.cancelled, lambda: rig.alice.cancel(call))
    rig.alice.at(rig.network.now + story.changed, change)
    return rig
