"""One attempt to deliver: a signed POST to one of the addresses that the name was resolved to, within limits.

The status decides. What comes after the head of an answer is read for the log alone, a little and not for long: a body
that breaks off, or never ends, takes nothing back.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult

from pbx_events.envelope import Envelope
from pbx_events.storage.subscription import EXCERPT_MAX, Webhook
from pbx_events.webhook import signing
from pbx_events.webhook.cloudevent import cloud_event
from pbx_events.webhook.head import Attempt, NotingConnector, NotingResponse
from pbx_events.webhook.policy import RETRY_AFTER_MAX_S
from pbx_events.webhook.target import Target, resolve
from pbx_runtime.build import USER_AGENT
from pbx_runtime.errors import ServiceError
from pbx_runtime.text import printable_lines

TIMEOUT_S: Final = 10.0
EXCERPT_S: Final = 1.0
"""How long the log waits for the beginning of a body."""
ANSWER_MAX: Final = 65_536
"""Octets of a body that are read, so that its connection can be used again. Threat: an answer without end."""
HEADER_MAX: Final = 131_072
"""Octets of a header line of an answer: more than any server sends, and bounded."""
HEADERS_MAX: Final = 1_000
STAGGER_S: Final = 0.25
"""Before the next address of a host is tried beside the one before it (RFC 8305 section 5)."""
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
        self._addresses = _Checked()

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
        head["user-agent"] = USER_AGENT
        with Attempt() as attempt:
            try:
                async with asyncio.timeout(TIMEOUT_S) as limit:
                    response = await self._post(hook.url, head, body)
                    limit.reschedule(None)  # the status is here: what follows has a time of its own
                    return await _answer(response)
            except TimeoutError:
                return _broken(attempt, f"no answer within {TIMEOUT_S:g} s")
            except ServiceError as error:
                return Answer(0, 0, error.detail)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                return _broken(attempt, type(error).__name__)

    async def _post(self, url: str, head: dict[str, str], body: bytes) -> aiohttp.ClientResponse:
        target = await self._target(url)
        head["host"] = target.host_header
        return await self._open().post(
            target.url,
            data=body,
            headers=head,
            server_hostname=target.server_name,
            allow_redirects=False,
        )

    async def _target(self, url: str) -> Target:
        """Where the name was found, and checked, last, for PIN_S."""
        now = time.monotonic()
        known = self._pinned.get(url)
        if known is not None and now < known[0]:
            return known[1]
        if len(self._pinned) >= PINNED_MAX:
            self._pinned.clear()
            self._addresses.clear()
        target = await resolve(url, allow_private=self._allow_private)
        self._pinned[url] = (now + PIN_S, target)
        self._addresses.pin(target)
        return target

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Connections go to the addresses that were checked: nothing is resolved again, no proxy is used.
            self._session = aiohttp.ClientSession(
                connector=NotingConnector(
                    limit=CONNECTIONS_MAX,
                    resolver=self._addresses,
                    use_dns_cache=False,
                    happy_eyeballs_delay=STAGGER_S,
                    interleave=1,
                ),
                response_class=NotingResponse,
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                max_line_size=HEADER_MAX,
                max_field_size=HEADER_MAX,
                max_headers=HEADERS_MAX,
                trust_env=False,
            )
        return self._session


async def _answer(response: aiohttp.ClientResponse) -> Answer:
    try:
        excerpt = await _excerpt(response)
    finally:
        response.release()  # for the next delivery, where the body was read to its end; else it is closed
    return Answer(response.status, retry_after_s(response.headers.get("retry-after", ""), time.time()), excerpt)


def _broken(attempt: Attempt, reason: str) -> Answer:
    """An answer without a head that can be read; its status counts, where it got so far."""
    return Answer(attempt.status, 0, f"the head of the answer is broken: {reason}" if attempt.status else reason)


class _Checked(AbstractResolver):
    """What aiohttp asks for addresses: those that `resolve` looked up and allowed, and no others."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[str, ...]] = {}

    def pin(self, target: Target) -> None:
        """From now on the name leads there."""
        self._of[str(target.url.raw_host)] = target.addresses

    def clear(self) -> None:
        """Forget all."""
        self._of.clear()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See AbstractResolver. Raises OSError for a name that was not looked up here."""
        addresses = self._of.get(host, ())
        if not addresses:
            raise OSError(f"{host[:100]} was not looked up")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


def retry_after_s(value: str, now: float) -> int:
    """Seconds in a Retry-After, which may be a date (RFC 9110 section 10.2.3); 0 for none, or a wrong one."""
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return int(value) if len(value) < 10 else RETRY_AFTER_MAX_S
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, IndexError, OverflowError):
        return 0
    if moment.tzinfo is None:  # "-0000": a time in UTC of which nothing more is known
        moment = moment.replace(tzinfo=UTC)
    return max(0, math.ceil(moment.timestamp() - now))


async def _excerpt(response: aiohttp.ClientResponse) -> str:
    """The beginning of the body, as far as it comes in time. Never raises for what the endpoint does."""
    kept, read = b"", 0
    try:
        async with asyncio.timeout(EXCERPT_S):
            async for chunk in response.content.iter_any():
                read += len(chunk)
                kept = (kept + chunk)[:EXCERPT_MAX]
                if read > ANSWER_MAX:
                    response.close()
                    break
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
        response.close()
    return printable_lines(kept.decode("utf-8", "replace"))
