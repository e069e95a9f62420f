"""Two phones, a lossy network and the B2BUA's core between them, on one clock.

At the end of each story: no call, leg, dialog, transaction, timer or slot anywhere; one first and one last event for
each attempt; neither phone ever saw the other's address.
"""

from __future__ import annotations

from collections.abc import Callable

from pbx_signaling.calls.state import CallPolicy
from pbx_sip.address import HostPort
from support.b2bua_node import B2buaNode
from support.lawful import assert_lawful
from support.netem import Fate, Network, always
from support.ua import Plan, Stage, Ua, UaCall, statuses

ALICE, BOB, PBX = HostPort("192.0.2.10", 5060), HostPort("192.0.2.20", 5060), HostPort("192.0.2.1", 5060)


class Rig:
    """Alice (1004), Bob (1008) and the product between them."""

    def __init__(
        self,
        weather: Callable[[], Fate] | None = None,
        plan: Plan | None = None,
        *,
        authenticate: bool = False,
        policy: CallPolicy | None = None,
    ) -> None:
        self.network = Network(weather or always())
        self.pbx = B2buaNode(PBX, authenticate=authenticate, policy=policy)
        self.alice, self.bob = Ua("1004", ALICE, PBX, "secret4"), Ua("1008", BOB, PBX, "secret8")
        self.phones = (self.alice, self.bob)
        self.bob.plan = plan or Plan()
        self.pbx.registrar.passwords = {"1004": "secret4", "1008": "secret8", "1009": "x"}
        self.pbx.bind("1004", ALICE)
        self.pbx.bind("1008", BOB)
        for node in (self.alice, self.bob, self.pbx):
            self.network.add(node)

    def at(self, after: float, phone: Ua, act: Callable[[], object]) -> None:
        """Lets a phone do something."""

        def performed() -> None:
            act()

        phone.at(self.network.now + after, performed)

    def end(self, patience_s: float = 200.0) -> None:
        """Whoever still talks hangs up; then everything runs out, and nothing is left."""
        self.network.run(patience_s)
        self.assert_alive()
        for phone in self.phones:
            for call in phone.calls:
                if call.stage is Stage.UP:
                    phone.hang_up(call)
                elif call.stage is not Stage.OVER and not call.received:
                    phone.cancel(call)
        self.network.run(200)
        self.network.settle()
        self.pbx.assert_clean()
        for phone in self.phones:
            phone.assert_clean()
        self.assert_hidden()
        for node in (PBX, ALICE, BOB):
            assert_lawful(self.network, node)

    def assert_alive(self) -> None:
        """A call that is still up after all that: either side can change its session, whatever went wrong before."""
        up = [(phone, call) for phone in self.phones for call in phone.calls if call.stage is Stage.UP]
        if len(up) != 2 or self.bob.plan.reply_inside != 200:
            return
        for phone, call in up:
            for method in ("INVITE", "UPDATE"):
                assert not call.modifying
                phone.modify(call, method)
                self.network.run(20)
                assert call.stage is Stage.UP, self.network.told(20)
                assert statuses(phone, method)[-1] == 200, self.network.told(20)

    def assert_hidden(self) -> None:
        """No phone sees the other's address, tags or Call-ID."""
        for datagram in self.network.ladder:
            other = {ALICE: BOB, BOB: ALICE}.get(datagram.target)
            if other is not None:
                assert other.host.encode() not in datagram.data, datagram.data

    def up(self) -> tuple[UaCall, UaCall]:
        """An established call."""
        call = self.alice.call("1008")
        self.network.run(5)
        assert call.stage is Stage.UP, self.network.told()
        return call, self.bob.calls[0]
