"""Sends what is due, endpoint by endpoint: a slow one delays no other, and of a call the oldest event goes first."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from typing import Any, Final

import httpx

from pbx_events.cdr.builder import iso
from pbx_events.envelope import Envelope
from pbx_events.storage.store import Delivery, Store, Webhook
from pbx_events.webhook import policy, signing
from pbx_runtime import logs
from pbx_runtime.errors import Unavailable

TIMEOUT_S: Final = 10.0
CONCURRENT: Final = 8
"""Deliveries of one endpoint at once, each of another call."""
IDLE_S: Final = 0.5
ANSWER_MAX: Final = 65_536
"""Octets of an answer that are read. Threat: an endpoint that answers without end."""

_log = logs.get_logger("webhook")


def cloud_event(event: Envelope) -> dict[str, Any]:
    """CloudEvents 1.0, structured JSON."""
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": f"sip-pbx/{event.source}",
        "type": f"io.pbx.{event.type}.v1",
        "subject": event.call_id or event.data.get("aor", ""),
        "time": iso(event.at_ms),
        "datacontenttype": "application/json",
        "data": {"call_id": event.call_id or None, "sequence": event.sequence or None, **event.data},
    }


class Deliveries:
    """One task per endpoint."""

    def __init__(self, store: Store, start: Callable[[Any, str], asyncio.Task[None]]) -> None:
        self._store = store
        self._start = start
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wakeups: dict[str, asyncio.Event] = {}
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)
        self.delivered = 0
        self.failed = 0

    async def close(self) -> None:
        """Closes connections."""
        await self._client.aclose()

    def serve(self, hooks: list[Webhook]) -> None:
        """Takes the list of endpoints over."""
        wanted = {hook.id: hook for hook in hooks if hook.enabled}
        for hook_id in [known for known in self._tasks if known not in wanted]:
            self._tasks.pop(hook_id).cancel()
            del self._wakeups[hook_id]
        for hook in wanted.values():
            if hook.id not in self._tasks:
                self._wakeups[hook.id] = asyncio.Event()
                self._tasks[hook.id] = self._start(self._run(hook, self._wakeups[hook.id]), f"webhook {hook.id}")

    def wake(self) -> None:
        """There may be something to send."""
        for event in self._wakeups.values():
            event.set()

    async def _run(self, hook: Webhook, wakeup: asyncio.Event) -> None:
        while True:
            try:
                due = await self._store.due(hook.id, int(time.time() * 1000), CONCURRENT)
                if due:
                    await asyncio.gather(*(self._send(hook, delivery) for delivery in due))
                    continue
            except Unavailable as error:
                _log.warning("deliveries wait for the store", reason=str(error))
            wakeup.clear()
            try:
                async with asyncio.timeout(IDLE_S):
                    await wakeup.wait()
            except TimeoutError:
                pass

    async def _send(self, hook: Webhook, delivery: Delivery) -> None:
        body = json.dumps(cloud_event(delivery.event), separators=(",", ":")).encode()
        status, retry_after_s, error = await self._post(hook, delivery.event.id, body)
        step = policy.decide(status, delivery.attempts, retry_after_s, random.random())  # noqa: S311  # spreads retries
        if step.next is policy.Next.DONE:
            self.delivered += 1
        else:
            self.failed += 1
            _log.warning("delivery failed", webhook=hook.id, event_id=delivery.event.id, status=status, reason=error)
        if step.next is policy.Next.GONE:
            await self._store.disable_webhook(hook.id)
        state = "dead" if step.next is policy.Next.GONE else step.next.value
        next_at_ms = int((time.time() + step.after_s) * 1000)
        await self._store.settle(delivery, state, next_at_ms, error)

    async def _post(self, hook: Webhook, event_id: str, body: bytes) -> tuple[int, int, str]:
        head = signing.headers(hook.secret, event_id, int(time.time()), body)
        head["content-type"] = "application/cloudevents+json"
        try:
            async with self._client.stream("POST", hook.url, content=body, headers=head) as response:
                read = 0
                async for chunk in response.aiter_raw():
                    read += len(chunk)
                    if read > ANSWER_MAX:
                        break
                after = response.headers.get("retry-after", "")
                return response.status_code, int(after) if after.isdecimal() else 0, f"HTTP {response.status_code}"
        except (httpx.HTTPError, OSError) as error:
            return 0, 0, type(error).__name__
