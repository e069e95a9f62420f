"""Proto messages to domain values and back. No decisions: what does not fit raises InvalidStreamError."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from pbx.media.v1 import media_pb2
from pbx.relay.v1 import relay_pb2 as pb
from pbx_media_relay import events
from pbx_media_relay.civil import CivilTime
from pbx_media_relay.counters import StreamReport
from pbx_media_relay.endpoint import Endpoint, canonical_host
from pbx_media_relay.errors import InvalidStreamError
from pbx_media_relay.forward import PORTS_PER_SLOT, DropReason, Medium, Side, rtp_port
from pbx_media_relay.order import Order, Status
from pbx_media_relay.quality import quality_of
from pbx_media_relay.session import Call, Refusal
from pbx_media_relay.stream import Direction, Latching, PayloadType, Stream

SIDES: Final = {pb.SIDE_A: Side.A, pb.SIDE_B: Side.B}
SIDES_OUT: Final = {Side.A: pb.SIDE_A, Side.B: pb.SIDE_B}
STATISTICS_SIDES: Final = {Side.A: media_pb2.SIDE_CALLER, Side.B: media_pb2.SIDE_CALLEE}
STATISTICS_MEDIA: Final = {Medium.AUDIO: media_pb2.MEDIUM_AUDIO, Medium.VIDEO: media_pb2.MEDIUM_VIDEO}
MEDIA: Final = {pb.MEDIA_AUDIO: Medium.AUDIO, pb.MEDIA_VIDEO: Medium.VIDEO}
MEDIA_OUT: Final = {Medium.AUDIO: pb.MEDIA_AUDIO, Medium.VIDEO: pb.MEDIA_VIDEO}
DIRECTIONS: Final = {0: Direction.SENDRECV, **{direction.value: direction for direction in Direction}}
LATCHING: Final = {0: Latching.AUTO, **{latching.value: latching for latching in Latching}}
REASONS: Final = {reason: reason.name.lower() for reason in DropReason}
PAYLOAD_TYPES_MAX: Final = 128
"""There are no more numbers."""
SLOTS_MAX: Final = 8192
"""Slots in 65536 ports."""
MEDIA_TIMEOUT_MAX_S: Final = 86400


def order_of(request: pb.AllocateRequest, instance_id: str) -> Order:
    """What an Allocate asks for. Raises InvalidStreamError where it is not said of which stream it speaks."""
    streams, refused = streams_of(request.endpoints)
    return Order(
        request.call_id,
        request.instance_id or instance_id,
        streams,
        min(request.media_timeout_s, MEDIA_TIMEOUT_MAX_S),
        LATCHING.get(request.latching, Latching.AUTO),
        refused,
    )


def streams_of(messages: Iterable[pb.StreamEndpoint]) -> tuple[tuple[Stream, ...], tuple[Refusal, ...]]:
    """Endpoints, and those of them that cannot be sent to: these are silent, and void nothing beside them.

    Raises InvalidStreamError where it is not said of which stream it speaks.
    """
    streams, refused = [], []
    for message in messages:
        try:
            stream = stream_of(message)
        except InvalidStreamError as error:
            if message.side not in SIDES or message.media not in MEDIA:
                raise
            stream = Stream(SIDES[message.side], MEDIA[message.media])
            refused.append(Refusal(stream, str(error)))
        streams.append(stream)
    return tuple(streams), tuple(refused)


def refused_of(call: Call) -> list[pb.RefusedEndpoint]:
    """What was not taken over of the last command about a call."""
    return [
        pb.RefusedEndpoint(
            side=SIDES_OUT[refusal.stream.side], media=MEDIA_OUT[refusal.stream.medium], detail=refusal.detail
        )
        for refusal in call.refused
    ]


def stream_of(message: pb.StreamEndpoint) -> Stream:
    """One endpoint. Raises InvalidStreamError."""
    side, medium = SIDES.get(message.side), MEDIA.get(message.media)
    if side is None or medium is None:
        raise InvalidStreamError("an endpoint needs a side and a medium")
    if len(message.payload_types) > PAYLOAD_TYPES_MAX:
        raise InvalidStreamError(f"more than {PAYLOAD_TYPES_MAX} payload types")
    return Stream(
        side,
        medium,
        _endpoint(message.rtp) if message.rtp.port else None,
        _endpoint(message.rtcp) if message.rtcp.port else None,
        DIRECTIONS.get(message.direction, Direction.SENDRECV),
        message.rtcp_mux,
        tuple(map(_payload_type, message.payload_types)),
        message.relatch,
        _host(message.signaling_host) if message.signaling_host else "",
        message.no_rtcp,
    )


def _payload_type(message: pb.PayloadType) -> PayloadType:
    if message.number > 127:
        raise InvalidStreamError(f"{message.number} is no payload type")
    return PayloadType(message.number, message.encoding, message.clock_rate_hz, message.channels or 1, message.ptime_ms)


def _endpoint(message: pb.Address) -> Endpoint:
    if message.port > 65535:
        raise InvalidStreamError(f"{message.port} is no port")
    return Endpoint(_host(message.host), message.port)


def _host(text: str) -> str:
    try:
        return canonical_host(text)
    except ValueError as error:
        raise InvalidStreamError(str(error)) from error


def allocated(slot: int, relay_id: str, hosts: tuple[str, ...]) -> pb.AllocateResponse:
    """The answer to an Allocate."""
    return pb.AllocateResponse.FromString(_allocated(slot, relay_id, hosts))


@lru_cache(maxsize=SLOTS_MAX)
def _allocated(slot: int, relay_id: str, hosts: tuple[str, ...]) -> bytes:
    """It is made once per slot, and kept as octets: 0.2 KiB where a message takes 1.7, and read in a microsecond."""
    response = pb.AllocateResponse(relay_id=relay_id, slot=slot, hosts=hosts)
    for side in Side:
        for medium in Medium:
            port = rtp_port(slot * PORTS_PER_SLOT, side, medium)
            response.ports.add(side=SIDES_OUT[side], media=MEDIA_OUT[medium], rtp_port=port, rtcp_port=port + 1)
    return response.SerializeToString()


def status_message(status: Status, relay_id: str, datapath: str, hosts: tuple[str, ...]) -> pb.RelayStatus:
    """State and slots."""
    return pb.RelayStatus(
        relay_id=relay_id,
        state=pb.RELAY_STATE_DRAINING if status.draining else pb.RELAY_STATE_READY,
        slots_total=status.slots.total,
        slots_free=status.slots.free,
        slots_quarantined=status.slots.quarantined,
        slots_broken=status.slots.broken,
        slots_granted=status.granted,
        datapath=datapath,
        hosts=hosts,
        port_first=status.shard.first,
        port_last=status.shard.last,
    )


def call_statistics(call: Call, reports: list[StreamReport], civil: CivilTime) -> pb.CallStatistics:
    """Statistics of one call."""
    return pb.CallStatistics(
        call_id=call.id,
        slot=call.slot,
        instance_id=call.instance_id,
        streams=[statistics(report, civil) for report in reports],
        allocated_at_ms=civil.epoch_ms(call.allocated_at_ns),
    )


def statistics(report: StreamReport, civil: CivilTime) -> media_pb2.StreamStatistics:
    """Statistics of one stream; what was not measured stays unset."""
    counters = report.counters
    message = media_pb2.StreamStatistics(
        side=STATISTICS_SIDES[report.side],
        media=STATISTICS_MEDIA[report.medium],
        packets=counters.packets,
        bytes=counters.bytes,
        rtcp_packets=counters.rtcp_packets,
    )
    if any(counters.drops):
        message.packets_dropped = sum(counters.drops)
        message.dropped_source = counters.drops[DropReason.SOURCE]
        message.dropped_other = message.packets_dropped - message.dropped_source
        for reason, name in REASONS.items():
            if counters.drops[reason]:
                message.dropped[name] = counters.drops[reason]
    if counters.packets:
        _add_reception(message, report, civil)
    if counters.rtt_ns:
        message.rtt_ms = counters.rtt_ns / 1e6
    return message


def _add_reception(message: media_pb2.StreamStatistics, report: StreamReport, civil: CivilTime) -> None:
    counters = report.counters
    message.packets_lost = counters.lost
    message.packets_reordered = counters.reordered
    message.packets_duplicate = counters.duplicate
    message.payload_type = counters.payload_type
    message.first_packet_at_ms = civil.epoch_ms(counters.first_packet_ns)
    message.last_packet_at_ms = civil.epoch_ms(counters.last_packet_ns)
    if counters.gap_max_ns:
        message.gap_max_ms = counters.gap_max_ns / 1e6
    if counters.source is not None:
        message.source = str(counters.source)
    quality = quality_of(report)
    if quality.jitter_ms is not None:
        message.jitter_ms = quality.jitter_ms
    if quality.mos is not None:
        message.mos = quality.mos


def event_message(event: events.RelayEvent, civil: CivilTime) -> pb.Event | None:
    """The event for those who listen; None for what concerns nobody outside."""
    match event:
        case events.MediaTimeout():
            body = pb.Event(media_timeout=pb.MediaTimeout(silent_s=event.silent_ns // 1_000_000_000))
        case events.FirstPacket():
            body = pb.Event(
                first_packet=pb.FirstPacket(
                    side=SIDES_OUT[event.side],
                    media=MEDIA_OUT[event.medium],
                    source=pb.Address(host=event.source.host, port=event.source.port),
                )
            )
        case events.LeaseExpired():
            body = pb.Event(lease_expired=pb.LeaseExpired(instance_id=event.instance_id))
        case events.Draining():
            body = pb.Event(draining=pb.Draining(deadline_ms=civil.epoch_ms(event.deadline_ns)))
            body.at_ms = civil.epoch_ms(event.at_ns)
            return body
        case _:
            return None
    body.call_id = event.call_id
    body.at_ms = civil.epoch_ms(event.at_ns)
    return body
