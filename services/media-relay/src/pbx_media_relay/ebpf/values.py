"""From a `Forward` to the value in the map and from a stream in the map to `Counters`. Pure.

A value carries, beside what was said, two numbers per leg that only rise: `epoch` opens the latch, `aim` gives up
what was latched. The program compares them with those under which it latched, so that a change of the value never
has to touch what the program writes.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from pbx_media_relay.datapath.base import Counters
from pbx_media_relay.ebpf import abi
from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.forward import Forward

U32 = 0xFFFFFFFF
U64 = (1 << 64) - 1
type_of_way = Callable[[str], abi.WayC]


def value_of(forward: Forward, former: abi.ForwardC | None, way: type_of_way, slow: bool) -> abi.ForwardC:
    """The value of a forward that replaces `former`; `way` says how a host is reached."""
    value = abi.ForwardC()
    value.until_ns = forward.latch_until_ns
    value.payload_types[0] = forward.payload_types & U64
    value.payload_types[1] = forward.payload_types >> 64
    value.flags = (
        abi.RTCP_MUX * forward.rtcp_mux
        | abi.RECEIVE * forward.receive
        | abi.SENDTO * forward.send
        | abi.SLOW * slow
        | abi.NO_RTCP * forward.no_rtcp
    )
    value.peer = forward.peer
    value.clock_rate = forward.clock_rate_hz
    value.limit_pps = forward.limit_pps
    value.generation = forward.generation & U32
    value.hint = abi.host_c(forward.hint_host)
    value.pauses = 0
    if former is not None:
        value.pauses = former.pauses + bool(former.flags & abi.RECEIVE and not forward.receive)
    for index, announced in enumerate((forward.rtp, forward.rtcp)):
        _aim(value.leg[index], announced, former, index, value.generation)
        value.leg[index].way = way(announced.host)
    return value


def _aim(leg: abi.LegC, announced: Endpoint, former: abi.ForwardC | None, index: int, generation: int) -> None:
    leg.announced = abi.endpoint_c(announced)
    leg.epoch = leg.aim = 1
    if former is not None:
        old = former.leg[index]
        moved = bytes(old.announced) != bytes(leg.announced)
        leg.aim = old.aim + moved
        leg.epoch = old.epoch + (moved or former.generation != generation)


def latched(value: abi.ForwardC, stream: abi.StreamC, index: int) -> Endpoint | None:
    """The source that is latched now on a leg."""
    latch = stream.latch[index]
    if latch.epoch != value.leg[index].epoch:
        return None
    return abi.endpoint_of(latch.learned[latch.word & 1].source)


def destination(value: abi.ForwardC, stream: abi.StreamC, index: int) -> Endpoint:
    """Where a leg's packets are sent now."""
    latch, leg = stream.latch[index], value.leg[index]
    source = abi.endpoint_of(latch.learned[latch.word & 1].source)
    if latch.epoch and latch.aim == leg.aim and source is not None:
        return source
    announced = abi.endpoint_of(leg.announced)
    assert announced is not None, "a forward has an endpoint"
    return announced


def last_source(stream: abi.StreamC, index: int) -> Endpoint | None:
    """What was last latched on a leg, whenever that was."""
    latch = stream.latch[index]
    return abi.endpoint_of(latch.learned[latch.word & 1].source) if latch.epoch else None


def counters_of(stream: abi.StreamC) -> Counters:
    """What the program counted."""
    reception, trip = stream.reception, stream.trip
    lost = 0
    if reception.has_ssrc:
        lost = reception.lost_before + reception.max - reception.base + 1 - reception.received
    return Counters(
        packets=stream.packets,
        bytes=stream.bytes,
        rtcp_packets=stream.rtcp_packets,
        rtcp_bytes=stream.rtcp_bytes,
        lost=lost,
        reordered=reception.reordered,
        duplicate=reception.duplicate,
        jitter_q4=reception.jitter_q4,
        jitter_measured=bool(reception.jitter_measured),
        gap_max_ns=reception.gap_max_ns,
        first_packet_ns=stream.first_ns,
        last_packet_ns=stream.last_ns,
        last_rtcp_ns=stream.last_rtcp_ns,
        ssrc=socket.ntohl(reception.ssrc),
        ssrc_changes=reception.ssrc_changes,
        payload_type=stream.payload_type - 1,
        rtt_ns=trip.rtt_ns,
        reported_lost=trip.lost,
        reported_jitter=trip.jitter,
        source=last_source(stream, 0),
        source_rtcp=last_source(stream, 1),
        drops=tuple(stream.drops),
    )


def added(kernel: Counters, user: Counters) -> Counters:
    """One forward's figures of both: sums, and the state of whichever saw the last packet."""
    if not (user.packets or user.rtcp_packets or any(user.drops)):
        return kernel
    later = kernel if kernel.last_packet_ns >= user.last_packet_ns else user
    later_rtcp = kernel if kernel.last_rtcp_ns >= user.last_rtcp_ns else user
    firsts = [each.first_packet_ns for each in (kernel, user) if each.first_packet_ns]
    return later._replace(
        packets=kernel.packets + user.packets,
        bytes=kernel.bytes + user.bytes,
        rtcp_packets=kernel.rtcp_packets + user.rtcp_packets,
        rtcp_bytes=kernel.rtcp_bytes + user.rtcp_bytes,
        lost=kernel.lost + user.lost,
        reordered=kernel.reordered + user.reordered,
        duplicate=kernel.duplicate + user.duplicate,
        gap_max_ns=max(kernel.gap_max_ns, user.gap_max_ns),
        first_packet_ns=min(firsts, default=0),
        last_rtcp_ns=later_rtcp.last_rtcp_ns,
        ssrc_changes=kernel.ssrc_changes + user.ssrc_changes,
        rtt_ns=later_rtcp.rtt_ns or kernel.rtt_ns or user.rtt_ns,
        reported_lost=later_rtcp.reported_lost,
        reported_jitter=later_rtcp.reported_jitter,
        source_rtcp=later_rtcp.source_rtcp,
        drops=tuple(one + other for one, other in zip(kernel.drops, user.drops, strict=True)),
    )
