"""One attempt to deliver: a signed POST to the address that the name was resolved to, within limits."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

import aiohttp
import msgspec

from pbx_events.envelope import Envelope
from pbx_events.storage.subscription import EXCERPT_MAX, Webhook
from pbx_events.webhook import signing
from pbx_events.webhook.cloudevent import cloud_event
from pbx_events.webhook.target import Target, resolve
from pbx_runtime.errors import ServiceError

TIMEOUT_S: Final = 10.0
ANSWER_MAX: Final = 65_536
"""Octets of an answer that are read. Threat: an endpoint that answers without end."""
HEADER_MAX: Final = 8_190
"""Octets of a header line of an answer."""
CONNECTIONS_MAX: Final = 256
"""Over all endpoints."""

PIN_S: Final = 10.0
"""How long an address that was looked up is used: a lookup costs more than a delivery."""
PINNED_MAX: Final = 10_000
"""URLs whose addresses are kept: more than there are endpoints."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `status` is 0 where nothing did, and `excerpt` then says why."""

    status: int
    retry_after_s: int
    excerpt: str


class Sender:
    """Keeps connections open between attempts."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._session: aiohttp.ClientSession | None = None
        self._pinned: dict[str, tuple[float, Target]] = {}

    async def close(self) -> None:
        """Closes connections."""
        if self._session is not None:
            await self._session.close()

    async def send(self, hook: Webhook, event: Envelope) -> Answer:
        """Delivers a stored event once."""
        return await self.post(hook, event.id, msgspec.json.encode(cloud_event(event)))

    async def post(self, hook: Webhook, message_id: str, body: bytes) -> Answer:
        """Delivers a body once. Never raises for what the endpoint does."""
        now_s = time.time()
        head = signing.headers(hook.secrets(int(now_s * 1000)), message_id, int(now_s), body)
        head["content-type"] = "application/cloudevents+json"
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._post(hook.url, head, body)
        except TimeoutError:
            return Answer(0, 0, f"no answer within {TIMEOUT_S:g} s")
        except ServiceError as error:
            return Answer(0, 0, error.detail)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(0, 0, type(error).__name__)

    async def _post(self, url: str, head: dict[str, str], body: bytes) -> Answer:
        target = await self._target(url)
        head["host"] = target.host_header
        request = self._open().post(
            target.address,
            data=body,
            headers=head,
            server_hostname=target.server_name,
            allow_redirects=False,
        )
        async with request as response:
            return Answer(response.status, _retry_after(response), await _excerpt(response))

    async def _target(self, url: str) -> Target:
        """The address that was looked up and checked last, for PIN_S."""
        now = time.monotonic()
        known = self._pinned.get(url)
        if known is not None and now < known[0]:
            return known[1]
        if len(self._pinned) >= PINNED_MAX:
            self._pinned.clear()
        target = await resolve(url, allow_private=self._allow_private)
        self._pinned[url] = (now + PIN_S, target)
        return target

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # The target is an address already: nothing is resolved again, no proxy of the environment is used.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                max_line_size=HEADER_MAX,
                trust_env=False,
            )
        return self._session


def _retry_after(response: aiohttp.ClientResponse) -> int:
    after = response.headers.get("retry-after", "")
    return int(after) if after.isascii() and after.isdecimal() and len(after) < 10 else 0


async def _excerpt(response: aiohttp.ClientResponse) -> str:
    kept, read = b"", 0
    async for chunk in response.content.iter_any():
        read += len(chunk)
        kept = (kept + chunk)[:EXCERPT_MAX]
        if read > ANSWER_MAX:
            response.close()
            break
    return kept.decode("utf-8", "replace").replace("\0", "\ufffd")
