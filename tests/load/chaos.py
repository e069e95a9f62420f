"""`make chaos`: a steady load of calls while processes are killed at random; then everything is counted.

Killed with SIGKILL: signaling, events, the relay, Redis (append-only file on) and the receiver of the webhooks; the
supervisor of `sip-pbx up` (the receiver: this program) starts them again. Afterwards, for each call that its caller was
told of:

    exactly one CDR, and it is final; none twice, none for a call that nobody placed
    each event of it was delivered at least once, the first deliveries in the order of its sequence
    no event id came with two contents

What was killed, placed and delivered is printed; the exit code is 1 where one of these does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from load.chaos_phones import Called, Caller, Placed, Station
from support.ports import free_port
from support.product import DOMAIN, UNLIMITED, Product, Settings, accounts

VICTIMS: Final = ("signaling", "events", "media-relay", "redis", "receiver")
PAUSE_S: Final = (2.0, 6.0)
"""Between two kills: shorter than some recoveries, so that they meet."""
SETTLE_S: Final = 150.0
"""Until all is accounted for: a lease, the reaper's grace, and the third step of the webhook back-off."""
POLL_S: Final = 2.0


@dataclass(slots=True)
class Report:
    """What happened, and what was found afterwards."""

    killed: Counter[str] = field(default_factory=Counter)
    placed: list[Placed] = field(default_factory=list)
    cdrs: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    deliveries: list[dict[str, Any]] = field(default_factory=list)

    def findings(self) -> list[str]:
        """Every promise that was broken; empty where all were kept."""
        return [*self._cdr_findings(), *self._delivery_findings()]

    def _cdr_findings(self) -> list[str]:
        found = Counter(_sip_call_id(cdr) for cdr in self.cdrs)
        known = {placed.call_id for placed in self.placed}
        wrong = [f"{count} CDRs of call {call_id}" for call_id, count in found.items() if count > 1]
        wrong += [f"a CDR of {call_id}, which nobody placed" for call_id in found if call_id not in known]
        wrong += [
            f"no CDR of {placed.call_id}, whose caller was told {placed.status}"
            for placed in self.placed
            if placed.is_certain and placed.call_id not in found
        ]
        wrong += [f"CDR {cdr['id']} is not final" for cdr in self.cdrs if cdr["ended_at"] is None]
        return wrong

    def _delivery_findings(self) -> list[str]:
        contents: dict[str, dict[str, Any]] = {}
        last: dict[str, int] = {}
        wrong = []
        for delivery in self.deliveries:
            key, body = delivery["id"], delivery["body"]
            if key in contents:
                if contents[key] != body:
                    wrong.append(f"event {key} with two contents")
                continue
            contents[key] = body
            call_id, sequence = body["data"]["call_id"], body["data"]["sequence"]
            if sequence < last.get(call_id, 0):
                wrong.append(f"event {sequence} of call {call_id} after event {last[call_id]}")
            last[call_id] = sequence
        missing = [event for event in self.events if event["id"] not in contents]
        wrong += [f"event {event['id']} of call {event['data'].get('call_id')} was not delivered" for event in missing]
        return wrong

    def text(self) -> str:
        """For a reader."""
        told = Counter(placed.status for placed in self.placed)
        origins = Counter(f"{cdr['outcome']}/{cdr['origin']}" for cdr in self.cdrs)
        again = len(self.deliveries) - len({delivery["id"] for delivery in self.deliveries})
        lines = [
            "killed      " + ", ".join(f"{name} {count}" for name, count in sorted(self.killed.items())),
            f"placed      {len(self.placed)} calls; callers were last told "
            + ", ".join(f"{status or 'nothing'}: {count}" for status, count in sorted(told.items())),
            f"CDRs        {len(self.cdrs)}; " + ", ".join(f"{key} {count}" for key, count in sorted(origins.items())),
            f"events      {len(self.events)}; deliveries {len(self.deliveries)}, {again} of them repeated",
        ]
        wrong = self.findings()
        lines += [f"BROKEN      {finding}" for finding in wrong[:20]]
        lines.append(f"{len(wrong)} promises broken" if wrong else "every call has one final CDR, every event arrived")
        return "\n".join(lines)


def _sip_call_id(cdr: dict[str, Any]) -> str:
    return next((str(leg["sip_call_id"]) for leg in cdr["legs"] if leg["side"] == "caller"), "")


class Receiver:
    """The webhook receiver: a process of its own on one port, with one file."""

    def __init__(self, file: Path) -> None:
        self.port = free_port()
        self.file = file
        file.touch()
        self._process = self._start()

    @property
    def url(self) -> str:
        """Where to deliver."""
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def pid(self) -> int:
        """Of the process that listens now."""
        return self._process.pid

    def deliveries(self) -> list[dict[str, Any]]:
        """All that was answered, in order; the last line of a killed receiver may be half."""
        found = []
        for line in self.file.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return found

    async def kill(self, away_s: float) -> None:
        """SIGKILL, and back after a while."""
        self.stop()
        await asyncio.sleep(away_s)
        with self.file.open("rb+") as file:
            # A half line would swallow the next one.
            data = file.read()
            file.truncate(data.rfind(b"\n") + 1)
        self._process = self._start()

    def stop(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "load.receiver", str(self.port), str(self.file)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)  # tracebacks of broken connections


async def kill_at_random(product: Product, receiver: Receiver, killed: Counter[str], until_s: float) -> None:
    """One victim after the other."""
    loop = asyncio.get_running_loop()
    while loop.time() < until_s - PAUSE_S[1]:
        await asyncio.sleep(random.uniform(*PAUSE_S))
        victim = random.choice(VICTIMS)
        if victim == "receiver":
            await receiver.kill(random.uniform(0.1, 3.0))
        else:
            with contextlib.suppress(KeyError, ProcessLookupError):  # not back yet from the last time
                os.kill(await asyncio.to_thread(product.pid_of, victim), signal.SIGKILL)
        killed[victim] += 1


async def load(product: Product, receiver: Receiver, report: Report, seconds: float, rate: float) -> None:
    """Calls at a steady rate, and kills, for so long; then lets the calls end."""
    loop = asyncio.get_running_loop()
    stations = [
        (await loop.create_datagram_endpoint(lambda: Station(product.sip), local_addr=("127.0.0.1", 0)))[1]
        for _ in range(2)
    ]
    called = Called(stations[1], product.credentials("1008"), DOMAIN)
    assert await called.register()
    answering = asyncio.ensure_future(called.run())
    caller = Caller(stations[0], product.credentials("1004"), "1008", DOMAIN, report.placed)
    end = loop.time() + seconds
    async with asyncio.TaskGroup() as group:
        group.create_task(kill_at_random(product, receiver, report.killed, end))
        while loop.time() < end:
            group.create_task(caller.call())
            await asyncio.sleep(random.expovariate(rate))
    answering.cancel()
    await asyncio.wait({answering})
    for station in stations:
        station.close()


def _all(product: Product, path: str, **query: str | int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = product.get(path, limit=1000, **query)
        found += page["items"]
        if not page["next"]:
            return found
        query["cursor"] = page["next"]


def account(product: Product, receiver: Receiver, report: Report) -> bool:
    """Reads everything; whether nothing is missing any more."""
    with contextlib.suppress(OSError, AssertionError):  # events is being started again
        report.cdrs = _all(product, "/v1/cdrs")
        report.events = [event for event in _all(product, "/v1/events") if event["type"].startswith("io.pbx.call.")]
        report.deliveries = receiver.deliveries()
        return not report.findings()
    return False


def chaos(seconds: float, rate: float, settle_s: float = SETTLE_S, relay_ports: int = 8000) -> Report:
    """A whole run: product and receiver started, load, kills, account."""
    report = Report()
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        receiver = Receiver(Path(directory) / "deliveries.jsonl")
        settings = Settings(accounts(2), relay_ports=relay_ports, environment=UNLIMITED)
        try:
            with Product(settings) as product:
                product.post("/v1/webhooks", {"url": receiver.url, "types": ["call.*"]})
                asyncio.run(load(product, receiver, report, seconds, rate))
                deadline = time.monotonic() + settle_s
                while not account(product, receiver, report) and time.monotonic() < deadline:
                    time.sleep(POLL_S)
        finally:
            receiver.stop()
    return report


def main(arguments: Sequence[str]) -> int:
    """Run, print."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long calls are placed and processes killed")
    parser.add_argument("--rate", type=float, default=10.0, help="calls per second")
    parser.add_argument("--seed", type=int, default=None, help="of the times and victims")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else int(time.time())
    random.seed(seed)
    print(f"seed {seed}, {options.seconds:g} s at {options.rate:g} calls/s", flush=True)
    report = chaos(options.seconds, options.rate)
    print(report.text())
    return 1 if report.findings() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
