"""Names these tests as not run where the operator is not installed (an environment older than the lock)."""

from __future__ import annotations

import importlib.util

MISSING = [name for name in ("pbx_operator", "kopf", "kmock") if importlib.util.find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_report_header() -> str:
    return f"operator tests not run: {', '.join(MISSING)} missing, `make setup` installs it" if MISSING else ""
