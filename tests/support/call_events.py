"""The events of one call as signaling writes them, for tests of whoever reads them."""

from __future__ import annotations

from pbx.events.v1 import events_pb2 as pb
from pbx.media.v1 import media_pb2

STARTED_MS = 1_700_000_000_000


def event(call_id: str, sequence: int, elapsed_ms: int = 0, **payload: object) -> pb.Event:
    """One event; its id is made of the call and the sequence, as a ULID is of time and chance."""
    made = pb.Event(
        id=f"{call_id[:20]:0<22}{sequence:04d}",
        at_ms=STARTED_MS + elapsed_ms,
        call_id=call_id,
        sequence=sequence,
        source="signaling/s1",
        elapsed_ms=elapsed_ms,
    )
    ((name, value),) = payload.items()
    getattr(made, name).CopyFrom(value)
    return made


def media_report(call_id: str, relay_id: str = "r1", packets: int = 500) -> pb.Event:
    """What the relay tells of a call when it has given its slot back."""
    stream = media_pb2.StreamStatistics(
        side=media_pb2.SIDE_CALLER,
        media=media_pb2.MEDIUM_AUDIO,
        packets=packets,
        bytes=172 * packets,
        packets_lost=3,
        dropped={"source": 2},
        packets_dropped=2,
    )
    told = media_pb2.CallMedia(relay_id=relay_id, streams=[stream], held_ms=12_000)
    made = event(call_id, 0, 12_050, media_reported=told)
    made.id = f"{call_id[:20]:0<22}M{relay_id[:3]:0<3}"
    made.source = f"media-relay/{relay_id}"
    made.elapsed_ms = 0
    return made


def answered_call(call_id: str = "01CALL", caller: str = "1004", callee: str = "1008") -> list[pb.Event]:
    """Initiated, dialled, rung, answered after two seconds, ended by the caller after twelve; and its media."""
    caller_leg = pb.LegInfo(sip_call_id="a@phone", transport="udp", remote_address="192.0.2.10:5060")
    callee_leg = pb.LegInfo(sip_call_id="s1.b", transport="udp", remote_address="192.0.2.20:5060", codec="PCMU/8000")
    ended = pb.CallEnded(
        outcome=pb.OUTCOME_ANSWERED,
        origin=pb.ORIGIN_REMOTE,
        by=pb.CALL_SIDE_CALLER,
        sip_status=200,
        sip_reason="OK",
        q850_cause=16,
        cause="normal",
        caller_leg=caller_leg,
        callee_leg=callee_leg,
        duration_ms=10_000,
    )
    initiated = pb.CallInitiated(caller=caller, dialled=callee, domain="pbx.local", leg=caller_leg)
    dialing = pb.CallDialing(callee=f"{callee}@pbx.local", leg=callee_leg, relay_id="r1", relay_port=30000)
    answered = pb.CallAnswered(caller_leg=caller_leg, callee_leg=callee_leg, connected=callee)
    return [
        event(call_id, 1, 0, call_initiated=initiated),
        event(call_id, 2, 5, call_dialing=dialing),
        event(call_id, 3, 900, call_ringing=pb.CallRinging(status=180)),
        event(call_id, 4, 2_000, call_answered=answered),
        event(call_id, 5, 12_000, call_ended=ended),
        media_report(call_id),
    ]


def cancelled_call(call_id: str = "01GONE") -> list[pb.Event]:
    """The caller gave up while it rang; the relay saw nothing."""
    ended = pb.CallEnded(
        outcome=pb.OUTCOME_CANCELLED,
        origin=pb.ORIGIN_REMOTE,
        by=pb.CALL_SIDE_CALLER,
        sip_status=487,
        q850_cause=16,
        cause="cancelled",
    )
    first = answered_call(call_id)[:3]
    return [*first, event(call_id, 4, 4_000, call_ended=ended), media_report(call_id, packets=0)]
