"""The relay with the kernel's datapath as a process of its own: killed in mid-call, and with few capabilities."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pbx.relay.v1 import relay_pb2 as pb
from pbx_media_relay.datapath.ebpf import unsupported
from support.redis_server import RedisServer
from support.relay_process import RelayProcess, endpoint, instance, local, relay_process
from support.relay_rig import Phone, rtp_packet

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("relay")]
A, B = pb.SIDE_A, pb.SIDE_B
PERIOD_S = 0.002


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    if missing := unsupported():
        pytest.skip(missing)
    if subprocess.run(["mount", "-t", "bpf", "bpf", tmp_path], capture_output=True, check=False).returncode:
        pytest.skip("CAP_SYS_ADMIN is needed to mount a bpf file system")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


@pytest.fixture
def relay(redis: RedisServer, pins: Path) -> Iterator[RelayProcess]:
    with relay_process(redis, datapath="ebpf", environment={"PBX_RELAY_PINS": str(pins)}) as process:
        assert '"datapath":"ebpf"' in process.log, process.log
        yield process


class Talker(threading.Thread):
    """Sends numbered packets at a steady pace and notes every number that the other side receives."""

    def __init__(self, sender: Phone, receiver: Phone, to: tuple[str, int]) -> None:
        super().__init__()
        self._sender, self._receiver, self._to = sender.rtp.sock, receiver.rtp.sock, to
        self.sent = 0
        self.received: list[int] = []
        self._over = threading.Event()

    def run(self) -> None:
        begin = time.monotonic()
        while not self._over.is_set():
            self.sent += 1
            self._sender.sendto(rtp_packet(self.sent), self._to)
            self._drain()
            time.sleep(max(0.0, begin + self.sent * PERIOD_S - time.monotonic()))

    def stop(self) -> None:
        self._over.set()
        self.join()
        deadline = time.monotonic() + 2
        while len(self.received) < self.sent and time.monotonic() < deadline:
            self._drain()

    def _drain(self) -> None:
        while True:
            try:
                data = self._receiver.recv(2048, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            self.received.append(int.from_bytes(data[2:4], "big"))


async def test_not_one_packet_is_lost_when_the_relay_is_killed_and_comes_back(relay: RelayProcess) -> None:
    a, b = Phone("127.0.0.1"), Phone("127.0.0.1")
    async with instance(relay) as signaling:
        allocate = pb.AllocateRequest(call_id="c1", endpoints=[endpoint(A, a), endpoint(B, b)])
        allocated = (await signaling.ask(allocate=allocate)).allocate
        talkers = [Talker(a, b, local(allocated, A)), Talker(b, a, local(allocated, B))]
        for talker in talkers:
            talker.start()
        await asyncio.sleep(0.5)
        relay.send(signal.SIGKILL)
        relay.wait()
    await asyncio.sleep(1)
    await asyncio.to_thread(relay.start)
    await asyncio.sleep(1)
    async with instance(relay) as signaling:
        for talker in talkers:
            await asyncio.to_thread(talker.stop)
        (call,) = (await signaling.ask(query=pb.QueryRequest(call_id="c1"))).query.calls
        await signaling.ask(release=pb.ReleaseRequest(call_id="c1"))
    for talker, stream in zip(talkers, call.streams, strict=True):
        assert talker.received == list(range(1, talker.sent + 1))
        assert (stream.packets, stream.packets_lost) == (talker.sent, 0)
    a.close()
    b.close()


def test_it_needs_three_capabilities_and_no_more() -> None:
    if missing := unsupported():
        pytest.skip(missing)
    needed = {"bpf", "net_admin", "perfmon"}
    assert _with_only(needed) == ""
    for name in sorted(needed):
        assert "CAP_BPF" in _with_only(needed - {name}), name


def _with_only(capabilities: set[str]) -> str:
    script = "from pbx_media_relay.datapath.ebpf import unsupported; print(unsupported())"
    limits = ["--bounding-set", ",".join(["-all", *(f"+{name}" for name in capabilities)]), "--inh-caps", "-all"]
    ran = subprocess.run(
        ["setpriv", *limits, sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.strip()
