"""A callee with several phones: all ring, one answers, the others stop and know why; nothing is left of any."""

from __future__ import annotations

import pytest
from hypothesis import given

from pbx_signaling.calls.hunt import HuntPolicy, Ringing
from pbx_signaling.users import questions as q
from pbx_sip.message.message import Response
from pbx_sip.sdp.model import SessionDescription
from support.netem import always
from support.several_phones import ALICE, DEAF, RINGS, STORIES, Rig, Story, begin
from support.simulation import simulation
from support.ua import Plan, Stage, statuses


def test_all_ring_and_one_answers() -> None:
    rig = Rig([RINGS, Plan(answer_after=2.0), RINGS])
    call = rig.alice.call("1008")
    rig.network.run(1)
    assert rig.stages() == [Stage.ALERTING] * 3
    rig.network.run(4)
    assert call.stage is Stage.UP
    assert rig.stages() == [Stage.OVER, Stage.UP, Stage.OVER]
    assert [phone.calls[0].ended_by for phone in rig.phones] == ["cancelled", "", "cancelled"]
    assert [rig.reasons(number) for number in range(3)] == [
        ['SIP;cause=200;text="Call completed elsewhere"'],
        [],
        ['SIP;cause=200;text="Call completed elsewhere"'],
    ], "so no phone shows a missed call"
    assert statuses(rig.alice, "INVITE") == [100, 180, 180, 180, 200]
    assert rig.pbx.names() == ["INITIATED", *["DIALING"] * 3, *["RINGING"] * 3, "ANSWERED"]
    rig.alice.modify(call)
    rig.network.run(2)
    assert "INVITE" in rig.phones[1].notes.seen[1:]
    assert len(rig.pbx.core.dialogs) == 2, "nothing is kept of the phones that did not answer"
    (entry,) = rig.pbx.calls.values()
    assert [leg.number for leg in entry.legs()] == [0, 2]
    rig.end()


def test_two_answer_at_once() -> None:
    """The second 200 crosses our CANCEL: it is confirmed and ended (RFC 3261 section 9.1)."""
    rig = Rig([Plan(answer_after=1.0), Plan(answer_after=1.002)], always((0.05,)))
    call = rig.alice.call("1008")
    rig.network.run(5)
    assert call.stage is Stage.UP
    assert rig.stages() == [Stage.UP, Stage.OVER]
    assert rig.phones[1].notes.seen == ["INVITE", "CANCEL", "ACK", "BYE"]
    rig.end()
    assert rig.pbx.names().count("ANSWERED") == 1


def test_the_call_is_over_before_the_other_phone_says_its_last_word() -> None:
    rig = Rig([Plan(answer_after=1.0), RINGS])
    call = rig.alice.call("1008")
    rig.network.run(0.9)
    rig.cut(1)
    rig.network.run(1)
    assert call.stage is Stage.UP
    rig.alice.hang_up(call)
    rig.network.run(1)
    assert rig.pbx.names()[-1] == "ENDED", "the CDR waits for no phone that did not answer"
    assert rig.pbx.calls, "but the call does: an answer of it would have to be ended"
    rig.heal()
    rig.end()


@pytest.mark.parametrize(
    ("first", "second", "status"), [(486, 480, 486), (480, 486, 486), (404, 500, 404), (503, 486, 486), (401, 480, 480)]
)
def test_all_refuse(first: int, second: int, status: int) -> None:
    rig = Rig([Plan(answer_status=first), Plan(answer_status=second, answer_after=2.0)])
    call = rig.alice.call("1008")
    rig.network.run(1.5)
    assert call.stage is not Stage.OVER, "the other one may still answer"
    rig.network.run(4)
    assert call.status == status
    rig.end()


def test_a_6xx_ends_all_at_once() -> None:
    rig = Rig([RINGS, Plan(answer_status=603)])
    call = rig.alice.call("1008")
    rig.network.run(2)
    assert call.status == 603
    assert rig.stages() == [Stage.OVER, Stage.OVER]
    assert rig.reasons(0) == ["SIP;cause=603"]
    rig.end()


def test_the_caller_gives_up_while_all_ring() -> None:
    rig = Rig([RINGS] * 4)
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
    rig.alice.at(rig.network.now + 1.15, lambda: rig.alice.cancel(call))
    rig.network.run(5)
    assert call.stage is Stage.OVER
    assert rig.stages() == [Stage.OVER, Stage.OVER], rig.network.told()
    rig.end()


def test_nobody_answers() -> None:
    rig = Rig([RINGS, RINGS])
    call = rig.alice.call("1008")
    rig.network.run(70)
    assert call.status == 480
    assert rig.stages() == [Stage.OVER, Stage.OVER]
    rig.end()


def test_a_phone_that_is_not_there_holds_up_nobody() -> None:
    rig = Rig([Plan(), DEAF])
    rig.cut(1)
    call = rig.alice.call("1008")
    rig.network.run(2)
    assert call.stage is Stage.UP
    rig.heal()
    rig.end()


def test_one_that_is_known_not_to_be_there_holds_up_no_refusal() -> None:
    rig = Rig([Plan(answer_status=486), DEAF])
    rig.lose(1)
    call = rig.alice.call("1008")
    rig.network.run(6)
    assert call.status == 486
    rig.heal()
    rig.end()


def test_one_that_says_nothing_holds_up_no_refusal() -> None:
    """A binding whose phone was switched off."""
    rig = Rig([Plan(answer_status=486, answer_after=2.0), DEAF])
    rig.cut(1)
    call = rig.alice.call("1008")
    rig.network.run(3)
    assert call.stage is not Stage.OVER
    rig.network.run(2)
    assert call.status == 486
    rig.heal()
    rig.end()


def test_busy_is_told_also_where_the_time_runs_out() -> None:
    """One phone is busy, of the other nothing is known but that it has the INVITE."""
    rig = Rig([Plan(answer_status=486), DEAF])
    call = rig.alice.call("1008")
    rig.network.run(70)
    assert call.status == 486
    rig.end()


def test_one_that_said_it_is_there_is_waited_for() -> None:
    rig = Rig([Plan(answer_status=486), Plan(ring_after=7.0, answer_after=8.0)])
    call = rig.alice.call("1008")
    rig.network.run(10)
    assert call.stage is Stage.UP, "its 100 came at once"
    rig.end()


# --- in series


def test_less_preferred_phones_ring_when_the_others_refused() -> None:
    rig = Rig([Plan(), Plan(answer_status=486), Plan(answer_status=480, answer_after=2.0)])
    rig.prefer(300, 1000, 1000)
    call = rig.alice.call("1008")
    rig.network.run(1.5)
    assert rig.stages() == [None, Stage.OVER, Stage.ALERTING]
    rig.network.run(3)
    assert call.stage is Stage.UP
    assert rig.stages()[0] is Stage.UP
    rig.end()


def test_or_when_they_rang_for_long_enough() -> None:
    rig = Rig([RINGS, Plan()], branch_s=10.0)
    rig.prefer(1000, 300)
    call = rig.alice.call("1008")
    rig.network.run(9)
    assert rig.stages() == [Stage.ALERTING, None]
    rig.network.run(4)
    assert rig.stages() == [Stage.OVER, Stage.UP]
    assert call.stage is Stage.UP
    rig.end()


def test_the_last_one_rings_on() -> None:
    rig = Rig([RINGS, Plan(answer_after=40.0)], branch_s=10.0)
    rig.prefer(1000, 300)
    call = rig.alice.call("1008")
    rig.network.run(55)
    assert call.stage is Stage.UP
    rig.end()


def test_one_after_the_other_on_demand() -> None:
    rig = Rig([Plan(answer_status=480), Plan(answer_status=486), Plan()], hunt=HuntPolicy(Ringing.SERIAL))
    call = rig.alice.call("1008")
    rig.network.run(1.5)
    assert rig.stages() == [Stage.OVER, Stage.ALERTING, None]
    rig.network.run(4)
    assert call.stage is Stage.UP
    rig.end()


# --- each phone for itself


def early(rig: Rig) -> dict[str, bytes]:
    """What Alice got in provisional responses: To-tag to session description."""
    responses = [each for each in rig.messages(ALICE) if isinstance(each, Response) and 100 < each.status < 200]
    return {response.to_tag: response.body for response in responses}


def test_early_media_of_each_phone_is_its_own_early_dialog() -> None:
    rig = Rig([Plan(ring_sdp=True, answer_after=None), Plan(ring_sdp=True, answer_after=5.0)])
    call = rig.alice.call("1008")
    rig.network.run(2)
    dialogs = early(rig)
    assert len(dialogs) == 2
    origins = {line for body in dialogs.values() for line in body.splitlines() if line.startswith(b"o=")}
    assert len(origins) == 2, "two sessions, not two versions of one"
    for body in dialogs.values():
        assert SessionDescription.parse(body).connection == "192.0.2.2", "all by the relay"
    assert rig.pbx.names().count("EARLY_MEDIA") == 2
    rig.network.run(5)
    assert call.stage is Stage.UP
    answer = next(each for each in rig.messages(ALICE) if isinstance(each, Response) and each.status == 200)
    assert answer.to_tag in dialogs
    assert answer.to_tag == list(dialogs)[1]
    rig.end()


def test_the_relay_hears_nothing_of_a_slot_that_was_given_back() -> None:
    """The phone that it followed says its last word after the end: there is no other to turn to any more."""
    rig = Rig([Plan(ring_sdp=True, answer_after=None, ring_after=0.5), Plan(ring_sdp=True, answer_after=None)])
    call = rig.alice.call("1008")
    rig.network.run(2)
    rig.alice.cancel(call)
    rig.network.run(2)
    questions = [type(ask.question) for ask in rig.pbx.harness.asked]
    assert questions.count(q.Update) >= 2
    assert q.Update not in questions[questions.index(q.Release) :]
    rig.end()


def test_what_one_phone_agreed_on_early_does_not_concern_another() -> None:
    """Each of them confirms reliable progress and may change its early session (RFC 3262, 3311)."""
    rig = Rig(
        [
            Plan(ring_sdp=True, reliable=True, answer_after=2.0),
            Plan(ring_sdp=True, reliable=True, answer_after=3.0),
            Plan(answer_status=486, reliable=True),
        ]
    )
    call = rig.alice.call("1008", reliable=True)
    rig.network.run(6)
    assert call.stage is Stage.UP
    assert rig.stages() == [Stage.UP, Stage.OVER, Stage.OVER]
    rig.alice.modify(call)
    rig.network.run(3)
    assert statuses(rig.alice, "INVITE")[-1] == 200
    rig.end()


@simulation(80)
@given(STORIES)
def test_any_phones(story: Story) -> None:
    rig = begin(story)
    rig.end()
    assert rig.alice.calls[0].status
    assert not any(phone.calls[0].stage is Stage.UP for phone in rig.phones if phone.calls)
