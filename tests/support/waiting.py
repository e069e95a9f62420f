"""Waiting for what another process does: a deadline, never a fixed sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
SLOWER = 6.0
"""Deadlines in tests are written for a machine that does nothing else. Tests run beside each other, on machines that
others use: so many times as long is waited before one is called failed. Only a test that fails takes longer by it."""
_POLL_S = 0.02


def until(probe: Callable[[], T], *, timeout_s: float, what: str) -> T:
    """Call `probe` until it answers something true and return that.

    Raises AssertionError that names `what` and the last answer when `SLOWER` times `timeout_s` is over.
    """
    timeout_s *= SLOWER
    deadline = time.monotonic() + timeout_s
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s:g} s; last answer: {answer!r}")
        time.sleep(_POLL_S)
