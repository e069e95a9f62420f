"""What the kernel's datapath does in user space at each tick: only what changed, little in a row, no half values."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from pbx_media_relay.datapath import ebpf
from pbx_media_relay.datapath.ebpf import EbpfDatapath
from pbx_media_relay.ebpf import abi
from pbx_media_relay.ebpf.maps import Maps
from pbx_media_relay.forward import Side
from support.datapaths import FACTORIES, Unsupported
from support.relay_rig import Rig, rtp_packet
from support.waiting import until


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    try:
        made = Rig(FACTORIES["ebpf"]())
    except Unsupported as missing:
        pytest.skip(str(missing))
    yield made
    made.close()


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The forwards that each tick took up, of ticks that follow fast."""
    ticks: list[list[int]] = []
    tick, settle = EbpfDatapath._tick, EbpfDatapath._settle

    def counted_tick(self: EbpfDatapath) -> None:
        ticks.append([])
        tick(self)

    def counted_settle(self: EbpfDatapath, number: int) -> None:
        ticks[-1].append(number)
        settle(self, number)

    monkeypatch.setattr(EbpfDatapath, "_tick", counted_tick)
    monkeypatch.setattr(EbpfDatapath, "_settle", counted_settle)
    monkeypatch.setattr(ebpf, "TICK_S", 0.02)
    return ticks


async def talk(rig: Rig) -> None:
    """A packet each way, told of."""
    a, b = rig.phone(), rig.phone()
    rig.pair(a, b)
    a.rtp.send(rtp_packet(1), rig.local(Side.A))
    b.rtp.send(rtp_packet(1), rig.local(Side.B))
    await asyncio.to_thread(until, lambda: len(rig.told.first) == 2, timeout_s=5, what="both first packets")


async def test_what_does_not_change_is_not_taken_up_again(settled: list[list[int]], rig: Rig) -> None:
    await talk(rig)
    seen = len(settled)
    await asyncio.to_thread(until, lambda: len(settled) > seen + 10, timeout_s=5, what="ten more ticks")
    assert sum(map(len, settled[seen + 1 :])) == 0


async def test_many_that_change_at_once_are_taken_up_in_turns(
    settled: list[list[int]], rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ebpf, "SETTLED_PER_TURN", 1)
    await talk(rig)
    assert max(map(len, settled)) == 1
    assert {number for tick in settled for number in tick} == {rig.id(Side.A), rig.id(Side.B)}


def test_the_kernel_never_sees_a_moment_that_was_not_set() -> None:
    """It reads while we write; a value of 0 in between sends every packet to user space."""
    try:
        maps = Maps(8, None)
    except PermissionError as error:
        pytest.skip(f"CAP_BPF is needed: {error}")
    moment_ns = 1 << 50
    maps.live_until(moment_ns)
    writer = os.fork()
    if not writer:
        while True:
            maps.live_until(moment_ns)
            maps.live_until(moment_ns + 0xFFFFFFFF)
    try:
        size = ctypes.sizeof(abi.ControlC)
        read = {int.from_bytes(maps.lookup("control", 0, size)[:8], sys.byteorder) for _ in range(20_000)}
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        maps.close(True)
    assert read == {moment_ns, moment_ns + 0xFFFFFFFF}
