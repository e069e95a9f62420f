"""Series recorded from the running product with a fault made: the alert on it fires, and is silent before and after."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import yaml

from support.product import Product, Settings, accounts
from support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("alerts")]
RULES = Path(__file__).resolve().parents[2] / "helm" / "sip-pbx" / "rules.yaml"


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    with Product(Settings(accounts(0))) as running:
        yield running


def check(product: Product, name: str, service: str = "signaling") -> float:
    return product.metrics(service).sum("pbx_health_check", check=name)


def firing(tmp_path: Path, alert: str, series: str, values: list[float]) -> bool:
    """Whether it fires at the end of a recording, one value a minute."""
    shutil.copyfile(RULES, tmp_path / "rules.yaml")
    recorded = {"series": series, "values": " ".join(map(str, values))}
    wanted = {
        "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)',
        "eval_time": f"{len(values) - 1}m",
        "exp_samples": [{"labels": "{}", "value": 1}],
    }
    case = {"interval": "1m", "input_series": [recorded], "promql_expr_test": [wanted]}
    body = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [case]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(body), encoding="utf-8")
    done = subprocess.run(["promtool", "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, check=False)
    return done.returncode == 0


def test_every_metric_that_is_answered_stands_in_the_reference(product: Product) -> None:
    text = (RULES.parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(pbx_\w+)`", text, re.MULTILINE))
    for service in ("signaling", "registrar", "media-relay", "events"):
        names = {sample.name for sample in product.metrics(service).samples if sample.name.startswith("pbx_")}
        assert names
        plain = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in names}
        assert sorted(name for name in plain if not {name, f"{name}_total"} & told) == [], service


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("fault", ["refuses writes, as with a full disk", "stopped"])
def test_a_redis_that_takes_no_writes_is_told_of(product: Product, tmp_path: Path, fault: str) -> None:
    sockets = [path for path in product.data.rglob("*.sock") if "redis" in str(path)]
    client = redis.Redis(unix_socket_path=str(sockets[0]))
    before = check(product, "redis")
    pid = product.pid_of("redis")
    try:
        if fault == "stopped":
            os.kill(pid, signal.SIGSTOP)
        else:
            client.config_set("min-replicas-to-write", 1)
        until(lambda: check(product, "redis") == 0, timeout_s=30, what="signaling says that Redis takes no writes")
        during = check(product, "redis")
    finally:
        if fault == "stopped":
            os.kill(pid, signal.SIGCONT)
        else:
            client.config_set("min-replicas-to-write", 0)
        client.close()
    until(lambda: check(product, "redis") == 1, timeout_s=30, what="it is well again")
    series = 'pbx_health_check{namespace="a", pod="signaling-0", check="redis"}'
    assert not firing(tmp_path, "PbxCheckFailing", series, [before] * 5)
    assert firing(tmp_path, "PbxCheckFailing", series, [before] * 5 + [during] * 3)
    assert not firing(tmp_path, "PbxCheckFailing", series, [before] * 5 + [during] * 3 + [1.0] * 3)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_events_that_nobody_reads_are_told_of(product: Product, tmp_path: Path) -> None:
    assert product.metrics("events").sum("pbx_events_reader") == 1
    # The collector looks every few seconds; what it saw first may be the start's own events.
    until(
        lambda: product.metrics("events").sum("pbx_events_outbox_length") == 0, timeout_s=30, what="the outbox is empty"
    )
    series = 'pbx_events_reader{namespace="a", pod="events-0"}'
    assert not firing(tmp_path, "PbxEventsNotRead", series, [1.0] * 6)
    assert firing(tmp_path, "PbxEventsNotRead", series, [1.0] * 3 + [0.0] * 4)
