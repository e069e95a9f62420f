"""`make soak`: many simultaneous calls with RTP both ways through the relay; nothing lost, nothing left over.

With more calls than `AT_ONCE_MAX` they are short ones, one after the other, without RTP: see `endurance`.

Sequence numbers tell every lost packet. A first round of short calls fills what is made once (connections,
caches, arenas), so that the memory afterwards is compared with that of a product that has worked.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from load.endurance import Endurance, endure, wake_readers
from load.endurance import print_report as print_endurance
from support import procfs, rtp
from support.call import Call, establish
from support.phone import Phone
from support.product import UNLIMITED, Product, Settings, accounts

AT_ONCE_MAX = 1_000
"""Calls with RTP that this machine's load generator plays at once."""
RATE = 65.0
"""Calls per second of the long form: well within what two cores carry, and 100 000 of them in half an hour."""
OUTPUT = Path("build/soak.json")
MEMORY_GROWTH = 0.05
_PORTS_PER_CALL = 8


@dataclass(slots=True)
class Report:
    """What was seen."""

    calls: int
    seconds: float
    sent: int = 0
    lost: int = 0
    disordered: int = 0
    cdrs: int = 0
    slots_used_during: int = 0
    rss_before: dict[str, int] = field(default_factory=dict)
    rss_after: dict[str, int] = field(default_factory=dict)
    cpu_ms_per_s: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def soak(product: Product, calls: int, seconds: float) -> Report:
    """One soak; what is wrong stands in `faults`."""
    report = Report(calls, seconds)
    with product.phone("1004") as caller, product.phone("1008") as callee:
        assert callee.register().status == 200
        _round(product, caller, callee, calls, 0.5)
        wake_readers(product)
        time.sleep(1)
        report.rss_before = _rss(product)
        earlier = len(product.cdrs_of(calls))
        streams = _round(product, caller, callee, calls, seconds, report)
    for near, far in zip(streams[::2], streams[1::2], strict=True):
        report.sent += near.sent + far.sent
        report.lost += near.lost_from(far) + far.lost_from(near)
        report.disordered += near.disordered() + far.disordered()
    product.assert_all_released()
    report.cdrs = len(product.cdrs_of(earlier + calls)) - earlier
    report.rss_after = _rss(product)
    _judge(report)
    return report


def _round(
    product: Product, caller: Phone, callee: Phone, calls: int, seconds: float, report: Report | None = None
) -> list[rtp.Stream]:
    streams, up = list[rtp.Stream](), list[Call]()
    for _ in range(calls):
        near, far = rtp.Stream(), rtp.Stream()
        call = establish(caller, callee, caller_port=near.port, callee_port=far.port)
        near.remote = (product.sip[0], call.relay_port())
        far.remote = (product.sip[0], call.relay_port(of_callee=True))
        streams += [near, far]
        up.append(call)
    before = _cpu(product)
    rtp.play(streams, seconds)
    if report:
        report.slots_used_during = product.slots_used()
        report.cpu_ms_per_s = {name: (s - before[name]) * 1000 / seconds for name, s in _cpu(product).items()}
    for index, call in enumerate(up):
        call.hang_up(by_callee=bool(index % 2))
    product.assert_all_released()
    for stream in streams:
        stream.close()
    return streams


def _judge(report: Report) -> None:
    if report.lost or report.disordered:
        report.faults.append(f"{report.lost} packets lost, {report.disordered} out of order or twice")
    if report.cdrs != report.calls:
        report.faults.append(f"{report.cdrs} CDRs of {report.calls}")
    if report.slots_used_during != report.calls:
        report.faults.append(f"{report.slots_used_during} slots in use during {report.calls} calls")
    for name, before in report.rss_before.items():
        growth = report.rss_after[name] / before - 1
        if growth > MEMORY_GROWTH:
            report.faults.append(f"{name}: memory grew by {growth:.1%}")


def _rss(product: Product) -> dict[str, int]:
    return {process.name: procfs.memory([process.pid]).rss for process in product.processes}


def _cpu(product: Product) -> dict[str, float]:
    return {process.name: procfs.cpu_seconds([process.pid]) for process in product.processes}


def print_report(report: Report) -> None:
    """A line for the packets, one for each process, one for each fault."""
    print(f"{report.calls} calls for {report.seconds:g} s, {report.cdrs} CDRs")
    print(f"  {report.sent} packets, {report.lost} lost, {report.disordered} out of order or twice")
    for name, before in report.rss_before.items():
        after = report.rss_after[name]
        memory = f"{before >> 10:8d} -> {after >> 10:8d} KiB {after / before - 1:+6.1%}"
        print(f"  {name:16s} {memory}  {report.cpu_ms_per_s[name]:6.1f} CPU ms/s")
    for fault in report.faults:
        print(f"FAULT: {fault}")


def main(arguments: list[str]) -> int:
    """Run one soak, print and write the report; 1 when something was lost or left over."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--calls", type=int, default=100, help=f"beyond {AT_ONCE_MAX}: one after the other")
    parser.add_argument("--seconds", type=float, default=60, help="of calls with RTP")
    parser.add_argument("--rate", type=float, default=RATE, help=f"of calls per second, beyond {AT_ONCE_MAX} calls")
    parser.add_argument("--json", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    if options.calls > AT_ONCE_MAX:
        endurance = endure(options.calls, options.rate)
        _write(options.json, endurance)
        print_endurance(endurance)
        return 1 if endurance.faults else 0
    ports = 3 * options.calls * _PORTS_PER_CALL  # two rounds within one quarantine, and room
    with Product(Settings(accounts(0), relay_ports=ports, environment=UNLIMITED)) as product:
        report = soak(product, options.calls, options.seconds)
    _write(options.json, report)
    print_report(report)
    return 1 if report.faults else 0


def _write(path: Path, report: Report | Endurance) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
