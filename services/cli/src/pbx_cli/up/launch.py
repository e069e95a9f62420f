"""Becomes another program that dies with its parent: `python -m pbx_cli.up.launch PARENT-PID PROGRAM ARGUMENT...`.

Sets PR_SET_PDEATHSIG (prctl(2)) and replaces itself. A program of its own, because code between fork and exec in
the supervisor would run beside its threads. Imports nothing that is slow: every child starts through it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then execute the program."""
    parent, program = int(sys.argv[1]), sys.argv[2]
    libc = ctypes.CDLL(None, use_errno=True)
    # SIGKILL: whoever killed the supervisor wants an end, and what is on disk is good for a restart.
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.stderr.write(f"prctl: {os.strerror(ctypes.get_errno())}: children may outlive the supervisor\n")
    if os.getppid() != parent:
        sys.exit(1)  # it died before the signal was set
    os.execvp(program, sys.argv[2:])  # noqa: S606 -- the supervisor's own plan


if __name__ == "__main__":
    main()
