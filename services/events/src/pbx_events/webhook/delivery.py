"""Sends what is due, endpoint by endpoint: a slow one delays no other, and of a call the oldest event goes first."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import httpx

from pbx_events.cdr.builder import iso
from pbx_events.envelope import Envelope
from pbx_events.storage.store import DEAD, DELIVERED, EXCERPT_MAX, Delivery, Outcome, Store, Webhook
from pbx_events.webhook import policy, signing
from pbx_events.webhook.policy import Breaker
from pbx_events.webhook.target import resolve
from pbx_runtime import logs
from pbx_runtime.errors import ServiceError, Unavailable

TIMEOUT_S: Final = 10.0
CONCURRENT: Final = 32
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


async def _nothing() -> None:
    return


class Deliveries:
    """One task per endpoint."""

    def __init__(
        self, store: Store, start: Callable[[Any, str], asyncio.Task[None]], *, allow_private: bool = False
    ) -> None:
        self._allow_private = allow_private
        self._store = store
        self._start = start
        self._hooks: dict[str, Webhook] = {}
        self.on_gone: Callable[[], Awaitable[None]] = _nothing
        """Awaited when an endpoint was disabled."""
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
        self._hooks = wanted
        for hook in wanted.values():
            if hook.id not in self._tasks:
                self._wakeups[hook.id] = asyncio.Event()
                self._tasks[hook.id] = self._start(self._run(hook.id, self._wakeups[hook.id]), f"webhook {hook.id}")

    def wake(self) -> None:
        """There may be something to send."""
        for event in self._wakeups.values():
            event.set()

    async def _run(self, hook_id: str, wakeup: asyncio.Event) -> None:
        breaker = Breaker()
        while True:
            try:
                if await self._turn(hook_id, breaker):
                    continue
            except Unavailable as error:
                _log.warning("deliveries wait for the store", reason=str(error))
            wakeup.clear()
            try:
                async with asyncio.timeout(IDLE_S):
                    await wakeup.wait()
            except TimeoutError:
                pass

    async def _turn(self, hook_id: str, breaker: Breaker) -> bool:
        """Tries what is due. Returns whether there was anything."""
        room = breaker.allowance(time.monotonic(), CONCURRENT)
        due = await self._store.due(hook_id, int(time.time() * 1000), room) if room else []
        if not due:
            return False
        hook = self._hooks[hook_id]
        outcomes = await asyncio.gather(*(self._send(hook, delivery) for delivery in due))
        await self._store.settle(outcomes)
        for outcome in outcomes:
            if outcome.state == DELIVERED:
                if breaker.succeeded():
                    _log.info("endpoint is back", webhook=hook_id)
                    await self._store.hasten(hook_id)
            else:
                breaker.failed(time.monotonic())
        if any(outcome.status == policy.GONE_STATUS for outcome in outcomes):
            _log.warning("endpoint says that it is gone; disabled", webhook=hook_id)
            await self._store.disable_webhook(hook_id)
            await self.on_gone()
        return True

    async def _send(self, hook: Webhook, delivery: Delivery) -> Outcome:
        at_ms, started = int(time.time() * 1000), time.monotonic()
        status, retry_after_s, excerpt = await self.post(hook, delivery.event)
        step = policy.decide(status, delivery.attempts, retry_after_s, random.random())  # noqa: S311  # spreads retries
        if step.next is policy.Next.DONE:
            self.delivered += 1
        else:
            self.failed += 1
            _log.warning("delivery failed", webhook=hook.id, event_id=delivery.event.id, status=status)
        state = DEAD if step.next is policy.Next.GONE else step.next.value
        next_at_ms = int((time.time() + step.after_s) * 1000)
        duration_ms = int((time.monotonic() - started) * 1000)
        return Outcome(hook.id, delivery, state, next_at_ms, at_ms, duration_ms, status, excerpt)

    async def post(self, hook: Webhook, event: Envelope) -> tuple[int, int, str]:
        """One attempt: status (0 for no answer), Retry-After in seconds, the first of the answer or the error."""
        body = json.dumps(cloud_event(event), separators=(",", ":")).encode()
        now_s = time.time()
        head = signing.headers(hook.secrets(int(now_s * 1000)), event.id, int(now_s), body)
        head["content-type"] = "application/cloudevents+json"
        try:
            async with asyncio.timeout(TIMEOUT_S):
                target = await resolve(hook.url, allow_private=self._allow_private)
                head["host"] = target.host_header
                named = {"sni_hostname": target.server_name}
                request = self._client.stream("POST", target.url, content=body, headers=head, extensions=named)
                async with request as response:
                    return response.status_code, _retry_after(response), await _excerpt(response)
        except ServiceError as error:
            return 0, 0, error.detail
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return 0, 0, type(error).__name__


def _retry_after(response: httpx.Response) -> int:
    after = response.headers.get("retry-after", "")
    return int(after) if after.isascii() and after.isdecimal() and len(after) < 10 else 0


async def _excerpt(response: httpx.Response) -> str:
    kept, read = b"", 0
    async for chunk in response.aiter_raw():
        read += len(chunk)
        kept = (kept + chunk)[:EXCERPT_MAX]
        if read > ANSWER_MAX:
            break
    return kept.decode("utf-8", "replace").replace("\0", "\ufffd")
