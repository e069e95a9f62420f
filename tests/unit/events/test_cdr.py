"""The fold from a call's events to its CDR."""

from __future__ import annotations

import itertools

from pbx.events.v1 import events_pb2 as pb
from pbx_events.cdr.builder import awaits_media, build, node_lost, renumbered
from pbx_events.envelope import Envelope, decode
from support.call_events import answered_call, cancelled_call, event, media_report


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
    assert "dropped" not in caller["media"][0], "the record tells less than the event"
    assert caller["media"][0]["packets_dropped"] == 2


def test_a_call_that_ended_awaits_its_relay():
    heard = answered_call()
    assert awaits_media(decoded(heard[:5]))
    assert not awaits_media(decoded(heard))
    assert not awaits_media(decoded([*heard[:5], media_report("01CALL", packets=0)])), "nothing came, and it says so"
    without = build(decoded(heard[:5]))
    assert without is not None
    assert [leg["media"] for leg in without["legs"]] == [[], []]


def test_a_call_that_no_relay_carried_awaits_nothing():
    heard = cancelled_call()
    heard[1].call_dialing.relay_id = ""
    assert not awaits_media(decoded(heard[:4]))
    assert not awaits_media(decoded([heard[0], heard[3]])), "it was not even dialled"


def test_figures_of_the_relay_that_carried_the_call_last_count():
    heard = answered_call()
    moved = event("01CALL", 5, 3_000, call_media_migrated=pb.CallMediaMigrated(from_relay_id="r1", to_relay_id="r2"))
    heard[4].sequence = 6
    assert awaits_media(decoded([*heard, moved])), "the first relay's figures are not those of the second"
    cdr = build(decoded([*heard, moved, media_report("01CALL", "r2", packets=9)]))
    assert cdr is not None
    assert (cdr["relay_id"], cdr["legs"][0]["media"][0]["packets"]) == ("r2", 9)


def test_figures_in_the_end_are_read_as_signaling_wrote_them_before():
    heard = answered_call()[:5]
    heard[4].call_ended.media.add(side=pb.CALL_SIDE_CALLER, media="audio", packets=500, packets_lost=3)
    assert not awaits_media(decoded(heard))
    cdr = build(decoded(heard))
    assert cdr is not None
    media = cdr["legs"][0]["media"][0]
    assert (media["media"], media["packets"], media["packets_lost"], media["mos"]) == ("audio", 500, 3, None)


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
    heard = decoded(answered_call()[:5])
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
