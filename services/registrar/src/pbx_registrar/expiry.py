"""The loops of a replica: bindings that ran out, refusals to be told, the figure of registrations.

Every replica runs them. Nothing is told twice all the same: who drops a binding, or a count of refusals, is decided by
the store, in the same step that appends the event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pbx_registrar.answer import answer
from pbx_registrar.bindings import Outcome
from pbx_registrar.observe import Observer
from pbx_registrar.register import Registrar
from pbx_registrar.storage.base import AuthLedger, Refusals
from pbx_runtime import logs
from pbx_runtime.clock import Clock
from pbx_runtime.errors import ServiceError

TICK_S: Final = 0.5
"""How late the end of a binding may be told."""
DUE_MAX: Final = 500
"""Addresses-of-record of one turn: a hundred thousand that end together must not stop the loop."""
_log = logs.get_logger("expiry")


class Expiry:
    """One turn after another; `run` is started with the lifecycle."""

    def __init__(
        self,
        registrar: Registrar,
        ledger: AuthLedger,
        clock: Clock,
        observer: Observer,
        refused: Callable[[Refusals, int], bytes],
    ) -> None:
        self._registrar = registrar
        self._ledger = ledger
        self._clock = clock
        self._observer = observer
        self._refused = refused
        self._failing = False

    async def run(self) -> None:
        """Turn until cancelled; a store that is away is waited for."""
        while True:
            busy = False
            try:
                busy = await self.turn()
                self._failing = False
            except ServiceError as error:
                if not self._failing:
                    _log.warning("expiry waits for the store", reason=error.detail)
                self._failing = True
            await asyncio.sleep(0 if busy else TICK_S)

    async def turn(self) -> bool:
        """Tell what is due now; answers whether there may be more. Raises Unavailable."""
        store = self._registrar.store
        due = await answer(store.due, self._clock.epoch_ms(), DUE_MAX) or []
        await asyncio.gather(*(self._expire(aor) for aor in due))
        await self._tell_refusals()
        self._observer.registrations.set(await answer(store.count) or 0)
        return len(due) == DUE_MAX

    async def _expire(self, aor: str) -> Outcome | None:
        return await answer(self._registrar.expire, aor)

    async def _tell_refusals(self) -> None:
        now_ms = self._clock.epoch_ms()
        for refusals in await answer(self._ledger.unreported, now_ms, DUE_MAX) or []:
            if await self._tell(refusals, now_ms):
                self._observer.refused(refusals)

    async def _tell(self, refusals: Refusals, now_ms: int) -> bool:
        event = self._refused(refusals, now_ms)
        return bool(await answer(self._ledger.report, refusals, event))
