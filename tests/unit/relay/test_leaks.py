"""Allocate and release, thousands of times: no descriptor, slot, forward or memory stays behind in any datapath."""

from __future__ import annotations

import gc
import os
import random
from pathlib import Path

import pytest

from pbx_media_relay.datapath.base import Counters, Datapath
from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.events import RelayEvent, SlotBroken
from pbx_media_relay.forward import Medium, Side
from pbx_media_relay.order import Order
from pbx_media_relay.ports import REST_MAX_NS, Shard, SlotPool
from pbx_media_relay.relay import Relay
from pbx_media_relay.stream import Stream
from support.datapaths import FACTORIES, Unsupported

CYCLES = int(os.environ.get("PBX_CYCLES", "1000"))
GROWTH_MAX_KIB = 2048
"""Allocators keep some; a leak of one forward's 200 octets a cycle would be as much after 10 000 cycles."""
SECOND_NS = 1_000_000_000


def _resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


@pytest.mark.parametrize("name", FACTORIES)
async def test_cycles_leave_nothing_behind(name: str) -> None:
    told: list[RelayEvent] = []
    pool = SlotPool(Shard(45000, 45799), random.Random(1))
    try:
        datapath = FACTORIES[name]()
    except Unsupported as missing:
        pytest.skip(str(missing))
    relay = Relay(pool, datapath, media_timeout_s=60, tell=told.append)
    relay.start()
    try:
        _play(pool, relay, datapath, told)
    finally:
        relay.close(0)  # a datapath may have a network namespace of its own, and leaves it here


def _play(pool: SlotPool, relay: Relay, datapath: Datapath, told: list[RelayEvent]) -> None:
    phones = [Stream(side, Medium.AUDIO, Endpoint("127.0.0.1", 9000 + side * 2)) for side in Side]
    now_ns = SECOND_NS

    def cycle(number: int) -> None:
        nonlocal now_ns
        call = relay.allocate(Order(f"call{number}", "s1", tuple(phones)), now_ns)
        assert len(relay.release(call.id, now_ns)) == 2
        now_ns += SECOND_NS
        relay.handle_timeout(now_ns)

    for number in range(200):
        cycle(number)
    gc.collect()  # sockets that a test before left to the collector
    descriptors, resident = len(os.listdir("/proc/self/fd")), _resident_kib()
    resting = pool.counts.quarantined
    for number in range(CYCLES):
        cycle(number)
    # Fewer is no leak: what a test before left to the collector may go late.
    assert len(os.listdir("/proc/self/fd")) <= descriptors - 8 * 2 * (resting - pool.counts.quarantined)
    assert _resident_kib() - resident < GROWTH_MAX_KIB
    relay.handle_timeout(now_ns + 2 * REST_MAX_NS)
    broken = sum(isinstance(event, SlotBroken) for event in told)
    assert pool.counts.free + pool.counts.broken == pool.counts.total
    assert pool.counts.broken <= broken
    assert datapath.counters(range(45000 // 2, 45800 // 2)) == [Counters()] * 400
