"""What the relay's contract says, from and to domain values. No decisions."""

from __future__ import annotations

from pbx.relay.v1 import relay_pb2 as pb
from pbx_signaling.media.stream import Slot, StreamEndpoint
from pbx_sip.message.text import utf8


def endpoint_message(endpoint: StreamEndpoint, *, relatch: bool) -> pb.StreamEndpoint:
    """An endpoint as the relay is told of it; `relatch` opens its latch window (RFC 7362)."""
    message = pb.StreamEndpoint(
        side=pb.Side.ValueType(endpoint.side),
        media=pb.Media.ValueType(endpoint.media),
        direction=pb.Direction.ValueType(endpoint.direction),
        rtcp_mux=endpoint.rtcp_mux,
        signaling_host=utf8(endpoint.signaling_host),
        relatch=relatch,
        no_rtcp=not endpoint.rtcp_port,
        payload_types=[
            pb.PayloadType(
                number=codec.number,
                encoding=utf8(codec.encoding),
                clock_rate_hz=codec.clock_rate_hz,
                channels=codec.channels,
                ptime_ms=codec.ptime_ms,
            )
            for codec in endpoint.codecs
        ],
    )
    if endpoint.port:
        message.rtp.host, message.rtp.port = utf8(endpoint.host), endpoint.port
        if endpoint.rtcp_port:
            message.rtcp.host, message.rtcp.port = utf8(endpoint.rtcp_host), endpoint.rtcp_port
    return message


def slot_of_answer(response: pb.AllocateResponse) -> Slot:
    """The slot that a relay answered."""
    return Slot(
        relay=response.relay_id,
        index=response.slot,
        host4=next((host for host in response.hosts if ":" not in host), ""),
        host6=next((host for host in response.hosts if ":" in host), ""),
        ports={(int(p.side), int(p.media)): (p.rtp_port, p.rtcp_port) for p in response.ports},
    )
