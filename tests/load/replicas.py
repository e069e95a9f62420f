"""`make bench-replicas`: what several signaling processes at one address reach, and what their ways to each other cost.

Each process is held to a share of a core by a cgroup, so that a small machine shows what a large one gains: calls/s
without a failed call with one process and with more of them. The load comes from a port a call, as phones do, and is
answered by one port, so every message of a callee would reach one process if the kernel looked at its source alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, cast

import grpc.aio
import uvloop

from load import run, servers
from load.run import Result
from load.search import highest_rate
from load.servers import Server
from pbx.signaling.v1 import signaling_pb2_grpc
from pbx_cli.up.shared_ports import SharedPorts
from pbx_cli.up.sip_ports import SipPort
from pbx_runtime.address import Listen
from pbx_runtime.redis_pipe import PipelinedRedis
from pbx_signaling.api.peer_link import PeerLinkService
from pbx_signaling.clients.peers import Peers
from pbx_signaling.clients.siblings import Siblings
from pbx_signaling.replicas.peering import Carriage
from pbx_sip.address import Flow, HostPort, Transport
from support import cgroup
from support.ports import free_port

OUTPUT = Path("build/replicas.json")
SHARE: Final = 0.25
PROCESSES: Final = (1, 2, 4)
MESSAGES: Final = 20_000
FIRST_RATE: Final = 20.0
"""Calls/s that one process of a quarter of a core surely carries."""
UDP: Final = Flow(Transport.UDP, HostPort("192.0.2.1", 5060), "udp4")
REST: Final = "From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n" + "X: " + "x" * 500


def response(instance: str) -> bytes:
    """As a phone answers."""
    via = f"SIP/2.0/UDP 127.0.0.1:5060;rport=5060;branch=z9hG4bK{instance}.0123456789abcdef"
    return f"SIP/2.0 180 Ringing\r\nVia: {via}\r\n{REST}\r\n\r\n".encode()


def ways() -> dict[str, float]:
    """Microseconds of CPU of one message by each way to its process, both sides together, this process alone."""
    plain, steered = (min(_kernel(steer) for _ in range(3)) for steer in (False, True))
    return {
        "kernel_program": steered - plain,
        "datagram": min(uvloop.run(_datagrams()) for _ in range(3)),
        "grpc": min(uvloop.run(_grpc()) for _ in range(3)),
    }


def _kernel(steer: bool) -> float:
    """A datagram to a group of four sockets and out of it."""
    listen = Listen("127.0.0.1", free_port())
    ports = SharedPorts([SipPort("udp", listen)], 4, steer=steer)
    try:
        shares = ports.shares
        sockets = [socket.socket(fileno=socket.dup(share.descriptors[1])) for share in shares]
        data, address = response(shares[2].instance), (listen.host, listen.port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone, contextlib.ExitStack() as stack:
            for each in sockets:
                stack.enter_context(each)
            phone.sendto(data, address)
            taking = next(each for each in sockets if _has(each))
            began = time.process_time()
            for _ in range(MESSAGES):
                phone.sendto(data, address)
                taking.recv(65_535)
            return (time.process_time() - began) / MESSAGES * 1e6
    finally:
        ports.close()


def _has(taking: socket.socket) -> bool:
    try:
        return bool(taking.recv(65_535))
    except BlockingIOError:
        return False


async def _datagrams() -> float:
    """Handed over one at a time, each with a wake-up of the loop that takes it in."""
    with tempfile.TemporaryDirectory() as directory:
        places = {name: f"{directory}/{name}" for name in ("abcd00", "abcd01")}
        arrived = asyncio.Event()
        one, other = (
            Siblings(name, places, lambda frame: arrived.set(), lambda flow: None, lambda name: None) for name in places
        )
        other.open()
        one.open()
        data = response("abcd01")
        spent = await _timed(lambda: one.carry("abcd01", Carriage.RECEIVED, data, UDP), arrived)
        one.close()
        other.close()
        return spent


class _Leases:
    """Knows one."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def submit(self, *command: str) -> bytes:
        """The lease that is asked for."""
        return self._address.encode()


async def _grpc() -> float:
    """The same over the stream between replicas that have addresses of their own."""
    arrived, tasks = asyncio.Event(), []
    with tempfile.TemporaryDirectory() as directory:
        server = grpc.aio.server()
        signaling_pb2_grpc.add_PeerLinkServiceServicer_to_server(PeerLinkService(lambda *item: arrived.set()), server)
        server.add_insecure_port(f"unix:{directory}/link.sock")
        await server.start()
        redis = cast("PipelinedRedis", _Leases(f"unix:{directory}/link.sock"))
        peers = Peers("s1", redis, lambda flow: None, lambda link, name: tasks.append(asyncio.ensure_future(link)))
        data = response("s2")
        try:
            return await _timed(lambda: peers.carry("s2", Carriage.RECEIVED, data, UDP), arrived)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await server.stop(1.0)


async def _timed(carry: Callable[[], None], arrived: asyncio.Event) -> float:
    """Microseconds a message, each after the one before has arrived."""
    count = MESSAGES // 10
    for step in range(count + 100):
        if step == 100:
            began = time.process_time()
        arrived.clear()
        carry()
        await arrived.wait()
    return (time.process_time() - began) / count * 1e6


@contextlib.contextmanager
def processes(count: int, share: float, **environment: str) -> Iterator[Server]:
    """The product with so many signaling processes, each held to a share of a core."""
    with servers.ours(replicas=count, **environment) as server, contextlib.ExitStack() as stack:
        for name, pids in server.pids().items():
            if name.startswith("signaling"):
                stack.enter_context(cgroup.held(name, pids, share))
        yield server


def measure(count: int, options: argparse.Namespace, **environment: str) -> dict[str, Any]:
    """Calls/s of so many processes, and the CPU of a call in them."""
    with processes(count, options.share, **environment) as server, run.Called(server):
        search = highest_rate(
            lambda rate: _logged(run.calls(server, rate, options.seconds, many_ports=True)),
            first=FIRST_RATE * count * options.share / SHARE,
            ceiling=options.ceiling,
        )
        figures: dict[str, Any] = {"per_s": round(search.rate, 1), "generator_bound": search.generator_bound}
        if search.confirmed:
            result = search.confirmed[-1]
            signaling = {name: ms for name, ms in result.cpu_ms.items() if name.startswith("signaling")}
            figures["signaling_ms"] = round(sum(signaling.values()), 3)
            figures["all_ms"] = round(result.cpu_ms_all, 3)
            figures["shares"] = [round(ms * search.rate / 1000, 3) for ms in signaling.values()]
        figures["misdirected"] = _misdirected(server)
    return figures


def _misdirected(server: Server) -> float:
    assert server.product is not None
    names = [name for name in server.pids() if name.startswith("signaling")]
    return sum(server.product.metrics(name).sum("pbx_signaling_misdirected_total") for name in names)


def _logged(result: Result) -> Result:
    verdict = "ok" if result.passed else f"FAILED: {result.reason}"
    signaling = [ms * result.rate / 1000 for name, ms in result.cpu_ms.items() if name.startswith("signaling")]
    shares = " ".join(f"{share:.0%}" for share in signaling)
    print(f"  {result.rate:7.1f}/s  all {result.server_share:4.0%}  signaling {shares}  load {result.load_share:4.0%}  "
          f"{verdict}", file=sys.stderr, flush=True)  # fmt: skip
    return result


def table(report: dict[str, Any]) -> str:
    """The figures as text."""
    lines = ["one message to its process, CPU of both sides:"]
    lines += [f"  {way:18s}{us:9.2f} us" for way, us in report.get("ways_us", {}).items()]
    lines.append(f"signaling processes, each held to {report['share']:g} of a core:")
    one = report["processes"].get("1", {}).get("per_s")
    for name, figures in report["processes"].items():
        ratio = f"{figures['per_s'] / one:5.2f}x" if one else ""
        ms = f"{figures['signaling_ms']:6.3f} ms signaling" if "signaling_ms" in figures else ""
        strays = f"{figures['misdirected']:.0f} misdirected"
        lines.append(f"  {name:12s}{figures['per_s']:8.1f} calls/s {ratio}  {ms}  {strays}")
    return "\n".join(lines)


def report_of(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that is measured here."""
    report: dict[str, Any] = {"share": options.share, "ways_us": ways(), "processes": {}}
    for count in options.processes:
        print(f"{count} signaling processes:", file=sys.stderr, flush=True)
        report["processes"][str(count)] = measure(count, options)
    if options.unsteered:
        print("2 signaling processes, handing over:", file=sys.stderr, flush=True)
        report["processes"]["2 unsteered"] = measure(2, options, PBX_SIP_STEERING="0")
    return report


def parser(**defaults: Any) -> argparse.ArgumentParser:
    """Its options."""
    made = argparse.ArgumentParser(prog="make bench-replicas", description=__doc__)
    made.add_argument("--processes", type=int, nargs="+", default=list(PROCESSES))
    made.add_argument("--share", type=float, default=SHARE, help="of a core that each signaling process gets")
    made.add_argument("--seconds", type=float, default=6.0, help="load time of one run")
    made.add_argument("--ceiling", type=float, default=3000, help="highest rate tried, calls/s")
    made.add_argument("--unsteered", action="store_true", help="also two that the kernel picks by the source alone")
    made.add_argument("--json", type=Path, default=OUTPUT)
    made.set_defaults(**defaults)
    return made


def main(arguments: list[str]) -> int:
    """Measure, print, write."""
    options = parser().parse_args(arguments)
    report = report_of(options)
    print(table(report))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
