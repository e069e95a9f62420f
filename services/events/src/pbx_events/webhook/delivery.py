"""Sends what is due, endpoint by endpoint: a slow one delays no other, and of a call the oldest event goes first.

Theory of operation. A turn of an endpoint takes a window of what is due, sorts it into chains (the events of one
call, in order), and lets a few workers send chain after chain; a failure ends its chain: what stands behind it waits
with it. All outcomes of a turn are noted in one transaction. A crash before that repeats them: at least once.

Of several replicas one serves an endpoint: it holds the endpoint's lease, renewed in time, given up at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from bisect import bisect_left
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pbx_events.envelope import Envelope
from pbx_events.storage.store import Store
from pbx_events.storage.subscription import DEAD, DELIVERED, Delivery, Outcome, Webhook
from pbx_events.webhook import policy
from pbx_events.webhook.policy import Breaker
from pbx_events.webhook.sender import Answer, Sender
from pbx_runtime import logs
from pbx_runtime.clock import Clock, SystemClock
from pbx_runtime.errors import Unavailable

CONCURRENT: Final = 32
"""Deliveries of one endpoint at once, each of another call."""
WINDOW: Final = 1024
"""Deliveries of one turn: some hundred KiB in memory, and a transaction of a few milliseconds."""
TURN_S: Final = 2.0
"""After this a turn begins no further delivery, so that what was delivered is noted."""
IDLE_S: Final = 1.0
"""How long an endpoint without work sleeps at the most, where another replica may have stored something for it."""
IDLE_ALONE_S: Final = 30.0
"""The same on SQLite: whatever is stored wakes it."""
LEASE_MS: Final = 45_000
LEASE_MARGIN_MS: Final = 20_000
"""A turn needs so much of a lease: its time and that of the attempts under way."""
CLOSE_S: Final = 2.0
"""How long attempts under way may still take when the process ends; cut off, they are made again."""
BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Of the time of an attempt: a receiver nearby to the end of the sender's patience."""

_log = logs.get_logger("webhook")


async def _nothing() -> None:
    return


@dataclass(slots=True)
class Endpoint:
    """What is known of an endpoint while it is served; the counters are its metrics."""

    hook: Webhook
    breaker: Breaker = field(default_factory=Breaker)
    wakeup: asyncio.Event = field(default_factory=asyncio.Event)
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    """It has another URL, and nothing is known against that."""
    leased_until_ms: int = 0
    delivered: int = 0
    failed: int = 0
    dead: int = 0
    is_sending: bool = False
    """Attempts are under way, or being written down."""
    is_back: bool = False
    """It was down, and has just taken a delivery."""
    seconds: float = 0.0
    """Spent on attempts."""
    attempts_within: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    """Attempts by the first of `BUCKETS_S` that they took at the most; the last: longer than all."""

    def took(self, seconds: float) -> None:
        """Count the time of an attempt."""
        self.seconds += seconds
        self.attempts_within[bisect_left(BUCKETS_S, seconds)] += 1

    def take(self, hook: Webhook) -> None:
        """The subscription as it is now."""
        if hook.url != self.hook.url:
            self.breaker = Breaker()
            self.moved.set()
        self.hook = hook


class Deliveries:
    """One task per endpoint."""

    def __init__(
        self,
        store: Store,
        start: Callable[[Any, str], asyncio.Task[None]],
        *,
        allow_private: bool = False,
        holder: str = "alone",
        sender: Sender | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._clock = clock or SystemClock()
        self._start = start
        self._holder = holder
        self.sender = sender or Sender(allow_private=allow_private)
        self.endpoints: dict[str, Endpoint] = {}
        self.on_gone: Callable[[], Awaitable[None]] = _nothing
        """Awaited when an endpoint was disabled."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    async def close(self) -> None:
        """Lets attempts that are under way end and be written down, closes connections, gives the leases up."""
        self._closing = True
        sending = [self._tasks[hook_id] for hook_id, endpoint in self.endpoints.items() if endpoint.is_sending]
        if sending:
            await asyncio.wait(sending, timeout=CLOSE_S)
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.sender.close()
        await self._store.release(self._holder)

    def serve(self, hooks: Sequence[Webhook]) -> None:
        """Takes the list of endpoints over."""
        wanted = {hook.id: hook for hook in hooks if hook.enabled}
        for hook_id in [known for known in self._tasks if known not in wanted]:
            self._tasks.pop(hook_id).cancel()
            del self.endpoints[hook_id]
        for hook in wanted.values():
            if hook.id in self.endpoints:
                self.endpoints[hook.id].take(hook)
            else:
                endpoint = self.endpoints[hook.id] = Endpoint(hook)
                self._tasks[hook.id] = self._start(self._run(endpoint), f"webhook {hook.id}")

    def wake(self) -> None:
        """There may be something to send."""
        for endpoint in self.endpoints.values():
            endpoint.wakeup.set()

    async def _run(self, endpoint: Endpoint) -> None:
        while not self._closing:
            endpoint.wakeup.clear()
            pause_s = await self.turn(endpoint)
            # What is new to send does not wake an endpoint that is down; another URL does.
            is_down = endpoint.breaker.pause_s(self._clock.now()) > 0
            if is_down or pause_s > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await (endpoint.moved if is_down else endpoint.wakeup).wait()
            endpoint.moved.clear()

    async def turn(self, endpoint: Endpoint) -> float:
        """Tries what is due. Returns seconds until the next turn, unless something new is stored before."""
        try:
            return 0.0 if await self._try_due(endpoint) else await self._pause_s(endpoint)
        except Unavailable as error:
            _log.warning("deliveries wait for the store", reason=error.detail)
            return IDLE_S

    async def _pause_s(self, endpoint: Endpoint) -> float:
        """Until the next attempt of what waits, or the breaker's next probe."""
        probe_s = endpoint.breaker.pause_s(self._clock.now())
        if probe_s > 0:
            return min(probe_s, IDLE_ALONE_S)
        if not self._store.is_sqlite:
            return IDLE_S
        due_ms = await self._store.next_due_ms(endpoint.hook.id)
        if due_ms is None:
            return IDLE_ALONE_S
        return min(max((due_ms - self._clock.epoch_ms()) / 1000, 0.01), IDLE_ALONE_S)

    async def _try_due(self, endpoint: Endpoint) -> bool:
        """Returns whether there was anything."""
        room = endpoint.breaker.allowance(self._clock.now(), CONCURRENT)
        now_ms = self._clock.epoch_ms()
        if not room or not await self._has_lease(endpoint, now_ms):
            return False
        due = await self._store.due(endpoint.hook.id, now_ms, WINDOW if room > 1 else 1)
        if not due:
            return False
        endpoint.is_sending = True
        try:
            outcomes = await self._send_all(endpoint, _chains(due), room)
            await self._store.settle(outcomes)
        finally:
            endpoint.is_sending = False
        if endpoint.is_back:
            _log.info("endpoint is back", webhook=endpoint.hook.id)
            await self._store.hasten(endpoint.hook.id)
            endpoint.is_back = False
        if any(outcome.status == policy.GONE_STATUS for outcome in outcomes):
            _log.warning("endpoint says that it is gone; disabled", webhook=endpoint.hook.id)
            await self._store.enable_webhook(endpoint.hook.id, enabled=False)
            await self.on_gone()
        return True

    async def _has_lease(self, endpoint: Endpoint, now_ms: int) -> bool:
        if endpoint.leased_until_ms - now_ms >= LEASE_MARGIN_MS:
            return True
        until_ms = now_ms + LEASE_MS
        if not await self._store.lease(endpoint.hook.id, self._holder, now_ms, until_ms):
            return False
        endpoint.leased_until_ms = until_ms
        return True

    async def _send_all(self, endpoint: Endpoint, chains: deque[deque[Delivery]], room: int) -> list[Outcome]:
        outcomes: list[Outcome] = []
        ends_at = self._clock.now() + TURN_S

        def goes_on() -> bool:
            now = self._clock.now()
            return not self._closing and now < ends_at and endpoint.breaker.allowance(now, room) > 0

        async def work() -> None:
            while chains:
                chain = chains.popleft()
                while chain and goes_on():
                    outcome = await self._send(endpoint, chain.popleft())
                    outcomes.append(outcome)
                    if outcome.state != DELIVERED:
                        break
                    if endpoint.breaker.succeeded():
                        endpoint.is_back = True

        async with asyncio.TaskGroup() as group:
            for _ in range(min(room, len(chains))):
                group.create_task(work())
        return outcomes

    async def _send(self, endpoint: Endpoint, delivery: Delivery) -> Outcome:
        at_ms, started = self._clock.epoch_ms(), self._clock.now()
        answer = await self.sender.send(endpoint.hook, delivery.event)
        took_s = self._clock.now() - started
        endpoint.took(took_s)
        step = _decide(answer, delivery)
        state = DEAD if step.next is policy.Next.GONE else step.next.value
        if state == DELIVERED:
            endpoint.delivered += 1
        else:
            endpoint.failed += 1
            endpoint.dead += state == DEAD
            endpoint.breaker.failed(self._clock.now())
            event = delivery.event
            joined = {"call_id": event.call_id} if event.call_id else {}
            _log.warning("delivery failed", webhook=endpoint.hook.id, event_id=event.id, status=answer.status, **joined)
        next_at_ms = self._clock.epoch_ms() + int(step.after_s * 1000)
        took_ms = int(took_s * 1000)
        return Outcome(endpoint.hook.id, delivery, state, next_at_ms, at_ms, took_ms, answer.status, answer.excerpt)


def _decide(answer: Answer, delivery: Delivery) -> policy.Step:
    jitter = random.random()  # noqa: S311  # spreads retries, guards nothing
    return policy.decide(answer.status, delivery.attempts, answer.retry_after_s, jitter)


def _chains(due: Sequence[Delivery]) -> deque[deque[Delivery]]:
    """The deliveries of each call in order; what belongs to no call is a chain of its own."""
    chains: dict[str, deque[Delivery]] = {}
    for delivery in due:
        event: Envelope = delivery.event
        chains.setdefault(event.call_id or event.id, deque()).append(delivery)
    return deque(chains.values())
