"""`make bench-forged`: what an INVITE with made-up credentials costs, and what a flood of them costs everybody else.

INVITEs with SDP and a digest that nobody was asked for come from many addresses, as forged sources would. Their price
is the CPU of all processes while they come, less that of an idle time as long, divided by their number. Beside them the
probe (`load.probe`) places calls: quiet and under the flood in turns, so that both meet the same machine. `--program`
measures another release of the product in the same run, in turns with this one.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from load import run, servers
from load.servers import Server
from support import procfs

OUTPUT = Path("build/forged.json")
SOURCES: Final = 200
"""Addresses that the flood comes from: each stays within its budget, as forged ones would."""
PRICE_RATE: Final = 150.0
"""A rate that a release without cheap refusals carries too."""
PROBE_RATE: Final = 20.0
_BODY = (
    "v=0\r\no=- 1 1 IN IP4 127.9.9.9\r\ns=-\r\nc=IN IP4 127.9.9.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8 101\r\n"
    "a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n"
)
_INVITE = (
    "INVITE sip:u1@{domain} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{n};rport\r\nMax-Forwards: 70\r\n"
    'From: "Forged" <sip:f{n}@{domain}>;tag=t{n}\r\nTo: <sip:u1@{domain}>\r\nCall-ID: {n}@{host}\r\nCSeq: 2 INVITE\r\n'
    "Contact: <sip:f{n}@{host}:{port}>\r\nUser-Agent: Some Phone 4.2\r\nAllow: INVITE, ACK, BYE, CANCEL, OPTIONS\r\n"
    'Proxy-Authorization: Digest username="f{n}", realm="{domain}", nonce="{nonce}", uri="sip:u1@{domain}", '
    'response="{digest}", algorithm=MD5, cnonce="0a4f113b", qop=auth, nc=00000001\r\n'
    "Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{body}"
)


def flood(server: tuple[str, int], domain: str, rate: float, seconds: float) -> tuple[int, int]:
    """Sends at a rate. Returns how many were sent, and how many of them got a final answer while it sent."""
    answered: set[bytes] = set()
    with contextlib.ExitStack() as stack:
        sockets = []
        for number in range(SOURCES):
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.bind((f"127.77.{number}.{1 + os.getpid() % 250}", 0))
            sock.setblocking(False)
            sockets.append(sock)
        started, sent, made_up = time.monotonic(), 0, random.Random(1)
        while (now := time.monotonic()) < started + seconds:
            while sent < (now - started) * rate:
                sock = sockets[sent % SOURCES]
                host, port = sock.getsockname()
                sent += 1
                text = _INVITE.format(
                    domain=domain,
                    host=host,
                    port=port,
                    n=f"{os.getpid()}x{sent}",
                    nonce=f"{made_up.getrandbits(224):056x}",
                    digest=f"{made_up.getrandbits(128):032x}",
                    length=len(_BODY),
                    body=_BODY,
                )
                with contextlib.suppress(BlockingIOError):
                    sock.sendto(text.encode(), server)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        data = sock.recv(4096)
                        if not data.startswith(b"SIP/2.0 1"):
                            answered.add(data.partition(b"\r\nCall-ID: ")[2].partition(b"\r\n")[0])
            time.sleep(0.0005)
    return sent, len(answered)


@contextlib.contextmanager
def _flooded(server: Server, rate: float, seconds: float) -> Iterator[subprocess.Popen[str]]:
    command = ["taskset", "-c", str(run.LOAD_CPU), sys.executable, "-m", "load.forged", "--flood", f"{rate}:{seconds}"]
    command += [f"{server.address[0]}:{server.address[1]}", server.domain]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _cpu_s(server: Server) -> dict[str, float]:
    return {name: procfs.cpu_seconds(pids) for name, pids in server.pids().items()}


def price(server: Server, rate: float, seconds: float) -> dict[str, float]:
    """CPU milliseconds of a forged INVITE that was answered, by service and of all.

    At a low rate each wakes the process up, at a high one they share that; a release that cannot keep up answers fewer.
    """
    before = _cpu_s(server)
    time.sleep(seconds)
    idle = _cpu_s(server)
    with _flooded(server, rate, seconds) as process:
        answered = max(1, int(process.communicate(timeout=seconds + 30)[0].split()[1]))
    after = _cpu_s(server)
    spent = {name: (after[name] - idle[name]) - (idle[name] - before[name]) for name in after}
    each = {name: round(1000 * max(0.0, cpu_s) / answered, 4) for name, cpu_s in spent.items()}
    return each | {"all": round(1000 * sum(spent.values()) / answered, 4), "answered": float(answered)}


def delays(server: Server, rate: float, seconds: float, pair: int) -> dict[str, float]:
    """INVITE to 180 of a pair's calls, milliseconds, while the flood comes (none at rate 0).

    Each time another pair of accounts calls: nothing that was left of the calls before meets it.
    """
    caller, callee = servers.users()[2 * pair : 2 * pair + 2]
    command = ["taskset", "-c", str(run.LOAD_CPU), sys.executable, "-m", "load.probe", "--domain", server.domain]
    command += ["--server", f"{server.address[0]}:{server.address[1]}"]
    command += ["--caller", f"{caller.user}:{caller.password}", "--callee", f"{callee.user}:{callee.password}"]
    command += ["--rate", str(PROBE_RATE), "--seconds", str(seconds)]
    with _flooded(server, rate, seconds + 4) if rate else contextlib.nullcontext():
        time.sleep(0.5 if rate else 0.0)
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 30)
    figures = json.loads(done.stdout)["INVITE 180"]
    return {name: float(figures[name]) for name in ("count", "p50", "p99", "max")}


def _median(rows: list[dict[str, float]], name: str) -> float:
    return round(statistics.median(row[name] for row in rows), 3)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All programs in turns, round by round."""
    programs = {"this": "", **({"other": options.program} if options.program else {})}
    with contextlib.ExitStack() as stack:
        running: dict[str, Server] = {}
        for name, program in programs.items():
            more = {"SIP_PBX": program} if program else {}
            os.environ.update(more)
            running[name] = stack.enter_context(servers.ours(PBX_LOG_LEVEL="warning"))
            for key in more:
                del os.environ[key]
        for server in running.values():
            for pids in server.pids().values():
                procfs.pin(pids, {run.SERVER_CPU})
        rows: dict[str, dict[str, list[dict[str, float]]]] = {
            name: {"price": [], "price_in_flood": [], "quiet": [], "flood": []} for name in running
        }
        pairs = itertools.count(1)
        for _ in range(options.rounds):
            for name, server in () if options.no_price else running.items():
                rows[name]["price"].append(price(server, PRICE_RATE, options.seconds))
                rows[name]["price_in_flood"].append(price(server, options.rate, options.seconds))
            for name, server in running.items():
                if name == "this" or options.delays_of_both:
                    rows[name]["quiet"].append(delays(server, 0.0, options.seconds, next(pairs)))
                    rows[name]["flood"].append(delays(server, options.rate, options.seconds, next(pairs)))
    return {name: _summary(row) for name, row in rows.items()}


def _summary(rows: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    kinds = ("price", "price_in_flood") if rows["price"] else ()
    found: dict[str, Any] = {kind: {name: _median(rows[kind], name) for name in rows[kind][0]} for kind in kinds}
    for kind in ("quiet", "flood"):
        if rows[kind]:
            found[kind] = {name: _median(rows[kind], name) for name in ("count", "p50", "p99", "max")}
    return found | {"rounds": rows}


def main(arguments: list[str]) -> int:
    """Measure, print, write the report."""
    parser = argparse.ArgumentParser(prog="make bench-forged", description=__doc__)
    parser.add_argument("--program", default="", help="sip-pbx of another release, measured in turns with this one")
    parser.add_argument("--delays-of-both", action="store_true", help="the other's calls under the flood too")
    parser.add_argument("--no-price", action="store_true", help="only the calls: what was dear leaves work behind")
    parser.add_argument("--rate", type=float, default=1000, help="forged INVITEs a second beside the calls")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=OUTPUT)
    parser.add_argument("--flood", default="", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.flood:
        rate, _, seconds = options.flood.partition(":")
        host, _, port = options.rest[0].rpartition(":")
        print(*flood((host, int(port)), options.rest[1], float(rate), float(seconds)))
        return 0
    report = measure(options)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for name, figures in report.items():
        for kind, rate in (("price", PRICE_RATE), ("price_in_flood", options.rate)) if "price" in figures else ():
            print(f"{name}: a forged INVITE of {rate:g}/s costs {figures[kind]['all']:.3f} ms of CPU  {figures[kind]}")
        for kind in ("quiet", "flood"):
            if kind in figures:
                print(f"  calls {kind:6s} INVITE to 180: {figures[kind]}")
    if "other" in report:
        for kind in ("price", "price_in_flood"):
            ratio = report["this"][kind]["all"] / report["other"][kind]["all"]
            print(f"{kind}: ratio this/other {ratio:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
