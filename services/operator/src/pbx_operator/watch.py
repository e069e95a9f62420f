"""kopf in a thread and a loop of its own.

In the service's loop it would replace the handlers of SIGTERM and SIGINT, and at its end cancel every task of that
loop that began after it: the operator lived on until SIGKILL, with its lease. It only wakes the reconciler, so a thread
costs nothing, and is left behind where kopf takes its time to end.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial

import kopf

from pbx_operator import credentials
from pbx_operator.handlers import wake


class WatchesEndedError(Exception):
    """kopf has ended though nobody asked it to: nothing would wake the operator any more."""


class Watches:
    """Calls `woken` in the loop that runs `run`, whenever something changes that a pass reads."""

    def __init__(self, namespace: str, woken: Callable[[], None]) -> None:
        self._namespace = namespace
        self._woken = woken
        self._stop = threading.Event()

    async def run(self) -> None:
        """Watch until cancelled. Raises WatchesEndedError."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def tell(error: BaseException | None) -> None:
            if not ended.done():
                ended.set_exception(error or WatchesEndedError("the watches have ended"))

        def body() -> None:
            error: BaseException | None = None
            try:
                asyncio.run(self._operate(partial(loop.call_soon_threadsafe, self._woken)))
            except BaseException as raised:  # carried to the loop that waits: this thread has nobody to tell
                error = raised
            if not loop.is_closed():
                loop.call_soon_threadsafe(tell, error)

        threading.Thread(target=body, name="kopf", daemon=True).start()
        try:
            await ended
        finally:
            self._stop.set()

    async def _operate(self, woken: Callable[[], object]) -> None:
        registry = kopf.OperatorRegistry()
        credentials.register(registry)
        wake.register(registry, woken)
        scope = {"namespaces": [self._namespace]} if self._namespace else {"clusterwide": True}
        await kopf.operator(registry=registry, standalone=True, stop_flag=self._stop, **scope)


def hush(is_debug: bool) -> None:
    """Show what kopf says of each event ("Handler 'on_event' succeeded") at level debug alone."""
    logging.getLogger("kopf").setLevel(logging.INFO if is_debug else logging.WARNING)
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)  # that it does not handle signals is meant
