"""CDRs as JSON lines in files: `cdr.jsonl` grows, is rotated by size and by UTC day, and the oldest are removed.

A batch is on the disk (fsync) before it counts as taken. What a crash or a full disk left of a line is cut off before
the next one is written: every line of every file is a whole CDR.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pbx_events.sink.base import SinkError

CURRENT: Final = "cdr.jsonl"
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
"""About 60 000 CDRs; small enough to be mailed, large enough that a busy day is some dozens."""


class JsonLines:
    """One directory. Only one process writes there at a time: the one that holds the lease."""

    name = "file"

    def __init__(
        self, directory: Path, keep: int, *, max_bytes: int = FILE_BYTES_MAX, epoch_s: Callable[[], float] = time.time
    ) -> None:
        """Keeps `keep` rotated files beside the current one."""
        self._directory = directory
        self._keep = keep
        self._max_bytes = max_bytes
        self._epoch_s = epoch_s
        self._current = directory / CURRENT

    def __repr__(self) -> str:
        return f"<JsonLines {self._directory}>"

    async def put(self, batch_id: str, lines: Sequence[bytes]) -> None:
        """See `Sink`."""
        try:
            await asyncio.to_thread(self._append, b"".join(line + b"\n" for line in lines))
        except OSError as error:
            raise SinkError(f"{self._current}: {error.strerror or type(error).__name__}") from error

    async def close(self) -> None:
        """Nothing is kept open between batches."""

    def _append(self, data: bytes) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._rotate(len(data))
        descriptor = os.open(self._current, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            whole = _mend(descriptor)
            try:
                _write(descriptor, data)
                os.fsync(descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, whole)
                raise
        finally:
            os.close(descriptor)
        if whole == 0:
            self._sync_directory()

    def _rotate(self, more: int) -> None:
        try:
            found = self._current.stat()
        except FileNotFoundError:
            return
        today = _day(self._epoch_s())
        if found.st_size == 0 or (found.st_size + more <= self._max_bytes and _day(found.st_mtime) == today):
            return
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._epoch_s()))
        names = (f"cdr-{stamp}{f'-{number}' if number else ''}.jsonl" for number in range(1000))
        target = next(path for path in map(self._directory.joinpath, names) if not path.exists())
        self._current.rename(target)
        for old in self._rotated()[: -self._keep or None]:
            old.unlink(missing_ok=True)
        self._sync_directory()

    def _rotated(self) -> list[Path]:
        """Oldest first."""
        return sorted(self._directory.glob("cdr-*.jsonl"), key=lambda path: (path.stat().st_mtime_ns, path.name))

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _day(epoch_s: float) -> int:
    return int(epoch_s) // 86_400


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _mend(descriptor: int) -> int:
    """Cuts off what is no whole line; the size of what is left."""
    size = end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - 65_536)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end != size:
        os.ftruncate(descriptor, end)
    return end
