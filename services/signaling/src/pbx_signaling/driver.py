"""The loop between sockets, clock and router: bytes or time in, steps out, one timer re-armed. It decides nothing.

An answer may come at once, while steps are being carried out: what it causes is carried out after them, in order. Steps
of one call that stand behind each other then are written as one, but what waits for no record is not made to wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pbx_signaling.effects.write_ahead import Clock, Timer
    from pbx_signaling.router.router import Router
    from pbx_signaling.users.step import Ask, Asker, Step
    from pbx_sip.address import Flow


class Driver:
    """Runs a router on a loop."""

    def __init__(
        self, router: Router, perform: Callable[[Step], None], ask: Callable[[Ask], None], clock: Clock
    ) -> None:
        """`perform`: writes a step ahead and lets it go; `ask`: puts a question that waits for nothing."""
        self.router = router
        self._perform = perform
        self._ask = ask
        self._clock = clock
        self._timer: Timer | None = None
        self._armed_for: float | None = None
        self._steps: deque[Step] = deque()
        self._is_working = False

    def received(self, data: bytes, flow: Flow) -> None:
        """A message came."""
        self._do(self.router.receive(data, flow, self._clock.time()))

    def answered(self, ask: Ask, answer: object) -> None:
        """The world answered."""
        self._do(self.router.signal(ask.user, ask.number, answer, self._clock.time()))

    def signal(self, user: Asker, number: str | int, order: object) -> None:
        """The world has something to say that nobody asked for."""
        self._do(self.router.signal(user, number, order, self._clock.time()))

    def end_all(self, reason: str) -> None:
        """Ends all calls."""
        self._do(self.router.end_all(reason, self._clock.time()))

    def journal(self, ready: bool) -> None:
        """Events can be written again, or not any more."""
        self._do(self.router.journal(ready, self._clock.time()))

    def transport_failed(self, flow: Flow) -> None:
        """A flow broke."""
        self._do(self.router.transport_failed(flow, self._clock.time()))

    def wake(self) -> None:
        """A deadline may have been set from outside of a step."""
        self._arm()

    def close(self) -> None:
        """Stops the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _do(self, steps: list[Step]) -> None:
        waiting = self._steps
        waiting.extend(steps)
        if self._is_working:
            return
        self._is_working = True
        try:
            while waiting:
                self._carry_out(waiting.popleft())
        finally:
            self._is_working = False
        self._arm()

    def _carry_out(self, step: Step) -> None:
        waiting = self._steps
        asks = step.asks
        while asks:
            for ask in asks:
                if not ask.waits:
                    self._ask(ask)  # what is answered at once stands in `waiting` now
            asks = ()
            may_grow = step.call_id and (step.events or not step.transmits)
            while may_grow and waiting and waiting[0].call_id == step.call_id:
                later = waiting.popleft()
                step, asks = step.then(later), (*asks, *later.asks)
        self._perform(step)

    def _arm(self) -> None:
        due = self.router.next_timeout
        armed = self._armed_for
        if due == armed or (due is not None and armed is not None and due >= armed):
            return  # an early wake-up is cheaper than a new timer for each message
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._armed_for = due
        if due is not None:
            self._timer = self._clock.call_at(due, self._due)

    def _due(self) -> None:
        self._timer = self._armed_for = None
        self._do(self.router.handle_timeout(self._clock.time()))
