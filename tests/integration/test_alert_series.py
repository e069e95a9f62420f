"""Series recorded from the running product with a fault made: the alerts on it fire, all others are silent, and all are
before it and after it.

Beside the installation with the fault ("a") another one ("b") is played that is well: the same product, before it.
What needs a cluster (the operator, volumes, restarts as Kubernetes counts them) is in tests/unit/test_alerts.py, over
series written by hand and over the operator's own metrics with a fake cluster.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
import redis

from support.call import establish
from support.ports import free_port
from support.product import Product, Settings, accounts, fetch
from support.recorded_series import RULES, Recording, fired, scrape
from support.waiting import until
from support.webhook_sink import WebhookSink

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("alerts"), pytest.mark.timeout(300)]
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
DISK = "48m"
"""Of the small disk that is filled."""


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    with Product(Settings(accounts(0), replicas=2)) as running:
        yield running


def check(product: Product, name: str, service: str = "signaling") -> float:
    return product.metrics(service).sum("pbx_health_check", check=name)


def reads(product: Product) -> float:
    return product.metrics("events").sum("pbx_events_reader")


def well(product: Product) -> None:
    """Waits until every check of every process is good, and nothing waits in the outbox."""

    def all_good() -> bool:
        sample = scrape(product)
        checks = [value for name, value in sample.items() if name.startswith(("pbx_health_check", "up{"))]
        waiting = [value for name, value in sample.items() if name.startswith("pbx_events_outbox_length")]
        return min(checks) == 1 and waiting == [0]

    until(all_good, timeout_s=60, what="all is well")


class Drill:
    """One fault, recorded."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.bad, self.good = Recording(), Recording()
        well(product)
        self.before = scrape(product)
        self.bad.add(self.before, 20)

    def record(self, minutes: int = 1) -> None:
        """What it tells now, for so many minutes."""
        self.bad.add(scrape(self.product), minutes)

    def mended(self, minutes: int = 70) -> None:
        """Waits until all is well again, and goes on from there."""
        well(self.product)
        self.record(minutes)

    def fired(self, scratch: Path) -> set[str]:
        """The alerts that fired in "a" at any time; asserts that none did in "b", nor in "a" before the fault."""
        self.good.add({name.replace('namespace="a"', 'namespace="b"'): v for name, v in self.before.items()})
        self.good.samples *= len(self.bad.samples)
        assert fired([Recording(self.bad.samples[:20]), self.good], scratch) == set()
        assert fired([self.bad, self.good], scratch, "b") == set()
        return fired([self.bad, self.good], scratch)

    def fires_still(self, scratch: Path) -> set[str]:
        """The alerts that fire at the end, when the fault is over for long."""
        tail = Recording(self.bad.samples[-60:])
        return fired([tail], scratch)


def test_every_metric_that_is_answered_stands_in_the_reference(product: Product) -> None:
    text = (RULES.parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(pbx_\w+)`", text, re.MULTILINE))
    for service in ("signaling", "registrar", "media-relay", "events"):
        names = {sample.name for sample in product.metrics(service).samples if sample.name.startswith("pbx_")}
        assert names
        plain = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in names}
        assert sorted(name for name in plain if not {name, f"{name}_total"} & told) == [], service


@contextmanager
def redis_refuses_writes(product: Product) -> Iterator[None]:
    """As with too few replicas, or a full disk."""
    (socket,) = [path for path in product.data.rglob("*.sock") if "redis" in str(path)]
    with redis.Redis(unix_socket_path=str(socket)) as client:
        client.config_set("min-replicas-to-write", 1)
        try:
            yield
        finally:
            client.config_set("min-replicas-to-write", 0)


@contextmanager
def redis_is_stopped(product: Product) -> Iterator[None]:
    """It hangs."""
    pid = product.pid_of("redis")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@needs_promtool
@pytest.mark.parametrize("fault", [redis_refuses_writes, redis_is_stopped], ids=lambda fault: str(fault.__name__))
def test_a_redis_that_takes_no_writes_is_told_of(
    product: Product, tmp_path: Path, fault: Callable[[Product], AbstractContextManager[None]]
) -> None:
    drill = Drill(product)
    with fault(product):
        until(lambda: check(product, "redis") == 0, timeout_s=30, what="signaling says that Redis takes no writes")
        until(lambda: reads(product) == 0, timeout_s=30, what="events does not read")
        drill.record(4)
    drill.mended()
    assert drill.fired(tmp_path) == {"PbxCheckFailing", "PbxEventsNotRead"}
    assert drill.fires_still(tmp_path) == set()


@needs_promtool
def test_a_replica_that_is_gone_is_told_of_though_another_is_well(product: Product, tmp_path: Path) -> None:
    """Killed, while the supervisor is held so that it does not start it again at once."""
    drill = Drill(product)
    (process,) = [each for each in product.processes if each.name == "signaling-2"]
    pid = product.pid_of("signaling-2")
    os.kill(product.pid, signal.SIGSTOP)
    try:
        os.kill(pid, signal.SIGKILL)
        until(lambda: not answers(process.addresses["http"]), timeout_s=10, what="nobody answers there")
        drill.record(5)
    finally:
        os.kill(product.pid, signal.SIGCONT)
    drill.mended()
    assert drill.fired(tmp_path) == {"PbxDown"}
    assert drill.fires_still(tmp_path) == set()


def answers(url: str) -> bool:
    try:
        return bool(fetch(f"{url}/healthz", timeout_s=2))
    except OSError:
        return False


@needs_promtool
def test_an_endpoint_that_takes_nothing_is_told_of_beside_one_that_takes_all(product: Product, tmp_path: Path) -> None:
    with WebhookSink() as sink, product.phone("1004") as caller, product.phone("1008") as callee:
        for url in (sink.url, f"http://127.0.0.1:{free_port()}/"):
            product.post("/v1/webhooks", {"url": url, "types": ["call.ended"]})
        for phone in (caller, callee):
            assert phone.register().status == 200
        well(product)
        drill = Drill(product)
        for number in range(1, 13):
            establish(caller, callee).hang_up()
            until(lambda n=number: len(sink.deliveries) >= n, timeout_s=30, what="the good endpoint has it")  # type: ignore[misc]
            drill.record(2)
        dead = product.metrics("events").sum("pbx_events_delivery_failures_total")
        assert dead > 1
        drill.record(10)
    assert drill.fired(tmp_path) == {"PbxWebhooksFailing"}


@contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """A file system of its own there, which can be filled."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("not run: mounting a small file system needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True, capture_output=True)


@needs_promtool
def test_a_full_disk_is_told_of_and_calls_go_on_once_there_is_room(tmp_path: Path) -> None:
    product = Product(Settings(accounts(0)))
    with ExitStack() as stack:
        stack.callback(product.close)
        stack.enter_context(small_disk(product.data))
        (product.data / "test.log").touch()
        product.start()
        drill = Drill(product)
        filler = product.data / "filler"
        fill(filler)
        with product.phone("1004") as caller, product.phone("1008") as callee:
            # What is written meanwhile meets the full disk: registrations into Redis' append-only file.
            callee.register()
            until(lambda: check(product, "redis") == 0, timeout_s=60, what="signaling says that Redis takes no writes")
            drill.record(3)
            filler.unlink()
            drill.mended()
            for phone in (caller, callee):
                assert phone.register().status == 200
            establish(caller, callee).hang_up()
            assert product.cdr(outcome="answered")["caller"] == "1004"
        product.stop()
    assert "PbxCheckFailing" in (alerts := drill.fired(tmp_path))
    assert alerts <= {"PbxCheckFailing", "PbxEventsNotRead", "PbxCallsRefused"}, alerts
    assert drill.fires_still(tmp_path) == set()


def fill(path: Path) -> None:
    """Takes all the room that is left, to the last octet."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
