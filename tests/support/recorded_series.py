"""Series recorded from the running product, and what the chart's alerts make of them in promtool.

One sample of a recording stands for a minute of Prometheus: a fault made and mended within seconds is told as the
minutes that the rules' `for` and windows wait for. What a process answered is kept as it was; one that does not
answer has `up` 0 and nothing else, as Prometheus has it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from support.product import Product, fetch
from support.scrape import Metrics

RULES: Final = Path(__file__).resolve().parents[2] / "helm" / "sip-pbx" / "rules.yaml"
SCRAPE_S: Final = 2.0
"""Longer than any answer of a process that lives, also on a busy machine."""
Sample = Mapping[str, float]
"""Series, as promtool writes them, to values."""


def sample_of(metrics: Metrics, namespace: str, pod: str) -> dict[str, float]:
    """What one process told, as Prometheus labels it."""
    found = {}
    for each in metrics.samples:
        if each.name.startswith("pbx_") and not each.name.endswith("_created"):
            labels = {**each.labels, "namespace": namespace, "pod": pod}
            shown = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
            found[f"{each.name}{{{shown}}}"] = each.value
    return found


def scrape(product: Product, namespace: str = "a") -> dict[str, float]:
    """All processes of the product that have metrics, each as a pod of its name."""
    found: dict[str, float] = {}
    for process in product.processes:
        if "http" in process.addresses:
            url = process.addresses["http"].removeprefix("http://")
            up = f'up{{namespace="{namespace}", pod="{process.name}"}}'
            try:
                text = fetch(f"http://{url}/metrics", timeout_s=SCRAPE_S).decode()
            except OSError:
                found[up] = 0
            else:
                found |= {up: 1, **sample_of(Metrics.parse(text), namespace, process.name)}
    return found


@dataclass(slots=True)
class Recording:
    """Samples, a minute each."""

    samples: list[Sample] = field(default_factory=list)

    def add(self, sample: Sample, minutes: int = 1) -> None:
        """From now on, and for so many minutes, it is like this."""
        self.samples += [sample] * minutes

    def series(self) -> dict[str, str]:
        """By series, in promtool's notation; `_` where it was not there."""
        names = dict.fromkeys(name for sample in self.samples for name in sample)
        return {name: " ".join(_shown(sample.get(name)) for sample in self.samples) for name in names}


def _shown(value: float | None) -> str:
    return "_" if value is None else repr(value)


def alerts() -> list[str]:
    """The names of all alerts."""
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
    return [rule["alert"] for rule in rules]


def fired(recordings: Iterable[Recording], scratch: Path, namespace: str = "a") -> set[str]:
    """The alerts that fired at any time of these recordings, played beside each other, for `namespace`."""
    played = list(recordings)
    minutes = max(len(each.samples) for each in played)
    series = {name: values for each in played for name, values in each.series().items()}
    shutil.copyfile(RULES, scratch / "rules.yaml")
    names = alerts()
    # 0 for each: what fired is named by the differences that promtool then tells.
    asked = [
        {
            "expr": _ever(name, namespace, minutes),
            "eval_time": f"{minutes - 1}m",
            "exp_samples": [{"labels": "{}", "value": 0}],
        }
        for name in names
    ]
    case: dict[str, Any] = {"interval": "1m", "promql_expr_test": asked}
    case["input_series"] = [{"series": name, "values": values} for name, values in series.items()]
    body = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [case]}
    (scratch / "test.yaml").write_text(yaml.safe_dump(body), encoding="utf-8")
    command = ["promtool", "test", "rules", "test.yaml"]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    found = set(re.findall(r'ALERTS\{alertname="(\w+)"', text.replace('\\"', '"')))
    assert bool(found) == (done.returncode != 0), text
    return found


def _ever(name: str, namespace: str, minutes: int) -> str:
    of = f'ALERTS{{alertname="{name}", alertstate="firing", namespace=~"{namespace}|"}}'
    return f"(count(max_over_time({of}[{minutes}m])) > bool 0) or vector(0)"
