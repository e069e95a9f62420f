"""What a registration, a call and a CDR cost this machine: CPU and memory of each service, octets in Redis and on disk.

`make sizing` starts the product, registers phones, holds calls and makes others, and divides what grew by their number.
No media: what a relay needs for packets is `make bench-media`. Figures are of one run on one machine.
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
from redis import Redis

from support.call import Call, establish
from support.product import UNLIMITED, Product, Settings, accounts
from support.waiting import until

SERVICES: Final = ("registrar", "signaling", "media-relay", "events", "redis")
REPORT: Final = Path("build/sizing.json")


@dataclass(frozen=True, slots=True)
class State:
    """What is used at a moment."""

    cpu_s: dict[str, float]
    resident: dict[str, int]
    redis: int
    disk: int

    @classmethod
    def of(cls, product: Product, redis: Redis) -> State:
        """Now."""
        processes = {name: psutil.Process(product.pid_of(name)) for name in SERVICES}
        times = {name: process.cpu_times() for name, process in processes.items()}
        databases = [path for path in product.data.iterdir() if ".sqlite" in path.name]
        return cls(
            {name: each.user + each.system for name, each in times.items()},
            {name: process.memory_info().rss for name, process in processes.items()},
            int(redis.info("memory")["used_memory"]),
            sum(path.stat().st_size for path in databases),
        )


def per(count: int, before: State, after: State) -> dict[str, object]:
    """What one of `count` cost."""
    cpu = {name: round((after.cpu_s[name] - before.cpu_s[name]) / count * 1000, 3) for name in SERVICES}
    grown = {name: round((after.resident[name] - before.resident[name]) / count / 1024, 1) for name in SERVICES}
    return {
        "count": count,
        "cpu_ms": cpu,
        "resident_kib": grown,
        "redis_bytes": (after.redis - before.redis) // count,
        "disk_bytes": (after.disk - before.disk) // count,
    }


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--registrations", type=int, default=500)
    parser.add_argument("--held", type=int, default=200, help="calls at once")
    parser.add_argument("--calls", type=int, default=1000, help="calls, one after the other, for CPU and disk")
    options = parser.parse_args()
    settings = Settings(
        accounts(options.registrations), relay_ports=8 * (options.held + options.calls + 64), environment=UNLIMITED
    )
    with Product(settings) as product, ExitStack() as stack:
        (socket,) = product.data.rglob("redis*.sock")
        redis = stack.enter_context(Redis(unix_socket_path=str(socket)))
        found = {}
        before = State.of(product, redis)
        for number in range(options.registrations):
            with product.phone(str(2000 + number)) as phone:
                assert phone.register().status == 200
        found["registration"] = per(options.registrations, before, State.of(product, redis))

        caller, callee = (stack.enter_context(product.phone(user)) for user in ("1004", "1008"))
        for phone in (caller, callee):
            assert phone.register().status == 200
        before = State.of(product, redis)
        held: list[Call] = [establish(caller, callee) for _ in range(options.held)]
        found["held call"] = per(options.held, before, State.of(product, redis))
        for call in held:
            call.hang_up()
        product.cdrs_of(options.held, timeout_s=120, caller="1004")

        before = State.of(product, redis)
        for _ in range(options.calls):
            establish(caller, callee).hang_up()
        until(lambda: written(product) == options.held + options.calls, timeout_s=120, what="all CDRs are written")
        found["call with its CDR"] = per(options.calls, before, State.of(product, redis))
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    show(found)


def written(product: Product) -> int:
    """How many CDRs there are."""
    return len(product.cdrs(limit=1000, caller="1004"))


def show(found: dict[str, dict[str, object]]) -> None:
    """The table of docs/operations.md."""
    print("| one | CPU, ms | resident memory, KiB | Redis, bytes | disk, bytes |")
    print("|---|---|---|---|---|")
    for name, row in found.items():
        cpu, grown = (_named(row[key]) for key in ("cpu_ms", "resident_kib"))
        print(f"| {name} (of {row['count']}) | {cpu} | {grown} | {row['redis_bytes']} | {row['disk_bytes']} |")


def _named(figures: object) -> str:
    assert isinstance(figures, dict)
    return ", ".join(f"{name} {value}" for name, value in figures.items() if value)


if __name__ == "__main__":
    main()
