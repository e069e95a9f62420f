"""Holds processes to a share of a core by a cgroup of their own, of version 1 or 2. Root only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

PERIOD_US = 20_000
"""Short enough that what a process waits for its next share is no second of SIP's timers."""
_ROOT = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def held(name: str, pids: Iterable[int], share: float) -> Iterator[None]:
    """While it lasts, these processes together get that share of one core. Raises OSError where that cannot be had."""
    directory = _make(f"sip-pbx-{os.getpid()}-{name}", share)
    try:
        _put(directory, pids)
        yield
    finally:
        _put(directory.parent, _inside(directory))
        directory.rmdir()


def _make(name: str, share: float) -> Path:
    quota = round(share * PERIOD_US)
    if (_ROOT / "cgroup.controllers").exists():
        with contextlib.suppress(OSError):  # it is on, or the parent's processes forbid it: then cpu.max is not there
            (_ROOT / "cgroup.subtree_control").write_text("+cpu")
        directory = _ROOT / name
        directory.mkdir()
        (directory / "cpu.max").write_text(f"{quota} {PERIOD_US}")
        return directory
    directory = _ROOT / "cpu" / name
    directory.mkdir()
    (directory / "cpu.cfs_period_us").write_text(str(PERIOD_US))
    (directory / "cpu.cfs_quota_us").write_text(str(quota))
    return directory


def _put(directory: Path, pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            (directory / "cgroup.procs").write_text(str(pid))


def _inside(directory: Path) -> list[int]:
    return [int(pid) for pid in (directory / "cgroup.procs").read_text().split()]
