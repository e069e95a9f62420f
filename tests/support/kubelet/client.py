"""The little of the Kubernetes API that a kubelet needs, over aiohttp with a client certificate."""

from __future__ import annotations

import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

Body = dict[str, Any]
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


class ApiError(Exception):
    """The API server refused."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status


class Client:
    """An async context manager."""

    def __init__(self, url: str, pki: Path) -> None:
        self._url = url
        self._tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._tls.load_cert_chain(str(pki / "admin.crt"), str(pki / "admin.key"))

    async def __aenter__(self) -> Self:
        """Open the session."""
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=30)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self._session.close()

    async def call(self, method: str, path: str, body: Body | None = None, kind: str = "application/json") -> Body:
        """One request. Raises ApiError."""
        headers = {"Content-Type": kind}
        async with self._session.request(method, self._url + path, json=body, headers=headers) as response:
            answer: Body = await response.json(content_type=None)
        if response.status >= 400:
            raise ApiError(response.status, str(answer.get("message", "")))
        return answer

    async def items(self, path: str) -> list[Body]:
        """A list."""
        return list((await self.call("GET", path)).get("items") or ())
