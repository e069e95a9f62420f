"""Calls that come and go at a relay process of each datapath leave nothing: no descriptor, slot, map entry, byte.

A short form by default; PBX_RELAY_CYCLES=10000 (`make relay-cycles`) finds a leak of 70 bytes a call.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pbx.relay.v1 import relay_pb2 as pb
from pbx_media_relay.datapath.ebpf import unsupported
from pbx_media_relay.ebpf.maps import Maps
from pbx_media_relay.ebpf.table import Table
from pbx_media_relay.journal import GARBAGE_BYTES_MAX
from support import procfs
from support.redis_server import RedisServer
from support.relay_process import Instance, RelayProcess, endpoint, instance, local, relay_process
from support.relay_rig import Phone, rtp_packet

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("relay")]
A, B = pb.SIDE_A, pb.SIDE_B
CYCLES = int(os.environ.get("PBX_RELAY_CYCLES", "400"))
TALK_EVERY = 200
"""A slot that heard a packet rests for ten seconds: the shard has a hundred."""
GROWTH_MAX = 512 * 1024
"""Bytes that a process may grow after the first quarter, for whatever an allocator does."""
JOURNAL_MAX = GARBAGE_BYTES_MAX + 1024 * 1024


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    mounted = not subprocess.run(["mount", "-t", "bpf", "bpf", tmp_path], capture_output=True, check=False).returncode
    yield tmp_path
    if mounted:
        subprocess.run(["umount", "-l", tmp_path], check=True)


@pytest.fixture
def phones() -> Iterator[tuple[Phone, Phone]]:
    a, b = Phone("127.0.0.1"), Phone("127.0.0.1")
    yield a, b
    a.close()
    b.close()


async def _call(signaling: Instance, number: int, phones: tuple[Phone, Phone], *, is_relayed: bool) -> None:
    a, b = phones
    allocate = pb.AllocateRequest(call_id=f"c{number}", endpoints=[endpoint(A, a), endpoint(B, b)])
    allocated = (await signaling.ask(allocate=allocate)).allocate
    if is_relayed and number % TALK_EVERY == 0:
        a.rtp.send(rtp_packet(number + 1), local(allocated, A))
        assert await b.rtp.receive() == (rtp_packet(number + 1), local(allocated, B))
    released = await signaling.ask(release=pb.ReleaseRequest(call_id=f"c{number}"))
    assert released.HasField("release")


@pytest.mark.parametrize("datapath", ["python", "native", "ebpf", "null"])
async def test_calls_that_come_and_go_leave_nothing(
    redis: RedisServer, pins: Path, phones: tuple[Phone, Phone], datapath: str
) -> None:
    if datapath == "ebpf" and (missing := unsupported()):
        pytest.skip(missing)
    with relay_process(redis, datapath=datapath, environment={"PBX_RELAY_PINS": str(pins)}) as relay:
        assert f'"datapath":"{datapath}"' in relay.log, relay.log
        assert relay.process is not None
        async with instance(relay) as signaling:
            for number in range(CYCLES // 4):
                await _call(signaling, number, phones, is_relayed=datapath != "null")
            before = procfs.memory([relay.process.pid]).rss, procfs.descriptors(relay.process.pid)
            for number in range(CYCLES // 4, CYCLES):
                await _call(signaling, number, phones, is_relayed=datapath != "null")
            after = procfs.memory([relay.process.pid]).rss, procfs.descriptors(relay.process.pid)
            status = (await signaling.stub.GetStatus(pb.GetStatusRequest())).status
            calls = (await signaling.ask(query=pb.QueryRequest())).query.calls
        print(f"{datapath}: {CYCLES} calls, {(after[0] - before[0]) / 1024:.0f} KiB more, {after[1]} descriptors")
        assert len(calls) == 0
        assert after[1] == before[1]
        assert after[0] - before[0] < GROWTH_MAX
        # A port of the range may be another program's: such a slot is out, not lost.
        assert status.slots_free + status.slots_quarantined + status.slots_broken == status.slots_total
        assert sum(file.stat().st_size for file in relay.directory.glob("*.journal")) < JOURNAL_MAX
        if datapath == "ebpf":
            assert _in_the_kernel(pins, relay) == frozenset()


def _in_the_kernel(pins: Path, relay: RelayProcess) -> frozenset[int]:
    """The forwards in the maps that the relay has pinned."""
    (directory,) = pins.glob(f"v*/{relay.relay_id}-*")
    maps = Maps(1, directory)
    try:
        assert maps.is_taken_over
        return Table(maps).ids()
    finally:
        maps.close(forget=False)
