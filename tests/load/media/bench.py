"""`make bench-media`: the same RTP streams through every relay, side by side; table and build/bench-media.json.

Per relay: delay and CPU per packet at 100 and 1000 calls paced, the highest rate with less than 0.1 % lost (or later
than 100 ms), memory and set-up cost per call; each as a ratio to rtpengine in user space. Needs root, ip and a C
compiler; CPU of softirqs outside of the relay's process is added where clang and libbpf can build its counter.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from load.media import rtpengine
from load.media.relays import RELAYS, Missing, Running
from load.media.topology import LOAD_CORE, RELAY_CORE, Topology

HERE = Path(__file__).resolve().parent
BUILD = Path("build/bench-media")
LOSS_MAX = 0.001
STEP_S = 1.0
RESOLUTION = 1.04
"""Of the search for the highest rate: noise between two steps is larger."""
PACKETS_PER_CALL = 100
"""A second: two directions of 20 ms packets."""
SEARCH = {"python": (8e3, 80e3), "rtpengine": (15e3, 200e3), "native": (20e3, 300e3)}
KERNEL_SEARCH = (100e3, 1e6)
HIGH = 30e3
"""Packets a second at which the CPU of every user-space relay is compared near its limit."""


def build() -> bool:
    """Compile the generator, and the softirq counter where that is possible: whether it is."""
    BUILD.mkdir(parents=True, exist_ok=True)
    warn = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *warn, "-o", BUILD / "rtpload", HERE / "rtpload.c"], check=True)
    target = ["clang", "-O2", "-g", "-target", "bpf", f"-I/usr/include/{os.uname().machine}-linux-gnu", "-c"]
    commands = [
        [*target, HERE / "softirq.bpf.c", "-o", BUILD / "softirq.o"],
        ["cc", *warn, "-o", BUILD / "softirq", HERE / "softirq.c", "-lbpf"],
    ]
    return bool(shutil.which("clang")) and all(
        not subprocess.run(one, capture_output=True).returncode for one in commands
    )


class SoftirqTime:
    """Network softirq time on the relay's core outside of one process, in ns; None where it cannot be counted."""

    def __init__(self, pid: int, possible: bool) -> None:
        self._process: subprocess.Popen[str] | None = None
        if possible:
            command = [BUILD / "softirq", BUILD / "softirq.o", str(pid), str(RELAY_CORE)]
            made = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert made.stdout is not None
            if made.stdout.readline().strip() == "ready":
                self._process = made
            else:
                made.wait()

    def read(self) -> int | None:
        """So far."""
        if self._process is None:
            return None
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the counter."""
        if self._process is not None:
            self._process.communicate()


def run_time_ns(pid: int) -> int:
    """CPU time of all threads of a process (schedstat; exact, unlike the tick-sampled /proc/PID/stat)."""
    if not pid:
        return 0
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


def blast(running: Running, calls: int, pps: float, seconds: float) -> dict[str, Any]:
    """One run of the generator; what it printed."""
    legs = BUILD / "legs"
    legs.write_text("\n".join(running.lines[: 2 * calls]) + "\n", encoding="ascii")
    command = ["chrt", "-f", "5", BUILD / "rtpload", legs, str(pps), str(seconds), str(LOAD_CORE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    found["loss"] = 1 - (found["received"] - found["late"]) / max(found["sent"], 1)
    return found


def paced(running: Running, calls: int, pps: float, seconds: float, count_softirqs: bool) -> dict[str, Any]:
    """Delay and CPU per packet at one rate."""
    softirqs = SoftirqTime(running.pid, count_softirqs)
    before, outside = run_time_ns(running.pid), softirqs.read()
    found = blast(running, calls, pps, seconds)
    used, later = run_time_ns(running.pid) - before, softirqs.read()
    softirqs.close()
    # The warm-up's packets cost too; the counters bracket the whole run.
    packets = found["received"] * (seconds + 0.3) / seconds
    extra = (later - outside) if later is not None and outside is not None else 0
    found["cpu_ns"] = (used + extra) / max(packets, 1)
    return found


def highest_rate(running: Running, calls: int, low: float, high: float) -> float:
    """Packets a second that pass with less than LOSS_MAX lost or late; bisection, 0 where not even `low` / 4 does."""
    best = 0.0
    if blast(running, calls, low, STEP_S)["loss"] > LOSS_MAX:
        low, high = low / 4, low
    while high / low > RESOLUTION:
        rate = math.sqrt(low * high)
        found = blast(running, calls, rate, STEP_S)
        passed = found["loss"] <= LOSS_MAX
        if passed:
            best = max(best, found["pps"])
        if passed and found["pps"] > 0.98 * rate:
            low = rate
        else:
            high = rate
    return best


def measure(name: str, options: argparse.Namespace, softirqs: bool) -> dict[str, Any]:
    """All figures of one relay, once."""
    with Topology(), RELAYS[name](options.calls) as running:
        found: dict[str, Any] = {"setup_us": running.setup_us, "kib_per_call": running.kib_per_call}
        for calls in (100, options.calls):
            one = paced(running, calls, calls * PACKETS_PER_CALL, options.seconds, softirqs)
            found |= {f"{key}@{calls}": one[key] for key in ("p50_us", "p99_us", "p999_us", "loss", "cpu_ns")}
            if one["misdelivered"]:
                raise RuntimeError(f"{name}: {one['misdelivered']} packets at the wrong phone")
        found["cpu_ns@high"] = paced(running, options.calls, HIGH, options.seconds, softirqs)["cpu_ns"]
        found["highest_pps"] = highest_rate(running, options.calls, *SEARCH.get(name, KERNEL_SEARCH))
    return found


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure over the rounds."""
    figures = {key: [one[key] for one in rounds if one[key] is not None] for key in rounds[0]}
    return {key: statistics.median(values) if values else None for key, values in figures.items()}


def table(results: dict[str, dict[str, Any]], calls: int) -> str:
    """Lines for people: every figure, and its ratio to rtpengine in brackets."""
    rows = ["highest_pps", "cpu_ns@100", f"cpu_ns@{calls}", "cpu_ns@high"]
    rows += [f"{what}@{at}" for at in (100, calls) for what in ("p50_us", "p99_us", "p999_us", "loss")]
    rows += ["kib_per_call", "setup_us"]
    peer = results.get("rtpengine", {})
    lines = [f"{'':16}" + "".join(f"{name:>22}" for name in results)]
    for row in dict.fromkeys(rows):
        cells = [_cell(found.get(row), peer.get(row)) for found in results.values()]
        lines.append(f"{row:16}" + "".join(f"{cell:>22}" for cell in cells))
    return "\n".join(lines)


def _cell(value: float | None, peer: float | None) -> str:
    if value is None:
        return "-"
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{text} ({value / peer:.2f})" if peer else text


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 where nothing could be measured."""
    parser = argparse.ArgumentParser(prog="bench-media")
    parser.add_argument("relays", nargs="*", default=[], help=f"of {', '.join(RELAYS)}; default: all")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="the median counts")
    parser.add_argument("--json", type=Path, default=Path("build/bench-media.json"))
    options = parser.parse_args(arguments)
    if os.geteuid() or (os.cpu_count() or 1) < 2:
        print("bench-media needs root (network namespaces) and two cores", file=sys.stderr)
        return 1
    softirqs = build()
    rounds: dict[str, list[dict[str, Any]]] = {}
    for _ in range(options.rounds):
        for name in options.relays or RELAYS:
            try:
                rounds.setdefault(name, []).append(measure(name, options, softirqs))
            except (Missing, RuntimeError, OSError) as error:
                print(f"{name}: not measured: {error}", file=sys.stderr)
    results = {name: summary(each) for name, each in rounds.items() if each}
    peers = {"rtpengine": rtpengine.version(), "kernel": os.uname().release, "softirqs_counted": softirqs}
    print(table(results, options.calls))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(
        json.dumps({"with": peers, "median": results, "rounds": rounds}, indent=1), encoding="utf-8"
    )
    return 0 if results else 1


if __name__ == "__main__":
    sys.exit(main())
