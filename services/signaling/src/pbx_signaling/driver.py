"""The loop between sockets, clock and core: bytes or time in, steps out, one timer re-armed. It decides nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from pbx_signaling.effects.step import Step
from pbx_signaling.router.router import Core

if TYPE_CHECKING:
    from pbx_signaling.calls.signals import Signal
    from pbx_signaling.effects.step import Ask
    from pbx_signaling.users.messages import Pager
    from pbx_signaling.users.registrations import Registered, Registration
    from pbx_sip.address import Flow


class Driver:
    """Runs a core on an asyncio loop."""

    def __init__(self, core: Core, perform: Callable[[Step], None], ask: Callable[[Ask], None]) -> None:
        self.core = core
        self._perform = perform
        self._ask = ask
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for: float | None = None
        self._loop = asyncio.get_running_loop()

    def received(self, data: bytes, flow: Flow) -> None:
        """A message came."""
        self.core.receive(data, flow, self._loop.time())
        self._drain()

    def signal(self, call_id: str, signal: Signal) -> None:
        """The world answered."""
        self.core.signal(call_id, signal, self._loop.time())
        self._drain()

    def registered(self, registration: Registration, number: int, answer: Registered) -> None:
        """The registrar answered a REGISTER."""
        registration.registered(number, answer, self._loop.time())
        self._drain()

    def paged(self, pager: Pager, number: int, signal: Signal) -> None:
        """The registrar answered about a MESSAGE."""
        pager.signal(number, signal, self._loop.time())
        self._drain()

    def end_all(self, reason: str) -> None:
        """Ends all calls."""
        self.core.end_all(reason, self._loop.time())
        self._drain()

    def journal(self, ready: bool) -> None:
        """Events can be written again, or not any more."""
        self.core.journal(ready, self._loop.time())
        self._drain()

    def transport_failed(self, flow: Flow) -> None:
        """A flow broke."""
        self.core.transport_failed(flow, self._loop.time())
        self._drain()

    def wake(self) -> None:
        """A deadline may have been set from outside of a step."""
        self._arm()

    def close(self) -> None:
        """Stops the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drain(self) -> None:
        while outputs := self.core.drain():
            for output in outputs:
                if type(output) is Step:
                    self._perform(output)
                else:
                    self._ask(output)  # type: ignore[arg-type]  # the union's other half
        self._arm()

    def _arm(self) -> None:
        due = self.core.next_timeout
        armed = self._armed_for
        if due == armed or (due is not None and armed is not None and due >= armed):
            return  # an early wake-up is cheaper than a new timer for each message
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed_for = due
        if due is not None:
            self._timer = self._loop.call_at(due, self._due)

    def _due(self) -> None:
        self._timer = self._armed_for = None
        self.core.handle_timeout(self._loop.time())
        self._drain()
