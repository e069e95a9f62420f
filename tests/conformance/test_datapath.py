"""One suite for every datapath: the same packets in, the same packets out, the same counters. Real
sockets."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import AsyncIterator

import pytest

from pbx_media_relay.datapath.base import Counters, PortInUseError
from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.forward import DropReason, Medium, Side, payload_mask
from pbx_media_relay.latching import LATCH_WINDOW_NS, STRAGGLER_NS
from support.datapaths import FACTORIES, Unsupported
from support.relay_rig import Rig, Socket, receiver_report, rtp_packet, sender_report


@pytest.fixture(params=FACTORIES)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    try:
        made = Rig(FACTORIES[request.param]())
    except Unsupported as missing:
        pytest.skip(str(missing))
    yield made
    made.close()


async def test_relays_rtp_both_ways_from_the_other_sides_port(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()
    rig.pair(a, b)
    a.rtp.send(rtp_packet(1), rig.local(Side.A))
    assert await b.rtp.receive() == (rtp_packet(1), rig.local(Side.B))
    b.rtp.send(rtp_packet(7, ssrc=9), rig.local(Side.B))
    assert await a.rtp.receive() == (rtp_packet(7, ssrc=9), rig.local(Side.A))


async def test_relays_rtcp_on_the_next_port(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()
    rig.pair(a, b)
    a.rtcp.send(receiver_report(1, 2), rig.local(Side.A, rtcp=True))
    assert await b.rtcp.receive() == (receiver_report(1, 2), rig.local(Side.B, rtcp=True))
    counters = rig.counters(Side.A)
    assert (counters.rtcp_packets, counters.rtcp_bytes, counters.packets) == (1, 32, 0)
    assert counters.last_rtcp_ns > 0
    assert counters.source_rtcp == a.rtcp.endpoint


async def test_media_of_a_slot_do_not_mix(rig: Rig) -> None:
    a, b, a_video, b_video = (rig.phone() for _ in range(4))
    rig.pair(a, b)
    rig.datapath.upsert(rig.forward(Side.A, a_video, Medium.VIDEO))
    rig.datapath.upsert(rig.forward(Side.B, b_video, Medium.VIDEO))
    a_video.rtp.send(rtp_packet(1), rig.local(Side.A, medium=Medium.VIDEO))
    assert await b_video.rtp.receive() == (rtp_packet(1), rig.local(Side.B, medium=Medium.VIDEO))
    assert await b.rtp.nothing()
    assert (rig.counters(Side.A).packets, rig.counters(Side.A, Medium.VIDEO).packets) == (0, 1)


@pytest.mark.parametrize(("host_a", "host_b"), [("::1", "::1"), ("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
async def test_relays_ipv6_and_between_the_families(rig: Rig, host_a: str, host_b: str) -> None:
    a, b = rig.phone(host_a), rig.phone(host_b)
    rig.pair(a, b)
    a.rtp.send(rtp_packet(1), rig.local(Side.A, host=host_a))
    assert await b.rtp.receive() == (rtp_packet(1), rig.local(Side.B, host=host_b))
    b.rtcp.send(receiver_report(1, 2), rig.local(Side.B, rtcp=True, host=host_b))
    assert await a.rtcp.receive() == (receiver_report(1, 2), rig.local(Side.A, rtcp=True, host=host_a))


async def test_strict_source_drops_everyone_else(rig: Rig) -> None:
    a, b, attacker = rig.phone(), rig.phone(), rig.socket()
    rig.pair(a, b)
    attacker.send(rtp_packet(1), rig.local(Side.A))
    await rig.dropped(Side.A, DropReason.SOURCE)
    attacker.send(receiver_report(1, 2), rig.local(Side.A, rtcp=True))
    counters = await rig.dropped(Side.A, DropReason.SOURCE, 2)
    assert await b.rtp.nothing()
    assert await b.rtcp.nothing()
    assert await attacker.nothing()
    assert (counters.packets, counters.source, counters.last_packet_ns) == (0, None, 0)


async def test_latches_a_source_of_the_announced_host_and_answers_it(rig: Rig) -> None:
    a, b, nat = rig.phone(), rig.phone(), rig.socket()
    rig.pair(a, b, latch_until_ns=rig.open_window())
    nat.send(rtp_packet(1), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(1)
    b.rtp.send(rtp_packet(5), rig.local(Side.B))
    assert await nat.receive() == (rtp_packet(5), rig.local(Side.A))
    assert rig.counters(Side.A).source == nat.endpoint
    assert await a.rtp.nothing()


async def test_the_announced_endpoint_takes_the_latch_from_another_and_keeps_it(rig: Rig) -> None:
    a, b, attacker = rig.phone(), rig.phone(), rig.socket()
    rig.pair(a, b, latch_until_ns=rig.open_window())
    attacker.send(rtp_packet(1), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(1)
    a.rtp.send(rtp_packet(2), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(2)
    attacker.send(rtp_packet(3), rig.local(Side.A))
    await rig.dropped(Side.A, DropReason.SOURCE)
    b.rtp.send(rtp_packet(9), rig.local(Side.B))
    assert (await a.rtp.receive())[0] == rtp_packet(9)
    assert await attacker.nothing()


async def test_the_announced_endpoint_comes_back_after_the_window(rig: Rig) -> None:
    a, b, nat = rig.phone(), rig.phone(), rig.socket()
    rig.pair(a, b, latch_until_ns=time.monotonic_ns() + 300_000_000, payload_types=payload_mask([0]))
    nat.send(rtp_packet(1), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(1)
    await asyncio.sleep(0.4)
    a.rtp.send(rtp_packet(2, payload_type=99), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(2, payload_type=99)
    nat.send(rtp_packet(3), rig.local(Side.A))
    await rig.dropped(Side.A, DropReason.SOURCE)
    b.rtp.send(rtp_packet(9), rig.local(Side.B))
    assert (await a.rtp.receive())[0] == rtp_packet(9)


async def test_a_straggler_from_the_place_before_shuts_nobody_out(rig: Rig) -> None:
    a, moved, b = rig.phone(), rig.phone(), rig.phone()
    rig.pair(a, b, latch_until_ns=rig.open_window())
    a.rtp.send(rtp_packet(1), rig.local(Side.A))
    await b.rtp.receive()
    rig.datapath.upsert(rig.forward(Side.A, moved, latch_until_ns=rig.open_window(), generation=1))
    a.rtp.send(rtp_packet(2), rig.local(Side.A))
    await rig.dropped(Side.A, DropReason.SOURCE)
    b.rtp.send(rtp_packet(5), rig.local(Side.B))
    assert (await moved.rtp.receive())[0] == rtp_packet(5)
    assert await a.rtp.nothing()
    moved.rtp.send(rtp_packet(3), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(3)
    assert rig.counters(Side.A).source == moved.rtp.endpoint


async def test_a_place_that_did_not_change_is_found_again_once_nothing_can_be_late(rig: Rig) -> None:
    a, moved, b, nat, fresh = rig.phone(), rig.phone(), rig.phone(), rig.socket(), rig.socket()
    rig.pair(a, b, latch_until_ns=rig.open_window())
    nat.send(rtp_packet(1), rig.local(Side.A))
    await b.rtp.receive()
    opened_ns = time.monotonic_ns() - STRAGGLER_NS - 1
    window_ns = opened_ns + LATCH_WINDOW_NS
    rig.datapath.upsert(rig.forward(Side.A, moved, latch_until_ns=window_ns, generation=1))
    nat.send(rtp_packet(2), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(2)
    fresh.send(rtp_packet(3), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(3)
    nat.send(rtp_packet(4), rig.local(Side.A))
    await rig.dropped(Side.A, DropReason.SOURCE)
    b.rtp.send(rtp_packet(6), rig.local(Side.B))
    assert (await fresh.receive())[0] == rtp_packet(6)


async def test_a_packet_without_payload_latches_whatever_its_type(rig: Rig) -> None:
    a, b, nat = rig.phone(), rig.phone(), rig.socket()
    rig.pair(a, b, latch_until_ns=rig.open_window(), payload_types=payload_mask([8]))
    nat.send(rtp_packet(1, payload_type=126)[:12], rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(1, payload_type=126)[:12]
    b.rtp.send(rtp_packet(6), rig.local(Side.B))
    assert (await nat.receive())[0] == rtp_packet(6)


@pytest.mark.parametrize(
    "keep_alive",
    [b"", b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12), b"\0\x11\0\0\x21\x12\xa4\x42" + bytes(40), bytes(12)],
    ids=["empty", "stun request", "stun indication", "rtp of version 0"],
)
async def test_a_keep_alive_tells_where_a_phone_is_and_goes_no_further(rig: Rig, keep_alive: bytes) -> None:
    a, b, nat, stranger = rig.phone(), rig.phone(), rig.socket(), rig.socket("127.0.0.3")
    rig.pair(a, b, latch_until_ns=rig.open_window(), hint_host="127.0.0.1")
    stranger.send(keep_alive, rig.local(Side.A))
    await rig.dropped(Side.A, DropReason.MALFORMED)
    nat.send(keep_alive, rig.local(Side.A))
    await rig.dropped(Side.A, DropReason.MALFORMED, 2)
    b.rtp.send(rtp_packet(6), rig.local(Side.B))
    assert (await nat.receive())[0] == rtp_packet(6)
    assert await stranger.nothing()
    assert await b.rtp.nothing()
    assert rig.counters(Side.A).source == nat.endpoint


async def test_noise_tells_nothing(rig: Rig) -> None:
    a, b, noisy = rig.phone(), rig.phone(), rig.socket()
    rig.pair(a, b, latch_until_ns=rig.open_window())
    for noise in (bytes([0x16]) * 64, b"\r\n\r\n", bytes(11), bytes(13), bytes(20)):
        noisy.send(noise, rig.local(Side.A))
    await rig.dropped(Side.A, DropReason.MALFORMED, 5)
    b.rtp.send(rtp_packet(6), rig.local(Side.B))
    assert (await a.rtp.receive())[0] == rtp_packet(6)


async def test_asymmetric_rtp_goes_where_it_was_announced(rig: Rig) -> None:
    a, b, out = rig.phone(), rig.phone(), rig.socket()
    rig.pair(a, b)
    rig.datapath.upsert(rig.forward(Side.A, a, latch_until_ns=rig.open_window(), generation=1, fixed=True))
    out.send(rtp_packet(1), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(1)
    b.rtp.send(rtp_packet(6), rig.local(Side.B))
    assert (await a.rtp.receive())[0] == rtp_packet(6)
    await asyncio.sleep(0.5)
    out.send(rtp_packet(2), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(2)
    b.rtp.send(rtp_packet(7), rig.local(Side.B))
    assert (await a.rtp.receive())[0] == rtp_packet(7)
    assert await out.nothing()


async def test_no_rtcp_goes_where_there_is_no_place_for_it(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()
    rig.pair(a, b)
    rig.datapath.upsert(rig.forward(Side.A, a, no_rtcp=True))
    b.rtcp.send(receiver_report(1, 2), rig.local(Side.B, rtcp=True))
    assert (await rig.dropped(Side.B, DropReason.DIRECTION)).rtcp_packets == 1
    assert await a.rtcp.nothing()
    b.rtp.send(rtp_packet(7), rig.local(Side.B))
    assert (await a.rtp.receive())[0] == rtp_packet(7)
    a.rtcp.send(receiver_report(2, 1), rig.local(Side.A, rtcp=True))
    assert (await b.rtcp.receive())[0] == receiver_report(2, 1)


async def test_a_closed_window_latches_nobody(rig: Rig) -> None:
    a, b, late = rig.phone(), rig.phone(), rig.socket()
    rig.pair(a, b, latch_until_ns=time.monotonic_ns() - 1)
    late.send(rtp_packet(1), rig.local(Side.A))
    await rig.dropped(Side.A, DropReason.SOURCE)
    assert await b.rtp.nothing()


async def test_an_unannounced_payload_type_latches_nobody(rig: Rig) -> None:
    a, b, nat = rig.phone(), rig.phone(), rig.socket()
    rig.pair(a, b, latch_until_ns=rig.open_window(), payload_types=payload_mask([8, 101]))
    nat.send(rtp_packet(1, payload_type=0), rig.local(Side.A))
    await rig.dropped(Side.A, DropReason.SOURCE)
    nat.send(rtp_packet(2, payload_type=8), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(2, payload_type=8)


async def test_another_host_needs_two_sequential_packets_of_one_ssrc(rig: Rig) -> None:
    a, b, nat = rig.phone(), rig.phone(), rig.socket("127.0.0.2")
    rig.pair(a, b, latch_until_ns=rig.open_window())
    nat.send(rtp_packet(1), rig.local(Side.A))
    await rig.dropped(Side.A, DropReason.SOURCE)
    nat.send(rtp_packet(2, ssrc=77), rig.local(Side.A))
    await rig.dropped(Side.A, DropReason.SOURCE, 2)
    nat.send(rtp_packet(3, ssrc=77), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(3, ssrc=77)
    assert rig.counters(Side.A).source == nat.endpoint


async def test_the_signaling_host_is_latched_and_no_other(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()
    nat, attacker = rig.socket("127.0.0.2"), rig.socket("127.0.0.3")
    rig.pair(a, b, latch_until_ns=rig.open_window(), hint_host="127.0.0.2")
    for sequence in range(3):
        attacker.send(rtp_packet(sequence), rig.local(Side.A))
    await rig.dropped(Side.A, DropReason.SOURCE, 3)
    nat.send(rtp_packet(9), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(9)


async def test_only_a_new_generation_opens_the_latch_again(rig: Rig) -> None:
    a, b, first, second = rig.phone(), rig.phone(), rig.socket(), rig.socket()
    rig.pair(a, b, latch_until_ns=rig.open_window())
    first.send(rtp_packet(1), rig.local(Side.A))
    await b.rtp.receive()
    rig.pair(a, b, latch_until_ns=rig.open_window())
    second.send(rtp_packet(2), rig.local(Side.A))
    await rig.dropped(Side.A, DropReason.SOURCE)
    rig.pair(a, b, latch_until_ns=rig.open_window(), generation=1)
    b.rtp.send(rtp_packet(5), rig.local(Side.B))
    assert (await first.receive())[0] == rtp_packet(5)
    second.send(rtp_packet(3), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(3)
    b.rtp.send(rtp_packet(6), rig.local(Side.B))
    assert (await second.receive())[0] == rtp_packet(6)


async def test_rtcp_is_latched_only_to_the_host_of_its_rtp(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()
    nat, nat_rtcp, attacker = rig.socket("127.0.0.2"), rig.socket("127.0.0.2"), rig.socket("127.0.0.3")
    rig.pair(a, b, latch_until_ns=rig.open_window())
    for sequence in (1, 2):
        nat.send(rtp_packet(sequence), rig.local(Side.A))
    await b.rtp.receive()
    attacker.send(receiver_report(1, 2), rig.local(Side.A, rtcp=True))
    await rig.dropped(Side.A, DropReason.SOURCE, 2)
    nat_rtcp.send(receiver_report(3, 4), rig.local(Side.A, rtcp=True))
    assert (await b.rtcp.receive())[0] == receiver_report(3, 4)
    b.rtcp.send(receiver_report(4, 3), rig.local(Side.B, rtcp=True))
    assert (await nat_rtcp.receive())[0] == receiver_report(4, 3)


async def test_mux_on_one_side_only(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()
    rig.datapath.upsert(rig.forward(Side.A, a, rtcp_mux=True, rtcp=a.rtp.endpoint))
    rig.datapath.upsert(rig.forward(Side.B, b))
    a.rtp.send(receiver_report(1, 2), rig.local(Side.A))
    assert await b.rtcp.receive() == (receiver_report(1, 2), rig.local(Side.B, rtcp=True))
    b.rtcp.send(receiver_report(2, 1), rig.local(Side.B, rtcp=True))
    assert await a.rtp.receive() == (receiver_report(2, 1), rig.local(Side.A))


@pytest.mark.parametrize(
    ("rtcp", "packet"),
    [
        (False, b"\x80"),
        (False, b""),
        (False, b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12)),
        (False, rtp_packet(1)[:11]),
        (False, receiver_report(1, 2)),
        (False, bytes([0x16]) * 64),
        (True, rtp_packet(1)),
        (True, receiver_report(1, 2)[:7]),
        (False, rtp_packet(1) + bytes(3000)),
    ],
    ids=[
        "one octet",
        "empty",
        "stun",
        "short rtp",
        "rtcp on rtp port",
        "dtls",
        "rtp on rtcp port",
        "short rtcp",
        "long",
    ],
)
async def test_whatever_is_not_rtp_is_counted_and_dropped(rig: Rig, rtcp: bool, packet: bytes) -> None:
    a, b = rig.phone(), rig.phone()
    rig.pair(a, b)
    (a.rtcp if rtcp else a.rtp).send(packet, rig.local(Side.A, rtcp))
    counters = await rig.dropped(Side.A, DropReason.MALFORMED)
    assert await b.rtp.nothing()
    assert (counters.packets, counters.rtcp_packets, sum(counters.drops)) == (0, 0, 1)


@pytest.mark.parametrize("change", [{"receive": False}, {"send": False}])
async def test_direction_stops_rtp_and_lets_rtcp_pass(rig: Rig, change: dict[str, bool]) -> None:
    a, b = rig.phone(), rig.phone()
    rig.pair(a, b)
    if "receive" in change:
        rig.datapath.upsert(rig.forward(Side.A, a, **change))
    else:
        rig.datapath.upsert(rig.forward(Side.B, b, **change))
    a.rtp.send(rtp_packet(1), rig.local(Side.A))
    counters = await rig.dropped(Side.A, DropReason.DIRECTION)
    assert counters.packets == 1
    assert await b.rtp.nothing()
    a.rtcp.send(receiver_report(1, 2), rig.local(Side.A, rtcp=True))
    assert (await b.rtcp.receive())[0] == receiver_report(1, 2)
    b.rtp.send(rtp_packet(3), rig.local(Side.B))
    assert (await a.rtp.receive())[0] == rtp_packet(3)


async def test_without_a_peer_packets_are_counted_and_have_no_destination(rig: Rig) -> None:
    a = rig.phone()
    rig.datapath.upsert(rig.forward(Side.A, a))
    a.rtp.send(rtp_packet(1), rig.local(Side.A))
    counters = await rig.dropped(Side.A, DropReason.NO_DESTINATION)
    assert counters.packets == 1


async def test_rate_limit(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()
    rig.pair(a, b, limit_pps=5)
    for sequence in range(40):
        a.rtp.send(rtp_packet(sequence), rig.local(Side.A))
    counters = await rig.until(Side.A, lambda now: now.packets + now.drops[DropReason.RATE] == 40)
    assert 5 <= counters.packets <= 10


async def test_statistics_of_a_stream(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()
    rig.pair(a, b)
    before = time.monotonic_ns()
    for sequence in (65533, 65534, 65534, 0, 65535, 4):
        a.rtp.send(rtp_packet(sequence), rig.local(Side.A))
        await b.rtp.receive()
    counters = rig.counters(Side.A)
    assert counters.packets == 6
    assert counters.bytes == 6 * 172
    assert (counters.lost, counters.reordered, counters.duplicate) == (3, 1, 1)
    assert before <= counters.first_packet_ns <= counters.last_packet_ns <= time.monotonic_ns()
    assert 0 < counters.gap_max_ns <= counters.last_packet_ns - counters.first_packet_ns
    assert (counters.ssrc, counters.ssrc_changes, counters.payload_type) == (0x1234, 0, 0)
    assert counters.jitter_measured
    assert counters.source == a.rtp.endpoint
    assert sum(counters.drops) == 0


async def test_loss_goes_on_over_a_change_of_ssrc(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()
    rig.pair(a, b)
    for sequence, ssrc in ((10, 1), (12, 1), (40000, 2), (40003, 2)):
        a.rtp.send(rtp_packet(sequence, ssrc=ssrc), rig.local(Side.A))
        await b.rtp.receive()
    counters = rig.counters(Side.A)
    assert (counters.lost, counters.ssrc, counters.ssrc_changes) == (3, 2, 1)


async def test_no_clock_rate_no_jitter(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()
    rig.pair(a, b, clock_rate_hz=0)
    for sequence in range(3):
        a.rtp.send(rtp_packet(sequence), rig.local(Side.A))
        await b.rtp.receive()
    assert not rig.counters(Side.A).jitter_measured


async def test_round_trip_from_reports(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()
    rig.pair(a, b)
    a.rtcp.send(sender_report(1, ntp=0x0000_1234_5678_0000), rig.local(Side.A, rtcp=True))
    await b.rtcp.receive()
    sent_ns = time.monotonic_ns()
    b.rtcp.send(receiver_report(2, 1, lost=-3, last_sr=0x12345678), rig.local(Side.B, rtcp=True))
    await a.rtcp.receive()
    counters = rig.counters(Side.B)
    assert 0 < counters.rtt_ns < time.monotonic_ns() - sent_ns + 1_000_000_000
    assert (counters.reported_lost, counters.reported_jitter) == (-3, 40)
    assert rig.counters(Side.A).rtt_ns == 0


async def test_first_packet_is_told_once(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()
    rig.pair(a, b)
    for sequence in range(3):
        a.rtp.send(rtp_packet(sequence), rig.local(Side.A))
        await b.rtp.receive()
    await rig.until(Side.A, lambda counters: bool(rig.told.first))
    assert rig.told.first == [(rig.id(Side.A), a.rtp.endpoint)]


async def test_tap_copies_accepted_rtp(rig: Rig) -> None:
    a, b, attacker = rig.phone(), rig.phone(), rig.socket()
    rig.pair(a, b)
    a.rtp.send(rtp_packet(1), rig.local(Side.A))
    await b.rtp.receive()
    rig.datapath.upsert(rig.forward(Side.A, a, tap=True))
    attacker.send(rtp_packet(8), rig.local(Side.A))
    await rig.dropped(Side.A, DropReason.SOURCE)
    a.rtp.send(rtp_packet(2), rig.local(Side.A))
    await b.rtp.receive()
    await rig.until(Side.A, lambda counters: bool(rig.told.taps))
    assert rig.told.taps == [rtp_packet(2)]


async def test_upsert_keeps_counters_and_remove_ends_them(rig: Rig) -> None:
    a, b, c = rig.phone(), rig.phone(), rig.phone()
    rig.pair(a, b)
    a.rtp.send(rtp_packet(1), rig.local(Side.A))
    await b.rtp.receive()
    rig.datapath.upsert(rig.forward(Side.B, c))
    a.rtp.send(rtp_packet(2), rig.local(Side.A))
    assert (await c.rtp.receive())[0] == rtp_packet(2)
    assert rig.datapath.remove(rig.id(Side.A)).packets == 2
    assert rig.datapath.remove(rig.id(Side.A)) == Counters()
    assert rig.counters(Side.A) == Counters()
    a.rtp.send(rtp_packet(3), rig.local(Side.A))
    assert await c.rtp.nothing()


async def test_upsert_is_idempotent(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()
    for _ in range(3):
        rig.pair(a, b)
    a.rtp.send(rtp_packet(1), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(1)
    assert await b.rtp.nothing()


async def test_packets_to_a_bound_slot_are_heard(rig: Rig) -> None:
    stranger = rig.socket()
    assert rig.datapath.last_heard_ns(rig.slot_port) == 0
    before = time.monotonic_ns()
    stranger.send(b"noise", rig.local(Side.B))
    rig.pair(rig.phone(), rig.phone())
    stranger.send(b"noise", rig.local(Side.B))
    await rig.dropped(Side.B, DropReason.MALFORMED)
    assert rig.datapath.last_heard_ns(rig.slot_port) >= before


async def test_a_port_in_use_is_told_and_nothing_is_held(rig: Rig) -> None:
    rig.datapath.unbind(rig.slot_port)
    squatter = Socket("127.0.0.1", rig.slot_port + 5)
    with pytest.raises(PortInUseError) as refused:
        rig.datapath.bind(rig.slot_port)
    assert refused.value.port == rig.slot_port + 5
    Socket("127.0.0.1", rig.slot_port).close()
    squatter.close()
    rig.datapath.bind(rig.slot_port)


async def test_bind_and_unbind_are_idempotent(rig: Rig) -> None:
    rig.datapath.bind(rig.slot_port)
    rig.datapath.unbind(rig.slot_port)
    rig.datapath.unbind(rig.slot_port)
    rig.datapath.bind(rig.slot_port)


async def test_a_forward_can_point_nowhere(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()
    rig.datapath.upsert(rig.forward(Side.A, a))
    nowhere = Endpoint("255.255.255.254", 9)  # class E: the kernel has no route and refuses
    rig.datapath.upsert(dataclasses.replace(rig.forward(Side.B, b), rtp=nowhere, rtcp=nowhere))
    a.rtp.send(rtp_packet(1), rig.local(Side.A))
    counters = await rig.dropped(Side.A, DropReason.SEND)
    assert counters.packets == 1


async def test_cycles_leak_no_descriptor_and_no_counter(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()

    def cycle() -> None:
        rig.datapath.bind(rig.slot_port)
        rig.pair(a, b)
        for side in Side:
            rig.datapath.remove(rig.id(side))
        rig.datapath.unbind(rig.slot_port)

    cycle()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(200):
        cycle()
    assert len(os.listdir("/proc/self/fd")) == before
    rig.datapath.bind(rig.slot_port)
    rig.pair(a, b)
    assert rig.counters(Side.A) == Counters()
    a.rtp.send(rtp_packet(1), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(1)
