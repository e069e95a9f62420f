"""What a call tells the world, as events of the contract (pbx.events.v1), and its snapshot: each made once a step.

Nothing else knows the contract's types: values in, bytes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, assert_never

from pbx.events.v1 import events_pb2 as pb
from pbx_runtime.trace import call_traceparent
from pbx_signaling import ulid
from pbx_signaling.calls.commands import Emit, Record
from pbx_signaling.calls.signals import Side
from pbx_signaling.users.snapshot import encode
from pbx_signaling.users.told import MessageRecord
from pbx_sip.message.text import printable

if TYPE_CHECKING:
    from pbx_signaling.legs.leg import Leg
    from pbx_signaling.users.entry import Entry
    from pbx_signaling.users.told import Told

TEXT_MAX: Final = 256
"""Characters kept of what a peer wrote: names, Call-IDs, tags, reasons. Threat: an account that fills outbox, CDRs and
webhooks with values of 8 KiB; a user has 128, a Call-ID some 60."""
URI_MAX: Final = 1_024
"""Characters kept of a contact's URI: as many as the registrar takes."""
CONTENT_TYPE_MAX: Final = 128
"""Characters of a message's media type. Threat: storage; registered types stay below 100."""


class Encoder:
    """Makes what a step stores. Implements `users.step.Encoder`."""

    def __init__(
        self,
        source: str,
        wall_ms: Callable[[float], int],
        recorded: Callable[[Entry, Emit], None] = lambda entry, emit: None,
    ) -> None:
        """`wall_ms`: monotonic seconds as milliseconds since the epoch; `recorded`: hears of each record of a call."""
        self._source = source
        self._wall_ms = wall_ms
        self._recorded = recorded

    def encode(self, entry: Entry, records: list[Emit]) -> tuple[tuple[bytes, ...], bytes]:
        """The events of a call's records, and its snapshot after them: nobody could read one of a call that is over."""
        for emit in records:
            self._recorded(entry, emit)
        events = tuple([event_of(entry, emit, self._source) for emit in records])
        is_over = entry.call.ended is not None and records[-1].record is Record.ENDED
        return events, b"" if is_over else encode(entry)

    def encode_told(self, told: Told) -> bytes:
        """The event of what is told of a message outside of calls."""
        return message_event(told, self._wall_ms(told.at), self._source)


def event_of(entry: Entry, emit: Emit, source: str) -> bytes:
    """The serialised event of one record of a call."""
    call = entry.call
    elapsed_ms = int((emit.at - call.started) * 1000)
    at_ms = call.started_ms + elapsed_ms
    event_id = ulid.new(at_ms)
    event = pb.Event(
        id=event_id,
        at_ms=at_ms,
        call_id=call.call_id,
        sequence=emit.sequence,
        source=source,
        elapsed_ms=elapsed_ms,
        traceparent=call_traceparent(call.call_id, event_id),
    )
    BUILDERS[emit.record](event, entry, emit)
    return event.SerializeToString()


def _text(value: str, most: int = TEXT_MAX) -> str:
    """What a peer wrote as an event takes it."""
    return printable(value[:most])


def leg_info(leg: Leg | None, codec: str = "") -> pb.LegInfo | None:
    """One side of a call as SIP sees it."""
    if leg is None:
        return None
    return pb.LegInfo(
        sip_call_id=_text(leg.call_id),
        local_tag=leg.local_tag,
        remote_tag=_text(leg.remote_tag),
        transport=leg.flow.transport.name.lower(),
        remote_address=str(leg.flow.remote),
        user_agent=_text(leg.remote_user_agent),
        codec=_text(codec),
        final_status=leg.final_status,
    )


def _initiated(event: pb.Event, entry: Entry, emit: Emit) -> None:
    call = entry.call
    user, _, domain = call.claimed.partition("@")
    event.call_initiated.CopyFrom(
        pb.CallInitiated(
            caller=_text(call.caller or user),
            caller_name=_text(call.caller_name or entry.attempt.display_name),
            dialled=_text(call.dialled),
            domain=_text(domain),
            leg=leg_info(entry.caller),
        )
    )


def _target(entry: Entry, leg: int) -> str:
    """The Contact URI of a phone."""
    target = entry.call.hunt.target(leg)
    return "" if target is None else _text(target.uri, URI_MAX)


def _dialing(event: pb.Event, entry: Entry, emit: Emit) -> None:
    target, slot = entry.call.hunt.target(emit.leg), entry.call.media.slot
    event.call_dialing.CopyFrom(
        pb.CallDialing(
            callee=_text(target.aor) if target else "",
            target=_target(entry, emit.leg),
            leg=leg_info(entry.leg(emit.leg)),
            relay_id=slot.relay if slot else "",
            relay_port=slot.first_port if slot else 0,
        )
    )


def _ringing(event: pb.Event, entry: Entry, emit: Emit) -> None:
    event.call_ringing.CopyFrom(pb.CallRinging(status=emit.status, target=_target(entry, emit.leg)))


def _early_media(event: pb.Event, entry: Entry, emit: Emit) -> None:
    event.call_early_media.CopyFrom(pb.CallEarlyMedia(status=emit.status, target=_target(entry, emit.leg)))


def _answered(event: pb.Event, entry: Entry, emit: Emit) -> None:
    media, hunt = entry.call.media, entry.call.hunt
    target = hunt.target(hunt.winner)
    event.call_answered.CopyFrom(
        pb.CallAnswered(
            callee_leg=leg_info(entry.callee, media.codec_of(Side.CALLEE)),
            caller_leg=leg_info(entry.caller, media.codec_of(Side.CALLER)),
            connected=_text(target.aor.partition("@")[0]) if target else "",
            target=_target(entry, hunt.winner),
        )
    )


def _held(event: pb.Event, entry: Entry, emit: Emit) -> None:
    event.call_held.by = _side(emit.side)


def _resumed(event: pb.Event, entry: Entry, emit: Emit) -> None:
    event.call_resumed.by = _side(emit.side)


def _dtmf(event: pb.Event, entry: Entry, emit: Emit) -> None:
    event.call_dtmf.CopyFrom(pb.CallDtmf(side=_side(emit.side), digit=emit.digit, duration_ms=emit.duration_ms))


def _media_timeout(event: pb.Event, entry: Entry, emit: Emit) -> None:
    event.call_media_timeout.silent_s = emit.status


def _ended(event: pb.Event, entry: Entry, emit: Emit) -> None:
    call = entry.call
    ending = call.ending
    assert ending is not None
    duration = 0.0
    if call.answered is not None and call.ended is not None:
        duration = call.ended - call.answered
    event.call_ended.CopyFrom(
        pb.CallEnded(
            outcome=ending.outcome,  # type: ignore[arg-type]  # numbered as in the contract
            origin=ending.origin,  # type: ignore[arg-type]
            by=_side(ending.by),
            sip_status=ending.sip_status,
            sip_reason=_text(ending.sip_reason),
            q850_cause=ending.q850_cause,
            cause=ending.word,
            caller_leg=leg_info(entry.caller, call.media.codec_of(Side.CALLER)),
            callee_leg=leg_info(entry.callee, call.media.codec_of(Side.CALLEE)),
            duration_ms=int(duration * 1000),
            hangup_reason=_text(ending.hangup_reason),
        )
    )


def message_event(told: Told, at_ms: int, source: str) -> bytes:
    """The serialised event of a message outside of calls; nothing of what stands in it."""
    event = pb.Event(id=ulid.new(at_ms), at_ms=at_ms, source=source)
    head = {"message_id": told.message_id, "sender": _text(told.sender), "recipient": _text(told.recipient)}
    lasted_ms = int(told.lasted_s * 1000)
    match told.record:
        case MessageRecord.SENT:
            event.message_sent.CopyFrom(
                pb.MessageSent(**head, content_type=_text(told.content_type, CONTENT_TYPE_MAX), bytes=told.octets)
            )
        case MessageRecord.DELIVERED:
            event.message_delivered.CopyFrom(
                pb.MessageDelivered(**head, sip_status=told.status, bindings_tried=told.tried, duration_ms=lasted_ms)
            )
        case MessageRecord.FAILED:
            event.message_failed.CopyFrom(
                pb.MessageFailed(
                    **head,
                    sip_status=told.status,
                    cause=told.cause,
                    bindings_tried=told.tried,
                    duration_ms=lasted_ms,
                )
            )
        case _:
            assert_never(told.record)
    return event.SerializeToString()


def _side(side: Side | None) -> pb.CallSide.ValueType:
    return pb.CallSide.ValueType(side or 0)


BUILDERS: Final[Mapping[Record, Callable[[pb.Event, Entry, Emit], None]]] = {
    Record.INITIATED: _initiated,
    Record.DIALING: _dialing,
    Record.RINGING: _ringing,
    Record.EARLY_MEDIA: _early_media,
    Record.ANSWERED: _answered,
    Record.HELD: _held,
    Record.RESUMED: _resumed,
    Record.MEDIA_TIMEOUT: _media_timeout,
    Record.ENDED: _ended,
    Record.DTMF: _dtmf,
}
