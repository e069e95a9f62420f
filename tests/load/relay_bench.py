"""What a relay's datapath costs: packets through a real relay process, stamped, paced like G.711 at 20 ms.

`PYTHONPATH=tests python -m load.relay_bench --datapath python --calls 10,50,100`. The relay has CPU 0, the load
CPU 1. Both directions of every call are sent; delay is from the stamp in the payload to its reading at the other
phone, so the load generator's own reading is in it. CPU is the relay's tasks by schedstat, without soft interrupts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import select
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pbx.relay.v1 import relay_pb2 as pb
from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.rtp import Header, build
from support.redis_server import redis_server
from support.relay_process import Instance, RelayProcess, relay_process

PTIME_S: Final = 0.02
STAMP: Final = struct.Struct("!Q")
HEADER_BYTES: Final = 12
BODY: Final = bytes(152)
"""With the stamp, 160 octets: G.711 at 20 ms."""
DRAIN_S: Final = 0.5
RECEIVE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Figures:
    """One run."""

    datapath: str
    calls: int
    packets_per_s: float
    """Sent, both directions; below 100 a call where the load generator was the limit."""
    lost_percent: float
    cpu_us_per_packet: float
    delay_p50_ms: float
    delay_p99_ms: float
    delay_p999_ms: float
    setup_cpu_us_per_call: float
    rss_kib_per_call: float


class Leg:
    """One phone's socket and the relay's port that it sends to."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.ssrc = self.sock.fileno()

    def endpoint(self, side: int) -> pb.StreamEndpoint:
        """As signaling tells it."""
        pcmu = pb.PayloadType(number=0, encoding="PCMU", clock_rate_hz=8000)
        address = pb.Address(host="127.0.0.1", port=self.sock.getsockname()[1])
        return pb.StreamEndpoint(side=side, media=pb.MEDIA_AUDIO, rtp=address, payload_types=[pcmu])  # type: ignore[arg-type]

    def send(self, sequence: int) -> None:
        """One stamped packet."""
        head = Header(0, False, sequence, sequence * 160, self.ssrc)
        self.sock.send(build(head, STAMP.pack(time.monotonic_ns()) + BODY))


def cpu_ns(pid: int) -> int:
    """Run time of all tasks of a process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def rss_kib(pid: int) -> int:
    """Resident memory."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


async def set_up(signaling: Instance, count: int) -> list[Leg]:
    """So many calls, both legs connected to the relay's ports."""
    legs = []
    for number in range(count):
        a, b = Leg(), Leg()
        request = pb.AllocateRequest(call_id=f"bench-{number}", endpoints=[a.endpoint(1), b.endpoint(2)])
        result = await signaling.ask(allocate=request)
        if result.HasField("error"):
            raise RuntimeError(result.error.detail)
        for leg, side in ((a, 1), (b, 2)):
            (port,) = [p.rtp_port for p in result.allocate.ports if p.side == side and p.media == pb.MEDIA_AUDIO]
            leg.sock.connect(Endpoint("127.0.0.1", port))
            legs.append(leg)
    return legs


def exchange(legs: list[Leg], seconds: float) -> tuple[int, list[int], float]:
    """Send on all legs every 20 ms, spread over it; answers packets sent, delays in ns and how long it
    took."""
    poll = select.epoll()
    by_descriptor = {leg.sock.fileno(): leg.sock for leg in legs}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    delays: list[int] = []
    began, sent, rounds = time.monotonic(), 0, int(seconds / PTIME_S)
    for sequence in range(rounds):
        for index, leg in enumerate(legs):
            due = began + (sequence + index / len(legs)) * PTIME_S
            wait = due - time.monotonic()
            while wait > 0:
                _read(poll, by_descriptor, delays, wait)
                wait = due - time.monotonic()
            if index % 16 == 0:
                _read(poll, by_descriptor, delays, 0)
            leg.send(sequence)
            sent += 1
    took = time.monotonic() - began
    end = time.monotonic() + DRAIN_S
    while len(delays) < sent and time.monotonic() < end:
        _read(poll, by_descriptor, delays, 0.01)
    poll.close()
    return sent, delays, took


def _read(poll: select.epoll, sockets: dict[int, socket.socket], delays: list[int], wait: float) -> None:
    for descriptor, _ in poll.poll(wait):
        packet = sockets[descriptor].recv(2048)
        delays.append(time.monotonic_ns() - STAMP.unpack_from(packet, HEADER_BYTES)[0])


async def measure(relay: RelayProcess, count: int, seconds: float) -> Figures:
    """One run with so many calls."""
    lease = relay.lease()
    assert lease is not None
    assert relay.process is not None
    pid = relay.process.pid
    signaling = Instance(lease.grpc_address, f"bench{count}")
    cpu_before, rss_before = cpu_ns(pid), rss_kib(pid)
    legs = await set_up(signaling, count)
    set_up_ns, grown_kib = cpu_ns(pid) - cpu_before, rss_kib(pid) - rss_before
    cpu_before = cpu_ns(pid)
    # Blocks this loop on purpose: the session stream is silent meanwhile, and the generator alone has the
    # CPU.
    sent, delays, took = exchange(legs, seconds)
    used_ns = cpu_ns(pid) - cpu_before
    for number in range(count):
        await signaling.ask(release=pb.ReleaseRequest(call_id=f"bench-{number}"))
    await signaling.close()
    for leg in legs:
        leg.sock.close()
    return figures(lease.status.datapath, count, (sent, delays, took), used_ns, (set_up_ns, grown_kib))


def figures(
    datapath: str, count: int, run: tuple[int, list[int], float], used_ns: int, set_up_: tuple[int, int]
) -> Figures:
    """The run in figures."""
    sent, delays, took = run
    ordered = sorted(delays)

    def at(part: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))] / 1e6, 3) if ordered else float("nan")

    return Figures(
        datapath,
        count,
        round(sent / took),
        round(100 * (sent - len(delays)) / sent, 3),
        round(used_ns / 1000 / max(len(delays), 1), 2),
        at(0.5),
        at(0.99),
        at(0.999),
        round(set_up_[0] / 1000 / count, 1),
        round(set_up_[1] / count, 1),
    )


async def run(options: argparse.Namespace) -> list[Figures]:
    """All runs, each with a fresh relay."""
    found = []
    for count in options.calls:
        shard = {"PBX_RELAY_PORTS": "20000-32767", "PBX_RELAY_BIND": "127.0.0.1"}
        with redis_server() as redis, relay_process(redis, datapath=options.datapath, environment=shard) as relay:
            assert relay.process is not None
            pin(relay.process.pid, 0)
            found.append(await measure(relay, count, options.seconds))
            print(line(found[-1]), flush=True)
    return found


def pin(pid: int, cpu: int) -> None:
    """Keep the process on one CPU, where there are two."""
    if len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(pid, {cpu})


def line(each: Figures) -> str:
    """One run for people."""
    return (
        f"{each.datapath:7s} {each.calls:5d} calls {each.packets_per_s:7.0f} packets/s  "
        f"lost {each.lost_percent:6.3f} %  {each.cpu_us_per_packet:6.2f} us CPU/packet  "
        f"delay p50 {each.delay_p50_ms:.3f} p99 {each.delay_p99_ms:.3f} p99.9 {each.delay_p999_ms:.3f} ms  "
        f"set-up {each.setup_cpu_us_per_call:.0f} us, {each.rss_kib_per_call:.1f} KiB/call"
    )


def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--datapath", default="python")
    parser.add_argument("--calls", type=lambda text: [int(part) for part in text.split(",")], default=[10, 50, 100])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    pin(0, 1)
    found: list[Any] = [asdict(each) for each in asyncio.run(run(options))]
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
