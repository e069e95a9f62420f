"""Two phones, a lossy network and the B2BUA's core: the ladders. `test_weather` has any weather and any script."""

from __future__ import annotations

import pytest

from pbx_signaling.calls.state import CallPolicy
from support.netem import always
from support.sim_rig import ALICE, BOB, Rig
from support.ua import Plan, Stage, statuses


def test_a_call() -> None:
    rig = Rig()
    call, other = rig.up()
    assert statuses(rig.alice, "INVITE") == [100, 180, 200]
    assert rig.bob.notes.seen == ["INVITE", "ACK"]
    rig.alice.hang_up(call)
    rig.network.run(2)
    assert other.ended_by == "peer"
    assert rig.pbx.names() == ["INITIATED", "DIALING", "RINGING", "ANSWERED", "ENDED"]
    rig.end()


def test_the_callee_ends_it() -> None:
    rig = Rig()
    call, other = rig.up()
    rig.bob.hang_up(other)
    rig.network.run(2)
    assert call.ended_by == "peer"
    rig.end()


def test_registration_and_a_call_with_digest() -> None:
    rig = Rig(authenticate=True)
    rig.pbx.registrar.bindings.clear()
    rig.bob.register()
    rig.network.run(1)
    assert rig.bob.registered == 200
    assert statuses(rig.bob, "REGISTER") == [401, 200]
    call, _ = rig.up()
    assert call.attempts == 2
    rig.end()


@pytest.mark.parametrize(("wrong", "status"), [("guess", 403), ("", 407)])
def test_wrong_or_no_credentials(wrong: str, status: int) -> None:
    rig = Rig(authenticate=True)
    rig.alice.password = wrong
    call = rig.alice.call("1008")
    rig.network.run(5)
    assert call.status == status
    assert not rig.bob.calls
    rig.end()


@pytest.mark.parametrize(
    ("user", "plan", "status"),
    [
        ("9999", Plan(), 404),
        ("1009", Plan(), 480),
        ("1008", Plan(answer_status=486), 486),
        ("1008", Plan(answer_status=603, ring_after=None), 603),
        ("1008", Plan(answer_status=404), 404),
        ("1008", Plan(answer_status=302), 480),
    ],
)
def test_attempts_that_fail(user: str, plan: Plan, status: int) -> None:
    rig = Rig(plan=plan)
    call = rig.alice.call(user)
    rig.network.run(5)
    assert (call.stage, call.status) == (Stage.OVER, status)
    assert rig.pbx.names()[-1] == "ENDED"
    rig.end()


def test_nobody_answers() -> None:
    rig = Rig(plan=Plan(answer_after=None), policy=CallPolicy(no_answer_s=30.0))
    call = rig.alice.call("1008")
    rig.network.run(40)
    assert call.status == 480
    assert rig.bob.calls[0].ended_by == "cancelled"
    rig.end()


def test_a_callee_that_is_switched_off() -> None:
    rig = Rig()
    del rig.network.nodes[BOB]
    call = rig.alice.call("1008")
    rig.network.run(60)
    assert call.status == 408
    rig.end()


def test_cancel_while_ringing() -> None:
    rig = Rig(plan=Plan(answer_after=None))
    call = rig.alice.call("1008")
    rig.at(2, rig.alice, lambda: rig.alice.cancel(call))
    rig.network.run(5)
    assert (call.status, rig.bob.calls[0].ended_by) == (487, "cancelled")
    rig.end()


@pytest.mark.parametrize("after", [0.9, 0.94, 0.98, 1.0, 1.02, 1.06, 1.1, 1.14, 1.2, 1.3, 1.4])
def test_cancel_against_200(after: float) -> None:
    """Whichever wins, both sides end, and it is one call with one last event."""
    rig = Rig(weather=always((0.1,)), plan=Plan(answer_after=1.0))
    call = rig.alice.call("1008")
    rig.at(after, rig.alice, lambda: rig.alice.cancel(call))
    rig.network.run(10)
    assert call.ended_by == "cancelled"
    assert rig.bob.calls[0].stage is Stage.OVER
    rig.end()


@pytest.mark.parametrize("after", [0.0, 0.003, 0.006, 0.008, 0.012, 0.02, 0.03])
@pytest.mark.parametrize("slow", [0.002, 1.0])
def test_cancel_before_the_callee_is_reached(after: float, slow: float) -> None:
    rig = Rig(plan=Plan(answer_after=None))
    rig.pbx.relay.delay_s = slow
    call = rig.alice.call("1008")
    rig.at(after, rig.alice, lambda: rig.alice.cancel(call))
    rig.network.run(20)
    assert call.status == 487
    rig.end()


def test_no_relay() -> None:
    rig = Rig()
    rig.pbx.relay.is_full = True
    call = rig.alice.call("1008")
    rig.network.run(5)
    assert call.status == 503
    rig.end()


@pytest.mark.parametrize("seconds", [None, 7.0])
def test_a_relay_that_does_not_answer_in_time(seconds: float | None) -> None:
    rig = Rig()
    rig.pbx.relay.delay_s = seconds
    call = rig.alice.call("1008")
    rig.network.run(20)
    assert call.status == 503
    if seconds is not None:
        rig.end()


@pytest.mark.parametrize("failure", ["error", "silence"])
def test_no_registrar(failure: str) -> None:
    rig = Rig()
    rig.pbx.registrar.is_down = failure == "error"
    rig.pbx.registrar.delay_s = 0.002 if failure == "error" else None
    call = rig.alice.call("1008")
    rig.network.run(20)
    assert call.status == 503
    rig.end()


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
@pytest.mark.parametrize("by", ["alice", "bob"])
def test_hold_and_resume(method: str, by: str) -> None:
    rig = Rig()
    calls = dict(zip(("alice", "bob"), rig.up(), strict=True))
    phone, call = getattr(rig, by), calls[by]
    other = rig.bob if by == "alice" else rig.alice
    for hold in (True, False):
        phone.modify(call, method, hold=hold)
        rig.network.run(2)
        assert statuses(phone, method)[-1] == 200
        assert method in other.notes.seen
    assert rig.pbx.names()[-2:] == ["HELD", "RESUMED"]
    rig.end()


@pytest.mark.parametrize("by", ["alice", "bob"])
def test_a_reinvite_without_offer(by: str) -> None:
    rig = Rig()
    calls = dict(zip(("alice", "bob"), rig.up(), strict=True))
    phone = getattr(rig, by)
    phone.modify(calls[by], offer=False)
    rig.network.run(2)
    assert statuses(phone, "INVITE")[-1] == 200
    rig.end()


@pytest.mark.parametrize("by", ["alice", "bob"])
def test_a_slow_ack_to_a_reinvite_leaves_the_session_free_for_the_next(by: str) -> None:
    rig = Rig()
    calls = dict(zip(("alice", "bob"), rig.up(), strict=True))
    phone = getattr(rig, by)
    rig.network.censor = lambda datagram: (1.2,) if datagram.data.startswith(b"ACK ") else None
    for hold in (True, False):
        phone.modify(calls[by], hold=hold)
        rig.network.run(8)
    assert [status for status in statuses(phone, "INVITE") if status >= 200][-2:] == [200, 200]
    assert rig.pbx.names()[-2:] == ["HELD", "RESUMED"]
    rig.end()


def test_a_refused_reinvite_changes_nothing() -> None:
    rig = Rig()
    call, _ = rig.up()
    rig.bob.plan.reply_inside = 488
    rig.alice.modify(call)
    rig.network.run(2)
    assert statuses(rig.alice, "INVITE")[-1] == 488
    assert call.stage is Stage.UP
    rig.end()


@pytest.mark.parametrize("methods", [("INVITE", "INVITE"), ("INVITE", "UPDATE"), ("UPDATE", "UPDATE")])
def test_glare(methods: tuple[str, str]) -> None:
    rig = Rig(weather=always((0.1,)))
    call, other = rig.up()
    rig.alice.modify(call, methods[0])
    rig.bob.modify(other, methods[1])
    rig.network.run(20)
    assert statuses(rig.alice, methods[0])[-1] == statuses(rig.bob, methods[1])[-1] == 200, rig.network.told()
    assert (call.stage, other.stage) == (Stage.UP, Stage.UP)
    rig.end()


@pytest.mark.parametrize("method", ["INFO", "MESSAGE"])
def test_told_inside_the_call(method: str) -> None:
    rig = Rig()
    call, other = rig.up()
    rig.alice.tell(call, method)
    rig.bob.tell(other, method)
    rig.network.run(2)
    for phone in rig.phones:
        assert statuses(phone, method) == [200]
        assert method in phone.notes.seen
    rig.end()


def test_delayed_offer() -> None:
    rig = Rig()
    call = rig.alice.call("1008", offer=False)
    rig.network.run(5)
    assert call.stage is Stage.UP
    assert len(rig.bob.notes.bodies) == 1
    rig.end()


@pytest.mark.parametrize("ring_sdp", [False, True])
def test_reliable_progress(ring_sdp: bool) -> None:
    rig = Rig(plan=Plan(reliable=True, ring_sdp=ring_sdp, ring_status=183 if ring_sdp else 180))
    call = rig.alice.call("1008", reliable=True)
    rig.network.run(5)
    assert call.stage is Stage.UP
    assert statuses(rig.alice, "PRACK") == [200]
    assert "PRACK" in rig.bob.notes.seen
    rig.end()


def test_early_media() -> None:
    rig = Rig(plan=Plan(ring_status=183, ring_sdp=True))
    rig.up()
    assert "EARLY_MEDIA" in rig.pbx.names()
    assert statuses(rig.alice, "INVITE") == [100, 183, 200]
    rig.end()


def test_a_second_call_to_a_phone_that_talks() -> None:
    rig = Rig()
    rig.up()
    second = rig.alice.call("1008")
    rig.network.run(5)
    assert second.status == 486
    rig.end()


def test_a_caller_that_never_confirms() -> None:
    rig = Rig()
    call = rig.alice.call("1008")
    rig.network.run(0.5)
    rig.alice.password = "gone"
    del rig.network.nodes[ALICE]
    rig.network.run(60)
    assert rig.bob.calls[0].ended_by in ("peer", "unconfirmed answer")  # both give up after 32 s
    rig.network.add(rig.alice)
    call.stage = Stage.OVER
    rig.end()


def test_everything_ends_on_shutdown() -> None:
    rig = Rig()
    call, other = rig.up()
    rig.pbx.end_all()
    rig.network.run(2)
    assert (call.ended_by, other.ended_by) == ("peer", "peer")
    refused = rig.alice.call("1008")
    rig.network.run(2)
    assert refused.status == 503
    rig.end()


def test_shutdown_while_ringing() -> None:
    rig = Rig(plan=Plan(answer_after=None))
    call = rig.alice.call("1008")
    rig.network.run(2)
    rig.pbx.end_all()
    rig.network.run(2)
    assert (call.status, rig.bob.calls[0].ended_by) == (503, "cancelled")
    rig.end()


@pytest.mark.parametrize("seconds", [0.3, 40.0, 20_000.0])
@pytest.mark.parametrize("after", [0.002, 0.05, 0.5, 1.002, 1.015, 3.0])
def test_a_jump_of_the_clock(after: float, seconds: float) -> None:
    rig = Rig()
    rig.alice.call("1008")
    rig.network.run(after)
    rig.network.jump(seconds)
    rig.end()
