"""What ends leaves no object behind, with the garbage collector switched off: calls of every ending, and the rest.

Each story is played several times on one core. After everything has run out (transactions linger for 32 s), the
process holds as many objects as before, of our types and of all others, and a collection finds nothing to free. So
the memory of signaling depends on what goes on, not on what has been.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from pbx_signaling.calls import signals as e
from pbx_signaling.calls.state import CallPolicy
from pbx_sip.address import HostPort
from pbx_sip.message import headers, message, parse
from pbx_sip.sdp import model
from support.b2bua_node import B2buaNode
from support.forking_proxy import ForkingProxy
from support.netem import FINE, LOST, Fate, Network
from support.ua import Notes, Plan, Stage, Ua, UaCall, new_request

PBX, PROXY = HostPort("192.0.2.1", 5060), HostPort("192.0.2.30", 5060)
ROUNDS = 2
"""Each round plays the story once; the first one fills caches and is not counted."""
WARM_UP = 1


class Rig:
    """Alice, Bob and Carol, three phones behind a forking proxy (as 1020), and the product, used again and again."""

    def __init__(self, *, forks: bool) -> None:
        self.fate: Callable[[], Fate] = lambda: FINE
        self.network = Network(lambda: self.fate())
        self.pbx = B2buaNode(PBX, authenticate=True, policy=CallPolicy(no_answer_s=20.0, longest_s=600.0))
        self.alice, self.bob, self.carol = (
            Ua(user, HostPort(f"192.0.2.{host}", 5060), PBX, f"secret-{user}")
            for user, host in (("1004", 10), ("1008", 11), ("1012", 12))
        )
        self.forks = [Ua(f"fork{host}", HostPort(f"192.0.2.{host}", 5060), PBX) for host in (21, 22, 23) if forks]
        self.proxy = ForkingProxy(PROXY, [phone.address for phone in self.forks])
        self.phones = [self.alice, self.bob, self.carol, *self.forks]
        for node in (self.pbx, self.proxy, *self.phones):
            self.network.add(node)
        self.reset()

    def reset(self) -> None:
        """Everybody forgets what the last story told; nobody's plan is left over."""
        for phone in self.phones:
            phone.calls.clear()
            phone.notes, phone.plan, phone.password = Notes(), Plan(), f"secret-{phone.user}"
        pbx = self.pbx
        pbx.registrar.passwords = {phone.user: phone.password for phone in self.phones}
        pbx.registrar.passwords |= {"1020": "x", "1030": "x", "1040": "x"}
        pbx.registrar.bindings.clear()
        for phone in self.phones:
            pbx.bind(phone.user, phone.address)
        pbx.bind("1020", PROXY)
        pbx.bind("1030", HostPort("192.0.2.99", 5060), self.bob.address)
        pbx.registrar.delay_s = pbx.relay.delay_s = 0.002
        pbx.registrar.is_down = pbx.relay.is_full = False
        pbx.forget_records()
        self.proxy.forks.clear()
        self.network.ladder.clear()
        self.network.sent.clear()
        self.network.events = 0
        self.fate = lambda: FINE
        self.network.censor = lambda datagram: None

    def call(self, user: str = "1008", seconds: float = 5.0) -> UaCall:
        """Alice calls, and some time passes."""
        call = self.alice.call(user)
        self.network.run(seconds)
        return call

    def up(self, user: str = "1008") -> UaCall:
        """A call that was answered."""
        call = self.call(user)
        assert call.stage is Stage.UP, self.network.told()
        return call

    def end(self) -> None:
        """Whoever still talks hangs up; everything runs out."""
        self.network.run(60)
        for phone in self.phones:
            for call in phone.calls:
                if call.stage is Stage.UP:
                    phone.hang_up(call)
        self.network.run(700)
        self.network.settle()
        self.pbx.assert_clean()
        self.reset()


def hung_up_by_caller(rig: Rig) -> None:
    rig.alice.hang_up(rig.up())


def hung_up_by_callee(rig: Rig) -> None:
    rig.up()
    rig.bob.hang_up(rig.bob.calls[0])


def hung_up_by_both_at_once(rig: Rig) -> None:
    call = rig.up()
    rig.bob.hang_up(rig.bob.calls[0])
    rig.alice.hang_up(call)


def cancelled(rig: Rig) -> None:
    rig.bob.plan = Plan(answer_after=None)
    rig.alice.cancel(rig.call())


def cancelled_against_the_answer(rig: Rig) -> None:
    rig.fate = lambda: (0.1,)
    rig.bob.plan = Plan(answer_after=0.3)
    call = rig.alice.call("1008")
    rig.network.run(0.95)
    rig.alice.cancel(call)


def rejected(rig: Rig) -> None:
    rig.bob.plan = Plan(answer_status=486)
    assert rig.call().status == 486


def not_answered(rig: Rig) -> None:
    rig.bob.plan = Plan(answer_after=None)
    assert rig.call(seconds=30).status == 480


def callee_switched_off(rig: Rig) -> None:
    rig.pbx.bind("1008", HostPort("192.0.2.98", 5060))
    assert rig.call(seconds=60).status in (408, 480)


def the_second_target_answers(rig: Rig) -> None:
    assert rig.call("1030", 18).status in (0, 200, 480)
    rig.network.run(30)


def nobody_has_that_name(rig: Rig) -> None:
    assert rig.call("9999").status == 404


def not_registered(rig: Rig) -> None:
    assert rig.call("1040").status == 480


def wrong_password(rig: Rig) -> None:
    rig.alice.password = "guess"
    assert rig.call().status == 403


def no_password(rig: Rig) -> None:
    rig.alice.password = ""
    assert rig.call().status == 407


def forked_and_answered(rig: Rig) -> None:
    for phone, after in zip(rig.forks, (None, 2.0, None), strict=True):
        phone.plan = Plan(answer_after=after)
    rig.up("1020")


def forked_and_answered_twice(rig: Rig) -> None:
    rig.fate = lambda: (0.05,)
    rig.forks[0].plan, rig.forks[1].plan = Plan(answer_after=1.0), Plan(answer_after=1.002, reliable=True)
    rig.forks[2].plan = Plan(answer_status=603)
    rig.up("1020")


def forked_and_refused(rig: Rig) -> None:
    for phone in rig.forks:
        phone.plan = Plan(answer_status=486)
    assert rig.call("1020").status == 486


def changed_inside(rig: Rig) -> None:
    call = rig.up()
    for hold in (True, False):
        rig.alice.modify(call, hold=hold)
        rig.network.run(2)
        rig.bob.modify(rig.bob.calls[0], "UPDATE", hold=hold)
        rig.network.run(2)
    rig.alice.modify(call, offer=False)
    rig.network.run(2)
    rig.alice.tell(call, "INFO")
    rig.bob.tell(rig.bob.calls[0], "MESSAGE")


def changed_by_both_at_once(rig: Rig) -> None:
    rig.fate = lambda: (0.1,)
    call = rig.up()
    rig.alice.modify(call)
    rig.bob.modify(rig.bob.calls[0])


def a_change_refused(rig: Rig) -> None:
    call = rig.up()
    rig.bob.plan.reply_inside = 488
    rig.alice.modify(call)


def hung_up_in_the_middle_of_a_change(rig: Rig) -> None:
    rig.fate = lambda: (0.1,)
    call = rig.up()
    rig.alice.modify(call)
    rig.network.run(0.15)
    rig.bob.hang_up(rig.bob.calls[0])


def without_offer(rig: Rig) -> None:
    rig.alice.call("1008", offer=False)


def redirected(rig: Rig) -> None:
    rig.bob.plan = Plan(answer_status=302, contacts=("<sip:1012@pbx.local>",))
    assert rig.up().status == 200
    assert rig.carol.calls


def redirected_in_a_circle(rig: Rig) -> None:
    rig.bob.plan = Plan(answer_status=302, contacts=("<sip:1012@pbx.local>",))
    rig.carol.plan = Plan(answer_status=301, contacts=("<sip:1008@pbx.local>",))
    assert rig.call().status == 480


def reliable_progress(rig: Rig) -> None:
    rig.bob.plan = Plan(reliable=True, ring_status=183, ring_sdp=True)
    rig.alice.call("1008", reliable=True)
    rig.network.run(5)
    assert "PRACK" in rig.bob.notes.seen


def reliable_progress_on_one_side(rig: Rig) -> None:
    rig.bob.plan = Plan(reliable=True)
    rig.up()
    assert "PRACK" in rig.bob.notes.seen


def progress_that_nobody_confirms(rig: Rig) -> None:
    rig.bob.plan = Plan(reliable=True, answer_after=None)
    rig.network.censor = lambda datagram: LOST if datagram.data.startswith(b"PRACK") else None
    rig.alice.call("1008", reliable=True)
    rig.network.run(60)


def an_answer_that_nobody_confirms(rig: Rig) -> None:
    rig.network.censor = lambda datagram: LOST if datagram.data.startswith(b"ACK") else None
    rig.call(seconds=60)


def both_phones_vanish(rig: Rig) -> None:
    rig.up()
    rig.network.censor = lambda datagram: LOST
    rig.pbx.signal(next(iter(rig.pbx.calls)), e.MediaSilent(30), rig.network.now)
    rig.network.run(60)


def ended_by_order(rig: Rig) -> None:
    rig.up()
    rig.pbx.signal(next(iter(rig.pbx.calls)), e.Ordered("by hand", drain=False), rig.network.now)


def too_long(rig: Rig) -> None:
    rig.up()
    rig.network.run(650)


def relay_full(rig: Rig) -> None:
    rig.pbx.relay.is_full = True
    assert rig.call().status == 503


def _lose_slot(rig: Rig) -> None:
    """The relay does not have the call that rings on its slot, which somebody else has now."""
    call_id = next(call_id for call_id in rig.pbx.relay.slots if call_id in rig.pbx.calls)
    slot = rig.pbx.relay.slots.pop(call_id)
    rig.pbx.relay.slots["somebody"] = slot
    rig.pbx.signal(call_id, e.MediaLost(slot, "gone"), rig.network.now)


def relay_lost_while_it_rings(rig: Rig) -> None:
    rig.bob.plan = Plan(answer_after=3.0)
    call = rig.alice.call("1008")
    rig.network.run(1)
    ((call_id, slot),) = rig.pbx.relay.slots.items()
    rig.pbx.signal(call_id, e.MediaLost(replace(slot, index=7), "of before"), rig.network.now)
    assert "CANCEL" not in rig.bob.notes.seen
    _lose_slot(rig)
    rig.network.run(6)
    assert "CANCEL" in rig.bob.notes.seen
    assert rig.bob.notes.seen.count("INVITE") == 2
    assert call.status == 200
    del rig.pbx.relay.slots["somebody"]
    (moved,) = rig.pbx.relay.slots.values()
    assert moved.first_port != slot.first_port
    for side, phone in enumerate((rig.alice, rig.bob), 1):
        assert f"m=audio {moved.ports[side, 1][0]} ".encode() in phone.notes.bodies[-1]
    rig.alice.hang_up(call)


def relay_out_of_reach_for_a_call_that_cannot_move_again(rig: Rig) -> None:
    rig.bob.plan = Plan(answer_after=3.0)
    call = rig.alice.call("1008")
    rig.network.run(1)
    _lose_slot(rig)
    rig.network.run(1)
    del rig.pbx.relay.slots["somebody"]
    ((call_id, slot),) = rig.pbx.relay.slots.items()
    rig.pbx.signal(call_id, e.MediaLost(slot, "out of reach", is_certain=False), rig.network.now)
    rig.network.run(6)
    assert call.status == 200
    rig.alice.hang_up(call)


def relay_lost_again(rig: Rig) -> None:
    rig.bob.plan = Plan(answer_after=None)
    call = rig.alice.call("1008")
    rig.network.run(1)
    _lose_slot(rig)
    rig.network.run(1)
    del rig.pbx.relay.slots["somebody"]
    ((call_id, slot),) = rig.pbx.relay.slots.items()
    rig.pbx.signal(call_id, e.MediaLost(slot, "gone"), rig.network.now)
    rig.network.run(2)
    assert call.status == 503


def relay_lost_and_no_other(rig: Rig) -> None:
    rig.bob.plan = Plan(answer_after=None)
    call = rig.alice.call("1008")
    rig.network.run(1)
    rig.pbx.relay.is_full = True
    _lose_slot(rig)
    rig.network.run(2)
    del rig.pbx.relay.slots["somebody"]
    assert call.status == 503


def relay_lost_and_the_caller_gives_up(rig: Rig) -> None:
    rig.bob.plan = Plan(answer_after=None)
    call = rig.alice.call("1008")
    rig.network.run(1)
    rig.pbx.relay.delay_s = 1.0
    _lose_slot(rig)
    rig.network.run(0.2)
    rig.alice.cancel(call)
    rig.network.run(5)
    del rig.pbx.relay.slots["somebody"]
    assert rig.pbx.relay.slots == {}


def relay_late(rig: Rig) -> None:
    rig.pbx.relay.delay_s = 7.0
    assert rig.call(seconds=20).status == 503


def registrar_fails(rig: Rig) -> None:
    rig.pbx.registrar.is_down = True
    assert rig.call().status == 503


def registrar_silent(rig: Rig) -> None:
    rig.pbx.registrar.delay_s = None
    assert rig.call(seconds=20).status == 503


def _journal(rig: Rig, *, ready: bool) -> None:
    rig.pbx.journal(ready, rig.network.now)


def events_stall_for_a_moment(rig: Rig) -> None:
    _journal(rig, ready=False)
    call = rig.call(seconds=1)
    _journal(rig, ready=True)
    rig.network.run(5)
    assert call.stage is Stage.UP


def events_stall_for_long(rig: Rig) -> None:
    _journal(rig, ready=False)
    call = rig.call(seconds=10)
    _journal(rig, ready=True)
    assert call.status == 503


def given_up_during_a_stall(rig: Rig) -> None:
    _journal(rig, ready=False)
    rig.alice.cancel(rig.call(seconds=1))
    _journal(rig, ready=True)


def a_flow_breaks(rig: Rig) -> None:
    rig.bob.plan = Plan(answer_after=None)
    rig.call()
    flow = next(entry.callee.flow for entry in rig.pbx.calls.values() if entry.callee is not None)
    rig.pbx.transport_failed(flow, rig.network.now)
    rig.network.run(30)


def registered_and_removed(rig: Rig) -> None:
    for expires_s in (300, 300, 0):
        rig.bob.register(expires_s)
        rig.network.run(1)
        assert rig.bob.registered == 200


def registered_with_a_wrong_password(rig: Rig) -> None:
    rig.bob.password = "guess"
    rig.bob.register()
    rig.network.run(1)
    assert rig.bob.registered == 403


def _message(rig: Rig, user: str) -> None:
    sender = "<sip:1004@pbx.local>"
    headers = (
        *(("From", f"{sender};tag={rig.alice.tokens.tag()}"), ("To", f"<sip:{user}@pbx.local>")),
        *(("Call-ID", rig.alice.tokens.call_id()), ("CSeq", "1 MESSAGE"), ("Content-Type", "text/plain")),
    )
    rig.alice.send(new_request("MESSAGE", f"sip:{user}@pbx.local", headers, b"hello"))
    rig.network.run(1)


def messages(rig: Rig) -> None:
    for user in ("1008", "1040", "9999"):
        _message(rig, user)


def a_message_that_nobody_answers(rig: Rig) -> None:
    rig.network.censor = lambda datagram: LOST if datagram.target == rig.bob.address else None
    _message(rig, "1008")
    rig.network.run(40)


def garbage(rig: Rig) -> None:
    lines = b"OPTIONS sip:pbx.local SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKg\r\n"
    for data in (
        b"\r\n",
        b"INVITE sip:x SIP/3.0\r\n\r\n",
        lines + b"CSeq: x\r\n\r\n",
        lines + b"Broken\r\n\r\n",
        bytes(99),
    ):
        rig.network.send(data, rig.alice.address, PBX)
    rig.network.run(1)


STORIES = [
    *(hung_up_by_caller, hung_up_by_callee, hung_up_by_both_at_once, cancelled, cancelled_against_the_answer, rejected),
    *(not_answered, callee_switched_off, the_second_target_answers, nobody_has_that_name, not_registered),
    *(wrong_password, no_password, forked_and_answered, forked_and_answered_twice, forked_and_refused, changed_inside),
    *(changed_by_both_at_once, a_change_refused, hung_up_in_the_middle_of_a_change, without_offer, redirected),
    *(redirected_in_a_circle, reliable_progress, reliable_progress_on_one_side, progress_that_nobody_confirms),
    *(
        an_answer_that_nobody_confirms,
        both_phones_vanish,
        ended_by_order,
        too_long,
        relay_full,
        relay_late,
        relay_lost_while_it_rings,
        relay_out_of_reach_for_a_call_that_cannot_move_again,
        relay_lost_again,
        relay_lost_and_no_other,
        relay_lost_and_the_caller_gives_up,
    ),
    *(registrar_fails, registrar_silent, events_stall_for_a_moment, events_stall_for_long, given_up_during_a_stall),
    *(a_flow_breaks, registered_and_removed, registered_with_a_wrong_password, messages),
    *(a_message_that_nobody_answers, garbage),
]


def objects() -> Counter[str]:
    """How many objects of each type there are that can refer to others, dead ones included.

    What is remembered of lines is forgotten first: it is bounded, and belongs to no call.
    """
    parse.PLAIN_LINES.clear()
    model.PLAIN_LINES.clear()
    message.split_cseq.cache_clear()
    headers._tokens_of.cache_clear()
    model._payload_types.cache_clear()
    return Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())


@pytest.mark.parametrize("story", STORIES, ids=[story.__name__ for story in STORIES])
def test_what_ends_leaves_nothing_behind(story: Callable[[Rig], None]) -> None:
    rig, before = Rig(forks=story.__name__.startswith("forked")), objects()
    gc.collect()
    gc.freeze()  # what is there already is neither counted nor looked at
    gc.disable()
    try:
        for _ in range(WARM_UP):
            story(rig)
            rig.end()
        before = objects()  # counts the one before, as the last count does this one
        for _ in range(ROUNDS):
            story(rig)
            rig.end()
        left = {name: count for name, count in (objects() - before).items() if count >= ROUNDS}
        collected = gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()
    assert not left, "one or more for each time that the story was played"
    assert collected == 0, "dead, but found by the collector only"
