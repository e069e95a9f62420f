"""The fold from a call's events to its CDR."""

from __future__ import annotations

import itertools

from pbx.events.v1 import events_pb2 as pb
from pbx_events.cdr.builder import build, node_lost, renumbered
from pbx_events.envelope import Envelope, decode
from support.call_events import answered_call, cancelled_call


def decoded(events: list[pb.Event]) -> list[Envelope]:
    found = [decode(event.SerializeToString()) for event in events]
    assert all(found)
    return [event for event in found if event is not None]


def test_an_answered_call():
    cdr = build(decoded(answered_call()))
    assert cdr is not None
    assert (cdr["caller"], cdr["callee"], cdr["connected"]) == ("1004", "1008", "1008")
    assert (cdr["outcome"], cdr["origin"], cdr["hung_up_by"]) == ("answered", "remote", "caller")
    assert (cdr["duration_ms"], cdr["talk_ms"]) == (12_000, 10_000)
    assert cdr["started_at"] == "2023-11-14T22:13:20.000Z"
    assert cdr["answered_at"] == "2023-11-14T22:13:22.000Z"
    assert (cdr["sip_status"], cdr["q850_cause"], cdr["cause"]) == (200, 16, "normal")
    caller, callee = cdr["legs"]
    assert caller["media"][0]["packets_lost"] == 3
    assert caller["media"][0]["mos"] is None, "not measured"
    assert (callee["media"], callee["codec"]) == ([], "PCMU/8000")


def test_order_and_repetition_do_not_matter():
    events = decoded(answered_call())
    expected = build(events)
    for order in itertools.permutations(events):
        assert build([*order, *order[:3]]) == expected


def test_a_cancelled_call_was_never_answered():
    cdr = build(decoded(cancelled_call()))
    assert cdr is not None
    assert (cdr["outcome"], cdr["answered_at"], cdr["talk_ms"]) == ("cancelled", None, 0)
    assert cdr["ringing_at"] is not None


def test_a_call_that_lives_is_not_ended_and_may_be_closed_as_lost():
    cdr = build(decoded(answered_call()[:4]))
    assert cdr is not None
    assert (cdr["ended_at"], cdr["outcome"], cdr["talk_ms"]) == (None, None, None)
    heard = decoded(answered_call())
    lost = node_lost(heard[3], "01LOST", 1_700_000_060_000, answered=True)
    assert lost.sequence == heard[3].sequence + 1
    assert (lost.data["outcome"], lost.data["duration_ms"]) == ("answered", None)
    closed = build([*heard[:4], lost])
    assert closed is not None
    assert (closed["origin"], closed["outcome"], closed["cause"]) == ("node_lost", "answered", "node_lost")
    assert (closed["duration_ms"], closed["talk_ms"], closed["sip_status"]) == (None, None, None), "not measured"
    corrected = build([*heard, lost])
    assert corrected == build(heard), "an owner that speaks after all is right"
    assert build([lost, *reversed(heard)]) == corrected


def test_a_call_lost_before_its_answer_failed():
    heard = decoded(answered_call()[:3])
    lost = node_lost(heard[2], "01LOST", 1_700_000_060_000)
    cdr = build([*heard, lost])
    assert cdr is not None
    assert (cdr["outcome"], cdr["origin"], cdr["talk_ms"]) == ("failed", "node_lost", 0)
    assert (lost.data["outcome"], cdr["duration_ms"]) == ("failed", None)
    assert cdr["ended_at"] == "2023-11-14T22:14:20.000Z"


def test_a_lost_call_says_answered_also_where_a_version_before_wrote_that_it_failed():
    heard = decoded(answered_call()[:4])
    cdr = build([*heard, node_lost(heard[3], "01LOST", 1_700_000_060_000, answered=False)])
    assert cdr is not None
    assert cdr["outcome"] == "answered"


def test_what_an_owner_says_late_is_numbered_behind_the_end_that_the_reaper_wrote():
    heard = decoded(answered_call())
    reaped = node_lost(heard[2], "01LOST", 1_700_000_060_000)
    late = [renumbered(event, reaped) for event in heard]
    assert [event.id for event in late] == [event.id for event in heard]
    numbers = [event.sequence for event in (*late[:3], reaped, *late[3:])]
    assert numbers == sorted(set(numbers))
    assert build([*late, reaped]) == build(heard)


def test_without_its_first_event_there_is_no_cdr():
    assert build(decoded(answered_call()[1:])) is None


def test_what_is_no_event_is_none():
    assert decode(b"\xff\xff\xff") is None
    assert decode(pb.Event(id="x").SerializeToString()) is None
    assert decode(b"") is None
