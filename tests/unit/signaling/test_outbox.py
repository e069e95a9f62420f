"""What events say of what a peer wrote: never more than a bounded part of it."""

from __future__ import annotations

import pytest

from pbx.events.v1 import events_pb2 as pb
from pbx_signaling.calls.commands import Emit, Record
from pbx_signaling.calls.signals import Found, Target
from pbx_signaling.effects.encode import TEXT_MAX, URI_MAX, event_of, message_event
from pbx_signaling.users.told import MessageRecord, Told
from support.bench_core import ALICE, BOB, Bench

LONG = "x" * 1_500
INVITE = f"""INVITE sip:{LONG}@pbx.local SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKo1
Max-Forwards: 70
From: "{LONG}" <sip:{LONG}@pbx.local>;tag={LONG}
To: <sip:1008@pbx.local>
Call-ID: {LONG}@alice
CSeq: 1 INVITE
User-Agent: {LONG}
Contact: <sip:1004@192.0.2.10>"""


def texts(message: object) -> list[str]:
    """All texts of an event, at whatever depth."""
    found: list[str] = []
    for field, value in message.ListFields():  # type: ignore[attr-defined]
        values = value if field.is_repeated else [value]
        for each in values:
            if field.message_type is not None:
                found += texts(each)
            elif isinstance(each, str):
                found.append(each)
    return found


@pytest.mark.parametrize("record", list(Record))
def test_no_text_of_an_event_is_longer_than_its_limit(record: Record) -> None:
    target = Target(f"sip:{LONG}{LONG}@{BOB}", "1008@pbx.local", (), 1, BOB.host, BOB.port, "udp4", 0, "s1")
    bench = Bench(found=Found(True, [target]))
    bench.send(INVITE, ALICE)
    (entry,) = bench.calls.values()
    if record is Record.ENDED:
        bench.advance(200)
    event = pb.Event.FromString(event_of(entry, Emit(record), "signaling/s1"))
    found = texts(event)
    assert found
    limit = URI_MAX if record is Record.DIALING else TEXT_MAX
    assert max(map(len, found)) <= limit


@pytest.mark.parametrize("record", list(MessageRecord))
def test_events_of_a_message_join_by_its_id_and_hold_nothing_without_a_bound(record: MessageRecord) -> None:
    told = Told(record, "01HM", LONG, f"{LONG}@pbx.local", "text/\x1b[2J" + LONG, 5, 2, 480, "no_response", 9.0, 4.25)
    event = pb.Event.FromString(message_event(told, 1_700_000_000_000, "signaling/s1"))
    assert event.WhichOneof("payload") == f"message_{record.name.lower()}"
    assert (event.call_id, event.sequence, event.at_ms) == ("", 0, 1_700_000_000_000)
    payload = getattr(event, f"message_{record.name.lower()}")
    assert payload.message_id == "01HM"
    assert max(map(len, texts(event))) <= TEXT_MAX
    assert not any("\x1b" in text for text in texts(event))
    if record is not MessageRecord.SENT:
        assert (payload.sip_status, payload.bindings_tried, payload.duration_ms) == (480, 2, 4250)
