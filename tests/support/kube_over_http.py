"""The fake cluster behind kmock's server: the operator's behaviours once more, through its real client and over HTTP.

Speaks as much of the Kubernetes API as the client does: verbs, label selectors, merge patches, the status subresource,
delete options, Status objects with the code of every error.
"""

from __future__ import annotations

import re
from typing import Any

import kmock

from pbx_operator.kube import Kinds, KubeError
from pbx_operator.observed import Manifest
from support.fake_kube import FakeKube

_Response: Any = kmock.Response  # type: ignore[attr-defined]  # exported without saying so
_ROOTS = "|".join(sorted({re.escape(kind.value.root) for kind in Kinds}, key=len, reverse=True))
_PATH = re.compile(rf"({_ROOTS})(?:/namespaces/([^/]+))?/([a-z]+)(?:/([^/]+))?(/status)?")


class Front:
    """Answers HTTP requests from a `FakeKube`; set `kube` before the first one."""

    def __init__(self) -> None:
        self.kube: FakeKube = FakeKube()
        self.requests = 0

    async def answer(self, request: kmock.Request) -> Any:
        """One request."""
        self.requests += 1
        try:
            body = await self._answer(request.method.value.upper(), str(request.url.path), request)
        except KubeError as error:
            if not error.status:  # the request, or its answer, was lost
                return _Response(payload=b"<html>gateway timeout</html>", status=504)
            status = {"kind": "Status", "status": "Failure", "code": error.status, "message": str(error)}
            return _Response(payload=status, status=error.status)
        return _Response(payload=body)

    async def _answer(self, method: str, path: str, request: kmock.Request) -> Manifest:
        found = _PATH.fullmatch(path)
        assert found is not None, f"a path that no API server has: {path}"
        root, namespace, plural, name, subresource = found.groups()
        kind = next(kind for kind in Kinds if (kind.value.root, kind.value.plural) == (root, plural))
        data: Any = request.data
        where = namespace or ""
        if method == "GET" and name:
            return await self.kube.get(kind, where, name)
        if method == "GET":
            selector = request.params.get("labelSelector", "")
            return {"metadata": {}, "items": await self.kube.list(kind, where, selector)}
        if method == "POST":
            return await self.kube.create(kind, data)
        if method == "PATCH":
            return await self.kube.patch(kind, where, name, data, status=bool(subresource))
        if method == "PUT":
            return await self.kube.replace(kind, data)
        assert method == "DELETE", method
        uid = (data.get("preconditions") or {}).get("uid", "")
        await self.kube.delete(kind, where, name, uid, data.get("gracePeriodSeconds"))
        return {"kind": "Status", "status": "Success"}
