"""Every test that needs no cluster, on both cores. What failed has failed: nothing is tried a second time.

Tests drive real processes by real clocks, and a machine that others use stands still for a second now and then: so they
wait for conditions, with deadlines that only a failing test reaches (`support.waiting`). One that falls on a busy
machine has a defect or shows one.

The chart's tests want helm, which takes minutes to compile: without it they are left out, which is said at the end.
`make chart-test` gets it and runs them; so does CI.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent
SLOWEST = 15
"""Tests named at the end with the time that they took."""


def has_helm() -> bool:
    """Whether helm is there, or was built before."""
    return subprocess.run([TOOLS / "install-helm", "--no-build"], capture_output=True, check=False).returncode == 0


def main(arguments: list[str]) -> int:
    """Arguments are pytest's; answers its exit code."""
    chart = has_helm()
    rest = [] if chart else ["--ignore", "tests/chart"]
    spread = ["-n", "2", "--dist", "loadgroup", "--durations", str(SLOWEST), "--durations-min", "5"]
    status = pytest.main(["-q", *spread, *rest, *arguments, "tests"])
    if not chart:
        print(
            "NOT RUN: tests/chart wants helm, which is not here; `make chart-test` builds it and runs them", flush=True
        )
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
