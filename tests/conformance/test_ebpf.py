"""What only the kernel's datapath has: that the kernel does it, pins, slow forwards, the program's test run."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pbx_media_relay.datapath.base import Counters
from pbx_media_relay.datapath.ebpf import EbpfDatapath, make_over
from pbx_media_relay.datapath.python import PythonDatapath
from pbx_media_relay.ebpf import network
from pbx_media_relay.forward import DropReason, Side
from support.datapaths import BIND_HOSTS, Unsupported, ebpf
from support.relay_rig import Rig, receiver_report, rtp_packet


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    try:
        made = Rig(ebpf())
    except Unsupported as missing:
        pytest.skip(str(missing))
    yield made
    made.close()


def above(rig: Rig) -> EbpfDatapath:
    assert isinstance(rig.datapath, EbpfDatapath)
    return rig.datapath


def below(rig: Rig, side: Side) -> Counters:
    return above(rig).lower.counters([rig.id(side)])[0]


@pytest.mark.parametrize(("host_a", "host_b"), [("127.0.0.1", "127.0.0.1"), ("::1", "127.0.0.1"), ("127.0.0.1", "::1")])
async def test_plain_packets_never_reach_user_space(rig: Rig, host_a: str, host_b: str) -> None:
    a, b = rig.phone(host_a), rig.phone(host_b)
    rig.pair(a, b)
    a.rtp.send(rtp_packet(1), rig.local(Side.A, host=host_a))
    await b.rtp.receive()
    b.rtcp.send(receiver_report(1, 2), rig.local(Side.B, rtcp=True, host=host_b))
    await a.rtcp.receive()
    assert (rig.counters(Side.A).packets, rig.counters(Side.B).rtcp_packets) == (1, 1)
    assert below(rig, Side.A) == below(rig, Side.B) == Counters()


async def test_a_tapped_call_goes_through_user_space_and_back_with_its_latch(rig: Rig) -> None:
    a, b, nat = rig.phone(), rig.phone(), rig.socket()
    window = rig.open_window()
    rig.pair(a, b, latch_until_ns=window)
    nat.send(rtp_packet(1), rig.local(Side.A))
    await b.rtp.receive()
    rig.pair(a, b, latch_until_ns=window, tap=True)
    nat.send(rtp_packet(2), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(2)
    b.rtp.send(rtp_packet(7), rig.local(Side.B))
    assert (await nat.receive())[0] == rtp_packet(7)
    assert below(rig, Side.A).packets == 1
    rig.pair(a, b, latch_until_ns=window)
    nat.send(rtp_packet(3), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(3)
    assert (rig.counters(Side.A).packets, below(rig, Side.A).packets) == (3, 1)
    assert rig.told.taps == [rtp_packet(2), rtp_packet(7)]


async def test_what_user_space_latched_the_kernel_knows_afterwards(rig: Rig) -> None:
    a, b, nat = rig.phone(), rig.phone(), rig.socket()
    window = rig.open_window()
    rig.pair(a, b, latch_until_ns=window, tap=True)
    nat.send(rtp_packet(1), rig.local(Side.A))
    await b.rtp.receive()
    rig.pair(a, b, latch_until_ns=0)
    nat.send(rtp_packet(2), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(2)
    b.rtp.send(rtp_packet(5), rig.local(Side.B))
    assert (await nat.receive())[0] == rtp_packet(5)
    assert below(rig, Side.A).packets == 1
    assert rig.told.first[0] == (rig.id(Side.A), nat.endpoint)


async def test_a_packet_longer_than_the_path_is_left_to_the_socket(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()
    set_loopback_mtu(1300)
    above(rig)._look(0)
    rig.pair(a, b)
    packet = rtp_packet(1) + bytes(1400)
    a.rtp.send(packet, rig.local(Side.A))
    assert (await b.rtp.receive())[0] == packet
    assert below(rig, Side.A).packets == 1


async def test_a_flood_of_noise_stays_in_the_kernel(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()
    rig.pair(a, b)
    for _ in range(1000):
        a.rtp.send(b"noise", rig.local(Side.A))
    await rig.dropped(Side.A, DropReason.MALFORMED, 1000)
    assert below(rig, Side.A).drops[DropReason.MALFORMED] <= 150


async def test_ten_thousand_cycles_leave_no_place_taken(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()
    table = above(rig)._table
    free = len(table._free)
    for _ in range(10_000):
        rig.pair(a, b)
        for side in Side:
            rig.datapath.remove(rig.id(side))
    assert (len(table), len(table._free)) == (0, free)
    assert all(not any(above(rig)._maps.lookup("places", rig.id(side), 8)) for side in Side)


async def test_an_interface_that_appears_is_served_and_one_that_goes_is_forgotten(rig: Rig) -> None:
    run("ip link add one type veth peer name two")
    run("ip address add 192.0.2.1/24 dev one")
    for name in ("one", "two"):
        run(f"ip link set {name} up")
    above(rig)._look(0)
    served = above(rig)._links.interfaces
    (index,) = [each for each, host in network.addresses() if host == "192.0.2.1"]
    assert index in served
    run("ip link delete one")
    above(rig)._look(0)
    assert index not in above(rig)._links.interfaces


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    if subprocess.run(["mount", "-t", "bpf", "bpf", tmp_path], capture_output=True, check=False).returncode:
        pytest.skip("CAP_SYS_ADMIN is needed to mount a bpf file system")
    yield tmp_path / "relay"
    subprocess.run(["umount", "-l", tmp_path], check=True)


async def test_forwards_outlive_the_datapath_and_are_taken_over(rig: Rig, pins: Path) -> None:
    a, b, nat = rig.phone(), rig.phone(), rig.socket()
    first = make_over(PythonDatapath(BIND_HOSTS), BIND_HOSTS, pins=pins)
    assert first.start(rig.told) == frozenset()
    window = rig.open_window()
    forwards = [rig.forward(Side.A, a, latch_until_ns=window), rig.forward(Side.B, b, latch_until_ns=window)]
    for forward in forwards:
        first.upsert(forward)
    nat.send(rtp_packet(1), rig.local(Side.A))
    await b.rtp.receive()
    first.close()
    nat.send(rtp_packet(2), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(2)
    second = make_over(PythonDatapath(BIND_HOSTS), BIND_HOSTS, pins=pins)
    assert second.start(rig.told) == {rig.id(Side.A), rig.id(Side.B)}
    for forward in forwards:
        second.upsert(dataclasses.replace(forward))
    nat.send(rtp_packet(3), rig.local(Side.A))
    assert (await b.rtp.receive())[0] == rtp_packet(3)
    b.rtp.send(rtp_packet(4), rig.local(Side.B))
    assert (await nat.receive())[0] == rtp_packet(4)
    (counters,) = second.counters([rig.id(Side.A)])
    assert (counters.packets, counters.lost, counters.source) == (3, 0, nat.endpoint)
    for forward in forwards:
        second.remove(forward.id)
    second.close()
    assert is_gone(pins)


def is_gone(path: Path) -> bool:
    return not path.exists()


def run(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True)


def set_loopback_mtu(mtu: int) -> None:
    run(f"ip link set lo mtu {mtu}")


async def test_nothing_is_relayed_for_a_process_that_is_long_gone(rig: Rig) -> None:
    a, b = rig.phone(), rig.phone()
    rig.pair(a, b)
    above(rig)._maps.live_until(1)
    a.rtp.send(rtp_packet(1), rig.local(Side.A))
    await b.rtp.receive()
    assert below(rig, Side.A).packets == 1
