"""Write-ahead: the events of a step are in Redis before its transmissions leave.

Steps of one call leave in order, and so do the orders to relays among its questions (`questions.AFTER_RECORDS`); the
other questions leave at once. Where Redis does not answer within `PATIENCE_S`, live calls go on (their events
wait in memory, in order, and are written when Redis is back) and no new call is taken: `ready` is False until the
backlog is
gone. A process that dies in that state loses what waited; that is said in the log when it begins.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from pbx_signaling.users.step import Ask, Step
    from pbx_sip.address import Flow

PATIENCE_S: Final = 0.4
"""How long a transmission waits for its events: below T1 (0.5 s), so that phones do not repeat themselves."""
BACKLOG_MAX: Final = 200_000
"""Events that wait for Redis. Five per call: 40 000 calls that ended meanwhile, some 60 MiB. Beyond, the oldest go."""


class Timer(Protocol):
    """A timer that was set."""

    def cancel(self) -> None:
        """Forgets it."""


class Clock(Protocol):
    """Time as the loop knows it: an asyncio loop, or a virtual one."""

    def time(self) -> float:
        """Monotonic seconds."""

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Calls back at that time."""


_Batch = tuple[str, list[bytes], bytes]
"""Call id, events, and the state of the call after them."""


class Outbox(Protocol):
    """Where events are written, all of one call in one transaction with its state."""

    def write(self, call_id: str, events: list[bytes], state: bytes, done: Callable[[bool], None]) -> None:
        """Writes events and the call's new state (empty: it is state); `done(True)` when both are stored."""


@dataclass(slots=True, eq=False)
class _Held:
    """A step that waits for its events, or behind such a step of the same call."""

    step: Step
    written: bool
    since: float
    batch: _Batch | None = None
    kept: bool = False
    """It was given up waiting for, and is in the backlog."""


class Journal:
    """Orders steps behind their events."""

    def __init__(
        self,
        outbox: Outbox,
        transmit: Callable[[bytes, Flow], None],
        ask: Callable[[Ask], None],
        clock: Clock,
    ) -> None:
        self.ready = True
        self.backlog_dropped = 0
        self.on_ready: Callable[[bool], None] = lambda ready: None
        self._outbox = outbox
        self._transmit = transmit
        self._ask = ask
        self._backlog: deque[_Batch] = deque()
        self._held: dict[str, deque[_Held]] = {}
        """By call."""
        self._order: deque[_Held] = deque()
        """All steps that wait for a write, oldest first: the one timer looks at its head."""
        self._retrying = False
        self._timer: Timer | None = None
        self._clock = clock

    @property
    def backlog(self) -> int:
        """Batches of events that wait for Redis."""
        return len(self._backlog)

    def perform(self, step: Step) -> None:
        """Writes the step's events; then asks what waits for them, and sends."""
        call_id = step.call_id
        if not step.events:
            queue = self._held.get(call_id)
            if queue:
                queue.append(_Held(step, True, 0.0))
            else:
                self._let_go(step)
            return
        if not call_id:
            for event in step.events:
                self._note(event)
            self._let_go(step)
            return
        batch: _Batch = (call_id, list(step.events), step.snapshot)
        if not self.ready:
            self._keep(batch)
            self._let_go(step)
            return
        held = _Held(step, False, self._clock.time(), batch)
        self._held.setdefault(call_id, deque()).append(held)
        self._outbox.write(*batch, lambda stored: self._written(held, stored))
        if held.written:
            return
        self._order.append(held)
        if self._timer is None:
            self._timer = self._clock.call_at(held.since + PATIENCE_S, self._look)

    def _note(self, event: bytes) -> None:
        batch: _Batch = ("", [event], b"")
        if not self.ready:
            self._keep(batch)
            return

        def done(stored: bool) -> None:
            if not stored:
                self._keep(batch)
                self._lost("write refused")

        self._outbox.write(*batch, done)

    def _written(self, held: _Held, stored: bool) -> None:
        if held.kept:
            return  # it stands in the backlog in its turn; written twice, its events are the same ones by their ids
        if not stored:
            assert held.batch is not None
            self._keep(held.batch)
            self._lost("write refused")
        held.written = True
        self._advance(held.step.call_id)

    def _advance(self, call_id: str) -> None:
        """Lets go what is at the head of a call's queue and has its events written."""
        queue = self._held.get(call_id)
        while queue and queue[0].written:
            self._let_go(queue.popleft().step)
        if not queue:
            self._held.pop(call_id, None)

    def _let_go(self, step: Step) -> None:
        """Relays hear of it before phones do: media may come with the next packet."""
        for ask in step.asks:
            if ask.waits:
                self._ask(ask)
        transmit = self._transmit
        for data, flow in step.transmits:
            transmit(data, flow)

    # --- without Redis

    def _look(self) -> None:
        """Looks whether the oldest write is too old."""
        self._timer = None
        order = self._order
        while order and order[0].written:
            order.popleft()
        if not order:
            return
        due = order[0].since + PATIENCE_S
        if self._clock.time() < due:
            self._timer = self._clock.call_at(due, self._look)
            return
        self._lost("no answer in time")
        while order:
            held = order.popleft()
            if not held.written:
                assert held.batch is not None
                # Now, and not when it fails: later events of the call must not get before it.
                self._keep(held.batch)
                held.written = held.kept = True
                self._advance(held.step.call_id)

    def _lost(self, detail: str) -> None:
        if self.ready:
            self.ready = False
            self.on_ready(False)
        if not self._retrying:
            self._retrying = True
            self._clock.call_at(self._clock.time() + PATIENCE_S, self._retry)

    def _keep(self, batch: _Batch) -> None:
        if len(self._backlog) >= BACKLOG_MAX:
            self._backlog.popleft()
            self.backlog_dropped += 1
        self._backlog.append(batch)

    def _retry(self) -> None:
        """Writes the oldest batch of the backlog (or nothing, as a probe); the next one when it is stored."""
        batch = self._backlog[0] if self._backlog else None
        call_id, events, state = batch or ("", [], b"")
        self._outbox.write(call_id, events, state, lambda stored: self._retried(batch, stored))

    def _retried(self, batch: _Batch | None, stored: bool) -> None:
        if not stored:
            self._clock.call_at(self._clock.time() + PATIENCE_S, self._retry)
            return
        # What stands first now may have come behind the probe, or moved up because the backlog was full.
        if self._backlog and self._backlog[0] is batch:
            self._backlog.popleft()
        if self._backlog:
            self._retry()
            return
        self._retrying = False
        self.ready = True
        self.on_ready(True)

    async def flush(self, patience_s: float) -> bool:
        """Waits until everything is written; False where that took too long."""
        deadline = self._clock.time() + patience_s
        while self._backlog or self._held:
            if self._clock.time() >= deadline:
                return False
            await asyncio.sleep(0.01)
        return True
