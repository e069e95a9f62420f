"""Waiting inside a loop for what another task or process does: a deadline, never a fixed sleep."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from support.waiting import SLOWER

_POLL_S = 0.005


async def eventually(probe: Callable[[], object], *, timeout_s: float = 10, what: str = "") -> None:
    """Return when `probe` answers something true. `SLOWER` times too late: AssertionError that names `what`."""
    timeout_s *= SLOWER
    try:
        async with asyncio.timeout(timeout_s):
            while not probe():
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise AssertionError(f"{what or probe}: not within {timeout_s:g} s") from None
