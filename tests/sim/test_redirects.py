"""A callee's 3xx: followed to another user of the domain, never in a circle, never for ever, never elsewhere."""

from __future__ import annotations

import pytest

from pbx_signaling.calls.hunt import HuntPolicy
from pbx_signaling.calls.state import CallPolicy
from pbx_sip.address import HostPort
from support.b2bua_node import B2buaNode
from support.lawful import assert_lawful
from support.netem import Network, always
from support.ua import Plan, Stage, Ua, statuses

PBX = HostPort("192.0.2.1", 5060)


class Rig:
    """The product, and phones of 1000, 1001, ... each with its plan; 1000 calls 1001."""

    def __init__(self, *plans: Plan, redirects: int = 5) -> None:
        self.network = Network(always())
        self.pbx = B2buaNode(PBX, policy=CallPolicy(no_answer_s=30.0, hunt=HuntPolicy(redirects=redirects)))
        self.phones = [
            Ua(str(1000 + number), HostPort(f"192.0.2.{10 + number}", 5060), PBX) for number in range(len(plans) + 1)
        ]
        for phone, plan in zip(self.phones[1:], plans, strict=True):
            phone.plan = plan
        self.pbx.registrar.passwords = {phone.user: "x" for phone in self.phones} | {"1009": "x"}
        for phone in self.phones:
            self.pbx.bind(phone.user, phone.address)
        for node in (self.pbx, *self.phones):
            self.network.add(node)
        self.call = self.phones[0].call("1001")

    def end(self) -> None:
        """Everything ends, and nothing is left."""
        self.network.run(200)
        if self.call.stage is Stage.UP:
            self.phones[0].hang_up(self.call)
        self.network.run(200)
        self.network.settle()
        self.pbx.assert_clean()
        for phone in self.phones:
            phone.assert_clean()
        assert_lawful(self.network, PBX)


def onward(*users: str, status: int = 302, **more: float | None) -> Plan:
    """A phone that sends its calls on."""
    contacts = tuple(user if "@" in user else f"<sip:{user}@pbx.local>" for user in users)
    return Plan(answer_status=status, contacts=contacts, **more)  # type: ignore[arg-type]


def test_the_call_goes_to_whom_the_callee_names() -> None:
    rig = Rig(onward("1002"), Plan())
    rig.network.run(5)
    assert rig.call.stage is Stage.UP
    assert [phone.notes.seen for phone in rig.phones[1:]] == [["INVITE"], ["INVITE", "ACK"]]
    assert 302 not in statuses(rig.phones[0], "INVITE")
    assert rig.pbx.names() == ["INITIATED", "DIALING", "RINGING", "DIALING", "RINGING", "ANSWERED"]
    rig.end()


@pytest.mark.parametrize("status", [300, 301, 305, 399])
def test_any_3xx_is_one(status: int) -> None:
    rig = Rig(onward("1002", status=status), Plan())
    rig.network.run(5)
    assert rig.call.stage is Stage.UP
    rig.end()


def test_a_chain_as_long_as_is_allowed_and_no_longer() -> None:
    chain = [onward(str(1002 + number)) for number in range(3)]
    for redirects, status in ((3, 200), (2, 480), (0, 480)):
        rig = Rig(*chain, Plan(), redirects=redirects)
        rig.network.run(20)
        assert rig.call.status == status, redirects
        rig.end()


def test_a_circle_ends() -> None:
    rig = Rig(onward("1002"), onward("1001"))
    rig.network.run(20)
    assert rig.call.status == 480
    assert [phone.notes.seen.count("INVITE") for phone in rig.phones[1:]] == [1, 1]
    rig.end()


@pytest.mark.parametrize(
    ("to", "status"), [("<sip:1002@evil.example>", 480), ("<tel:+15551234>@", 480), ("1009", 480), ("4711", 404)]
)
def test_a_redirection_that_leads_nowhere(to: str, status: int) -> None:
    rig = Rig(onward(to), Plan())
    rig.network.run(20)
    assert rig.call.status == status
    assert rig.phones[2].notes.seen == []
    rig.end()


def test_the_caller_gives_up_after_the_call_was_sent_on() -> None:
    rig = Rig(onward("1002"), Plan(answer_after=None))
    rig.network.run(5)
    rig.phones[0].cancel(rig.call)
    rig.network.run(5)
    assert rig.call.status == 487
    assert rig.phones[2].calls[0].ended_by == "cancelled"
    rig.end()


def test_ringing_begins_anew_where_the_call_was_sent_on() -> None:
    """The first phone rang for 20 s: the second has its own 30."""
    rig = Rig(onward("1002", answer_after=20.0), Plan(answer_after=25.0))
    rig.network.run(50)
    assert rig.call.stage is Stage.UP
    rig.end()
