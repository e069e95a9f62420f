"""Every test, on both cores; then the few that failed once more, alone, to tell the unsteady from the broken.

Tests drive real processes by real clocks, and a machine that others use stands still for a second now and then.
A test that fails beside the others and passes alone is named at the end, though the run is green: it has a defect
or shows one. More than `TRIES_MAX` failures are no accident and not tried again.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

TRIES_MAX = 3
GROUP = re.compile(r"@[\w-]+$")
"""What pytest-xdist adds to the name of a test that has a group."""


class Failures:
    """A pytest plugin that keeps the names of the tests that failed, in whatever phase."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called for each phase of each test, by pytest-xdist's controller too."""
        if report.failed and report.nodeid not in self.names:
            self.names.append(report.nodeid)


def main(arguments: list[str]) -> int:
    """Arguments are pytest's, for both runs; answers the exit code of the run that decides."""
    failures = Failures()
    status = pytest.main(["-q", "-n", "2", "--dist", "loadgroup", *arguments, "tests"], plugins=[failures])
    names = sorted({GROUP.sub("", name) for name in failures.names})
    if status != pytest.ExitCode.TESTS_FAILED or not 0 < len(names) <= TRIES_MAX:
        return status
    print("\nonce more, alone:", *names, sep="\n  ", flush=True)
    again = subprocess.run([sys.executable, "-m", "pytest", "-q", *arguments, *names], check=False).returncode
    if again == 0:
        print("UNSTEADY, failed beside the others and passed alone:", *names, sep="\n  ", flush=True)
    return again


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
