"""The loop that lets no CDR wait for a relay for ever: the one that died, lost its reports or never had the call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pbx_events.storage.store import Store
from pbx_runtime import logs
from pbx_runtime.errors import ServiceError

PERIOD_S: Final = 1.0
_log = logs.get_logger("overdue")


class Overdue:
    """`is_current` says whether this replica reads the outbox, and has read all that was written before."""

    def __init__(
        self, store: Store, is_current: Callable[[], bool], on_written: Callable[[], None] = lambda: None
    ) -> None:
        """`on_written` is called when records were written: webhooks may want to hear of them."""
        self._store = store
        self._is_current = is_current
        self._on_written = on_written

    async def run(self) -> None:
        """Looks again and again until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                await self.look()
            except ServiceError as error:
                _log.warning("CDRs that wait for media figures cannot be written", reason=error.detail)

    async def look(self) -> None:
        """Writes what waited long enough. What stands in the outbox unread may be what is waited for."""
        while self._is_current() and (folded := await self._store.fold_overdue()):
            _log.warning("CDRs written without their relay's figures", count=folded)
            self._on_written()
