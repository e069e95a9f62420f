"""CDRs in batches by HTTP: a POST of newline-delimited JSON, taken when the answer is 2xx.

The URL is the operator's own setting, so private addresses are as good as others; webhooks, which users of the API
make, are checked in `webhook.target`. `Idempotency-Key` is the same when a batch is sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import aiohttp

from pbx_events.sink.base import SinkError
from pbx_runtime.build import USER_AGENT

TIMEOUT_S: Final = 30.0
"""For a whole batch: a receiver writes it to its own database before it answers."""
HEADER_MAX: Final = 8_190


class HttpBatch:
    """One URL."""

    name = "http"

    def __init__(self, url: str, token: str = "") -> None:
        """`token`: sent as a bearer token where it is not empty."""
        self._url = url
        self._head = {"content-type": "application/x-ndjson", "user-agent": USER_AGENT}
        if token:
            self._head["authorization"] = f"Bearer {token}"
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return "<HttpBatch>"

    async def put(self, batch_id: str, lines: Sequence[bytes]) -> None:
        """See `Sink`."""
        body = b"".join(line + b"\n" for line in lines)
        head = self._head | {"idempotency-key": batch_id}
        try:
            async with self._open().post(self._url, data=body, headers=head, allow_redirects=False) as response:
                status = response.status  # the body of the answer is nobody's: the connection is closed with it
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
            raise SinkError(type(error).__name__) from error
        if not 200 <= status < 300:
            raise SinkError(f"status {status}")

    async def close(self) -> None:
        """See `Sink`."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=1),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=HEADER_MAX,
                trust_env=False,
            )
        return self._session
