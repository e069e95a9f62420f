"""Takes passwords out of this process's command line, which every user of the machine can read (/proc/PID/cmdline).

A makeshift for who types `--account USER:PASSWORD` all the same: for a moment after the start they were to be seen, in
the shell's history they stay. `--accounts-file` has neither.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Final

OPTION: Final = b"--account"
_ARG_START: Final = 48
"""Field of /proc/PID/stat (proc(5)), counted from 1."""


def password_spans(line: bytes) -> list[tuple[int, int]]:
    """Where passwords stand in a command line as the kernel keeps it (arguments end with NUL): offset and length."""
    spans, offset, follows = [], 0, False
    for argument in line.split(b"\0"):
        value = argument if follows else argument.removeprefix(OPTION + b"=")
        is_value = follows or value != argument
        colon = value.find(b":")
        if is_value and 0 <= colon < len(value) - 1:
            spans.append((offset + len(argument) - len(value) + colon + 1, len(value) - colon - 1))
        follows = not follows and argument == OPTION
        offset += len(argument) + 1
    return spans


def hide_passwords() -> bool:
    """Write over them where the kernel reads them. Whether there were any, hidden or not."""
    try:
        line = Path("/proc/self/cmdline").read_bytes()
        spans = password_spans(line)
        if spans:
            # The command's name stands in parentheses and may hold spaces: count from behind it.
            fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
            start = int(fields[_ARG_START - 3])
            for offset, length in spans:
                ctypes.memset(start + offset, ord("*"), length)
    except (OSError, IndexError, ValueError):  # no /proc here, or another kernel's
        return True
    return bool(spans)
