"""The native datapath's C: that Python sees its structs as C does, and its own tests under the sanitizers."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from pbx_media_relay.datapath import native
from pbx_media_relay.datapath.base import Counters, DatapathError, PortInUseError
from pbx_media_relay.datapath.select import UnsupportedError
from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.forward import DropReason, Forward, Side
from support.datapaths import FACTORIES, Unsupported
from support.relay_rig import Rig, Told, receiver_report, rtp_packet, sender_report

HERE = Path(__file__).resolve().parents[3] / "services" / "media-relay" / "native"


@pytest.fixture
def built() -> None:
    try:
        native.library()
    except UnsupportedError as missing:
        pytest.skip(str(missing))


@pytest.mark.usefixtures("built")
def test_structs_have_one_size_on_both_sides() -> None:
    ffi, lib = native.library()
    for which, name in enumerate(("pr_endpoint", "pr_forward", "pr_counters", "pr_event")):
        assert ffi.sizeof(name) == lib.pr_size(which), name
    assert ffi.typeof("pr_counters").fields  # a struct, not an opaque name
    drops = dict(ffi.typeof("pr_counters").fields)["drops"].type
    assert drops.length == len(DropReason)


@pytest.mark.usefixtures("built")
def test_every_counter_crosses() -> None:
    ffi, _ = native.library()
    named = {name for name, _ in ffi.typeof("pr_counters").fields}
    assert named == set(Counters._fields)


@pytest.mark.usefixtures("built")
async def test_a_forward_outside_its_slot_is_refused() -> None:
    datapath = native.NativeDatapath(("127.0.0.1",), (min(os.sched_getaffinity(0)),))
    datapath.start(Told())
    phone = Endpoint("127.0.0.1", 9)
    with pytest.raises(DatapathError):
        datapath.upsert(Forward(id=20500, peer=20502, port=41000, rtp=phone, rtcp=phone))
    for port in range(41000, 60000, 8):
        try:
            datapath.bind(port)
        except PortInUseError:
            continue
        with pytest.raises(DatapathError):
            datapath.upsert(Forward(id=port // 2, peer=port // 2 + 4, port=port, rtp=phone, rtcp=phone))
        break
    datapath.close()
    datapath.close()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["native", "native-sockets"])
async def test_counts_a_random_stream_as_the_oracle_does(seed: int, name: str) -> None:
    """Losses, duplicates, reordering, restarts, SSRC changes, noise, reports: every count equal, clocks apart."""
    found = []
    for each in ("python", name):
        try:
            rig = Rig(FACTORIES[each]())
        except Unsupported as missing:
            pytest.skip(str(missing))
        found.append(await _play(rig, random.Random(seed)))
        rig.close()
    assert found[0] == found[1]


async def _play(rig: Rig, rng: random.Random) -> tuple[object, ...]:
    a, b, attacker = rig.phone(), rig.phone(), rig.socket()
    rig.pair(a, b, clock_rate_hz=0)
    sequence, ssrc, sent = rng.randrange(65536), 1, 0
    for _ in range(300):
        sequence = (sequence + rng.choice((1, 1, 1, 1, 2, 0, -1, -3, 70, -90, 5000))) & 0xFFFF
        ssrc = ssrc + 1 if rng.random() < 0.01 else ssrc
        packet = rtp_packet(sequence, ssrc=ssrc, payload_type=rng.randrange(64))
        packet = rng.choice((packet, packet, packet, packet, packet, packet[: rng.randrange(14)]))
        (attacker if rng.random() < 0.05 else a.rtp).send(packet, rig.local(Side.A))
        report = rng.choice(
            (sender_report(7, ntp=rng.randrange(1 << 64)), receiver_report(7, 8, lost=rng.randrange(-9, 9)))
        )
        a.rtcp.send(
            report[: rng.choice((len(report), len(report), rng.randrange(len(report))))], rig.local(Side.A, rtcp=True)
        )
        sent += 2
        await rig.until(
            Side.A, lambda now, sent=sent: now.packets + now.rtcp_packets + sum(now.drops) - now.drops[2] >= sent
        )
    now = rig.counters(Side.A)
    clocked = {"gap_max_ns", "first_packet_ns", "last_packet_ns", "last_rtcp_ns", "source", "source_rtcp"}
    return tuple(value for name, value in zip(now._fields, now, strict=True) if name not in clocked)


def test_the_c_code_under_the_sanitizers(tmp_path: Path) -> None:
    if not shutil.which("cc") or not shutil.which("make"):
        pytest.skip("no C compiler here")
    made = subprocess.run(
        ["make", "-C", str(HERE), "check", f"OUT={tmp_path}"], capture_output=True, text=True, timeout=110
    )
    assert made.returncode == 0, made.stdout + made.stderr


@pytest.mark.usefixtures("built")
async def test_what_comes_after_the_close_is_harmless() -> None:
    """The relay's ticks and metrics may look once more while the process ends; C must not follow a null pointer."""
    datapath = native.NativeDatapath(("127.0.0.1",), (min(os.sched_getaffinity(0)),))
    datapath.start(Told())
    datapath.close()
    datapath.close()
    datapath.unbind(41000)
    assert datapath.last_heard_ns(41000) == 0
    assert datapath.counters([20500, 20502]) == [Counters(), Counters()]
    assert datapath.remove(20500) == Counters()
    assert (datapath.realtime_threads, datapath.steering_refused) == (0, "")
    with pytest.raises(DatapathError):
        datapath.bind(41000)
    phone = Endpoint("127.0.0.1", 9)
    with pytest.raises(DatapathError):
        datapath.upsert(Forward(id=20500, peer=20502, port=41000, rtp=phone, rtcp=phone))
