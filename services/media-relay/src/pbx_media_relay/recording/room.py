"""How much recordings may still write: a limit of their own, and a part of the disk that is left to others.

In a cluster the directory is a volume with a size, and the kubelet evicts a pod (a relay, with all its calls) that
exceeds it, or whose node's disk is nearly full. So recordings end before either happens; calls go on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LOOK_NS: Final = 10_000_000_000
"""Between two looks at the directory: others may take files away. What is written meanwhile is counted."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the settings allow."""

    bytes_max: int = 0
    """Of all files in the directory together; 0: no limit but the disk's."""
    free_min: float = 0.05
    """Part of the disk that is left to others, 0 to 1."""


class Room:
    """What is left of the bounds. Raises OSError where nothing is."""

    def __init__(self, directory: Path, bounds: Bounds) -> None:
        self._directory = directory
        self._bounds = bounds
        self._used = 0
        self._disk_is_full = False
        self._next_look_ns = 0

    def take(self, count: int, now_ns: int) -> None:
        """Counts `count` bytes that are about to be written. Raises OSError: nothing may be written."""
        if now_ns >= self._next_look_ns:
            self._next_look_ns = now_ns + LOOK_NS
            self._look()
        if self._disk_is_full:
            raise OSError(f"less than {self._bounds.free_min:.0%} of the disk is free")
        limit = self._bounds.bytes_max
        if limit and self._used + count > limit:
            raise OSError(f"recordings hold {self._used} of {limit} bytes (PBX_RELAY_RECORDINGS_MAX_MIB)")
        self._used += count

    def _look(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        disk = os.statvfs(self._directory)
        self._disk_is_full = disk.f_bavail < disk.f_blocks * self._bounds.free_min
        self._used = sum(_sizes(self._directory)) if self._bounds.bytes_max else 0


def _sizes(directory: Path) -> Iterator[int]:
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                yield entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:  # taken away meanwhile
                continue
