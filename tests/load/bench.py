"""`make bench`: what the product and the peers installed here reach under the same load.

Calls are whole (INVITE with SDP and digest, 180, 200, ACK, BYE), registrations too (401 and its answer). The
server has CPU 0, the load CPU 1, without media. The SIP core alone goes first, the relay's own benchmark last; before
it, several signaling processes at one address (`load.replicas`), which have every core.
Ratios are of this run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from load import counts, micro_sip, relay_bench, replicas, run, servers
from load.run import Result
from load.search import highest_rate
from load.servers import Server

OUTPUT = Path("build/bench.json")
LIGHT_RATE = 20.0
PROBE_RATE = 20.0
_FIRST_RATE = 50.0


def log(result: Result) -> None:
    """One line for a run, on stderr."""
    parts = " ".join(f"{name} {ms:.3f}" for name, ms in result.cpu_ms.items() if ms >= 0.0005)
    verdict = "ok" if result.passed else f"FAILED: {result.reason}"
    print(
        f"  {result.kind:9s}{result.rate:8.1f}/s  cpu {result.cpu_ms_all:7.3f} ms ({parts})  "
        f"server {result.server_share:4.0%} load {result.load_share:4.0%}  {verdict}",
        file=sys.stderr,
        flush=True,
    )
    for error in result.outcome.errors[: 0 if result.passed else 2]:
        print(f"      {error[:200]}", file=sys.stderr)


def logged(act: Callable[[float], Result]) -> Callable[[float], Result]:
    """The run, with its line."""

    def wrapped(rate: float) -> Result:
        result = act(rate)
        log(result)
        return result

    return wrapped


def measure(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """Everything that is measured of one server."""
    print(f"{server.name}: {server.what}", file=sys.stderr, flush=True)
    figures: dict[str, Any] = {"what": server.what}
    with run.Called(server) as called:
        held = run.held(server, options.held, min(100.0, options.held / 4))
        figures["held"] = asdict(held) | {"kib_per_call_all": sum(held.kib_per_call.values())}
        light = logged(lambda rate: run.calls(server, rate, options.seconds * 2, probe_rate=rate - 1))
        figures["light"] = _figures([light(LIGHT_RATE)]) if server.registrar else {}
        search = highest_rate(
            logged(lambda rate: run.calls(server, rate, options.seconds)),
            first=_FIRST_RATE,
            ceiling=options.ceiling,
        )
        figures["calls"] = _figures(search.confirmed) | {
            "per_s": round(search.rate, 1),
            "generator_bound": search.generator_bound,
        }
        if search.rate and server.registrar:
            half = logged(lambda rate: run.calls(server, rate, options.seconds, probe_rate=PROBE_RATE))
            figures["half"] = _figures([half(max(PROBE_RATE * 2, search.rate / 2)) for _ in range(2)])
        if server.registrar:
            seconds = options.seconds / 2
            flood = logged(lambda rate: run.register(server, rate, round(rate * seconds), called.port))
            search = highest_rate(flood, first=200, ceiling=options.ceiling * 2)
            figures["registrations"] = _figures(search.confirmed) | {
                "per_s": round(search.rate, 1),
                "generator_bound": search.generator_bound,
            }
    return figures


def _figures(results: Sequence[Result]) -> dict[str, Any]:
    if not results:
        return {}
    services = {name for result in results for name in result.cpu_ms}
    fine = {key for result in results for key in result.fine}
    return {
        "rate": round(results[0].rate, 1),
        "passed": all(result.passed for result in results),
        "cpu_ms": {s: round(statistics.median(r.cpu_ms.get(s, 0.0) for r in results), 4) for s in sorted(services)},
        "cpu_ms_all": round(statistics.median(r.cpu_ms_all for r in results), 4),
        "fine_ms": {
            key: {
                q: round(statistics.median(r.fine[key][q] for r in results if q in r.fine.get(key, {})), 3)
                for q in ("p50", "p99")
                if any(q in r.fine.get(key, {}) for r in results)
            }
            for key in sorted(fine)
        },
    }


ROWS: Sequence[tuple[str, Callable[[dict[str, Any]], float | None], bool]] = (
    ("calls/s without a failed call", lambda f: f["calls"].get("per_s"), True),
    ("CPU ms per call, all processes, at that rate", lambda f: f["calls"].get("cpu_ms_all"), False),
    ("CPU ms per call, all processes, at half", lambda f: f.get("half", {}).get("cpu_ms_all"), False),
    ("CPU ms per call, signaling, at that rate", lambda f: _service(f, "signaling"), False),
    ("INVITE to 100, p50 ms, 20 calls/s", lambda f: _fine(f, "light", "INVITE 100", "p50"), False),
    ("INVITE to 100, p99 ms, 20 calls/s", lambda f: _fine(f, "light", "INVITE 100", "p99"), False),
    ("INVITE to 100, p50 ms, half rate", lambda f: _fine(f, "half", "INVITE 100", "p50"), False),
    ("INVITE to 100, p99 ms, half rate", lambda f: _fine(f, "half", "INVITE 100", "p99"), False),
    ("INVITE to 180, p50 ms, half rate", lambda f: _fine(f, "half", "INVITE 180", "p50"), False),
    ("INVITE to 180, p99 ms, half rate", lambda f: _fine(f, "half", "INVITE 180", "p99"), False),
    ("  of it the callee's own, p50 ms", lambda f: _fine(f, "half", "own", "p50"), False),
    ("registrations/s", lambda f: f.get("registrations", {}).get("per_s"), True),
    ("CPU ms per registration, all", lambda f: f.get("registrations", {}).get("cpu_ms_all"), False),
    ("KiB per held call, all processes", lambda f: f["held"]["kib_per_call_all"], False),
)


def _service(figures: dict[str, Any], name: str) -> float | None:
    found = [ms for service, ms in figures["calls"].get("cpu_ms", {}).items() if service.startswith(name)]
    return sum(found) if found else None


def _fine(figures: dict[str, Any], part: str, key: str, quantile: str) -> float | None:
    value: float | None = figures.get(part, {}).get("fine_ms", {}).get(key, {}).get(quantile)
    return value


def table(report: dict[str, Any]) -> str:
    """The figures side by side; behind a peer's figure, what it is as a multiple of ours."""
    names = list(report["servers"])
    lines = [f"{'':46s}" + "".join(f"{name:>22s}" for name in names)]
    for title, pick, _ in ROWS:
        values = [pick(report["servers"][name]) for name in names]
        ours = values[0]
        cells = []
        for index, value in enumerate(values):
            ratio = f" ({value / ours:.2f}x)" if index and value is not None and ours else ""
            cells.append(f"{'-' if value is None else f'{value:.4g}'}{ratio}".rjust(22))
        lines.append(f"{title:46s}" + "".join(cells))
    return "\n".join(lines)


def _relay(output: Path) -> Any:
    print("media relay, the plain Python datapath:", flush=True)
    relay_bench.main(["--json", str(output)])
    return json.loads(output.read_text(encoding="utf-8"))


def _replicas() -> Any:
    """Several signaling processes at one address; None where no cgroup can be made."""
    try:
        report = replicas.report_of(replicas.parser().parse_args([]))
    except PermissionError as error:
        print(f"several signaling processes: not measured, {error}")
        return None
    print(replicas.table(report), flush=True)
    return report


def _names(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]


def main(arguments: list[str]) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--only", type=_names, action="extend", help="only these servers, with commas between (sip-pbx,kamailio,sippy)"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="load time of one run")
    parser.add_argument("--ceiling", type=float, default=3000, help="highest rate tried, calls/s")
    parser.add_argument("--held", type=int, default=1000, help="calls held at once for the memory")
    parser.add_argument("--json", type=Path, default=OUTPUT)
    parser.add_argument("--no-relay", action="store_true", help="leave the relay's benchmark out")
    parser.add_argument("--no-replicas", action="store_true", help="leave several signaling processes out")
    options = parser.parse_args(arguments)
    wanted: dict[str, Callable[[], contextlib.AbstractContextManager[Server]]]
    wanted = {"sip-pbx": servers.ours, **servers.installed()}
    if unknown := sorted(set(options.only or ()) - wanted.keys()):
        parser.error(f"not known, or not installed here: {', '.join(unknown)}; there are {', '.join(wanted)}")
    report: dict[str, Any] = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "servers": {}}
    report["micro_us"] = micro_sip.measure()
    print(micro_sip.table(report["micro_us"]), flush=True)
    if not options.only or "sip-pbx" in options.only:
        report["counts"] = counts.measure([])
        print(counts.table(report["counts"]), flush=True)
    for name, start in wanted.items():
        if not options.only or name in options.only:
            with start() as server:
                report["servers"][name] = measure(server, options)
    print(table(report))
    for name in servers.missing():
        print(f"not installed, not measured: {name}")
    if not options.no_replicas:
        report["replicas"] = _replicas()
    if not options.no_relay:
        report["relay"] = _relay(options.json.with_name("bench-relay.json"))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
