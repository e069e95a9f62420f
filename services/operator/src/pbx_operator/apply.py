"""The one door to the API server: HTTP over aiohttp with the credentials that kopf found.

Deliberately small: seven kinds, six verbs, JSON. Watches are kopf's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from pbx_operator.kube import ConflictError, Kinds, KubeError, NotFoundError
from pbx_operator.observed import Manifest

TIMEOUT_S: Final = 10.0
"""Longer than any answer of a healthy API server; a pass is repeated anyway."""
PAGE: Final = 500
MERGE_PATCH: Final = "application/merge-patch+json"
_ERRORS: Final[Mapping[int, type[KubeError]]] = {404: NotFoundError, 409: ConflictError}


class ApiServer:
    """A `Kube` over HTTP. An async context manager: it owns the session."""

    def __init__(self, url: str, headers: Callable[[], Mapping[str, str]], ssl: Any = None) -> None:
        """`headers` is asked for each request: a service account's token changes while the process lives."""
        self._url = url.rstrip("/")
        self._headers = headers
        self._ssl = ssl
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session."""
        connector = aiohttp.TCPConnector(ssl=self._ssl) if self._ssl is not None else None
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()

    async def list(self, kind: Kinds, namespace: str = "", selector: str = "") -> list[Manifest]:
        """All pages."""
        items: list[Manifest] = []
        query: dict[str, str] = {"limit": str(PAGE)}
        if selector:
            query["labelSelector"] = selector
        while True:
            page = await self._call("GET", self._path(kind, namespace), query=query)
            items += page.get("items") or []
            more = (page.get("metadata") or {}).get("continue")
            if not more:
                return items
            query["continue"] = more

    async def get(self, kind: Kinds, namespace: str, name: str) -> Manifest:
        """One object."""
        return await self._call("GET", self._path(kind, namespace, name))

    async def create(self, kind: Kinds, body: Manifest) -> Manifest:
        """A new object."""
        return await self._call("POST", self._path(kind, body["metadata"].get("namespace", "")), body)

    async def patch(self, kind: Kinds, namespace: str, name: str, patch: Manifest, *, status: bool = False) -> Manifest:
        """A merge patch."""
        path = self._path(kind, namespace, name) + ("/status" if status else "")
        return await self._call("PATCH", path, patch, content_type=MERGE_PATCH)

    async def replace(self, kind: Kinds, body: Manifest) -> Manifest:
        """The whole object."""
        meta = body["metadata"]
        return await self._call("PUT", self._path(kind, meta.get("namespace", ""), meta["name"]), body)

    async def delete(self, kind: Kinds, namespace: str, name: str, uid: str, grace_s: int | None) -> None:
        """Delete if the uid still fits."""
        options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            options["preconditions"] = {"uid": uid}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        await self._call("DELETE", self._path(kind, namespace, name), options)

    @staticmethod
    def _path(kind: Kinds, namespace: str, name: str = "") -> str:
        where = kind.value
        scope = f"/namespaces/{namespace}" if namespace and where.is_namespaced else ""
        return f"{where.root}{scope}/{where.plural}" + (f"/{name}" if name else "")

    async def _call(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Manifest:
        assert self._session is not None, "used outside of `async with`"
        headers = {**self._headers(), "Content-Type": content_type, "Accept": "application/json"}
        try:
            async with self._session.request(
                method, self._url + path, json=body, params=query, headers=headers
            ) as response:
                answer = await _json(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise KubeError(0, f"{method} {path}: {type(error).__name__}: {error}") from error
        if response.status >= 400:
            words = str(answer.get("message") or response.reason)
            raise _ERRORS.get(response.status, KubeError)(response.status, f"{method} {path}: {words}", words)
        return answer


async def _json(response: aiohttp.ClientResponse) -> Manifest:
    """The answer's object; a proxy's error page becomes an empty one."""
    try:
        answer = await response.json(content_type=None)
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {}
