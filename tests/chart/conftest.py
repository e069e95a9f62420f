"""Renders the chart with helm; tests are named as not run where there is none."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/sip-pbx"
KUBERNETES = "1.31.0"
Objects = list[dict[str, Any]]


@functools.cache
def helm_path() -> str:
    found = subprocess.run([ROOT / "tools/install-helm", "--no-build"], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def run_helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    if not helm_path():
        pytest.skip("not run: helm is missing (`make chart-test` builds it)")
    return subprocess.run([helm_path(), *arguments], capture_output=True, text=True, check=False, timeout=60)


@functools.cache
def rendered(*arguments: str) -> tuple[int, str, str]:
    done = run_helm("template", "pbx", str(CHART), "-n", "pbx", "--kube-version", KUBERNETES, *arguments)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def template() -> Callable[..., Objects]:
    """`template("--set", "a=b")` answers the objects."""

    def render(*arguments: str) -> Objects:
        code, out, err = rendered(*arguments)
        assert code == 0, err
        return [body for body in yaml.safe_load_all(out) if body]

    return render


@pytest.fixture
def refused() -> Callable[..., str]:
    """`refused("--set", "a=b")` answers why helm does not render."""

    def render(*arguments: str) -> str:
        code, _, err = rendered(*arguments)
        assert code != 0, "rendered all the same"
        return err

    return render
