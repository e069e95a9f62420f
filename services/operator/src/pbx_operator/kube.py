"""The little that the operator asks of Kubernetes, as a Protocol. `apply.ApiServer` speaks to a real one."""

from __future__ import annotations

import enum
from typing import NamedTuple, Protocol

from pbx_operator.crd.base import GROUP, VERSION
from pbx_operator.observed import Manifest


class Kind(NamedTuple):
    """Where objects of a kind live."""

    group: str
    version: str
    plural: str
    is_namespaced: bool = True

    @property
    def root(self) -> str:
        """The API's path."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


class Kinds(enum.Enum):
    """Every kind that the operator touches."""

    POOL = Kind(GROUP, VERSION, "mediarelaypools")
    SHARD = Kind(GROUP, VERSION, "relayshards")
    POD = Kind("", "v1", "pods")
    NODE = Kind("", "v1", "nodes", is_namespaced=False)
    EVENT = Kind("", "v1", "events")
    BUDGET = Kind("policy", "v1", "poddisruptionbudgets")
    SERVICE = Kind("", "v1", "services")
    LEASE = Kind("coordination.k8s.io", "v1", "leases")


class KubeError(Exception):
    """The API server refused, or was out of reach. `status` is the HTTP status, 0 where there was none.

    `words` are the API server's own, for a person. NotFoundError (404) and ConflictError (409) are its kinds that mean
    something.
    """

    def __init__(self, status: int, message: str, words: str = "") -> None:
        super().__init__(f"{status} {message}" if status else message)
        self.status = status
        self.words = words or message


class NotFoundError(KubeError):
    """No such object: somebody was faster."""


class ConflictError(KubeError):
    """It exists already, or has changed since it was read."""


class Kube(Protocol):
    """Objects by kind, namespace and name. Every call raises KubeError."""

    async def list(self, kind: Kinds, namespace: str = "", selector: str = "") -> list[Manifest]:
        """Objects of a namespace (empty: of all), by label selector."""
        ...

    async def get(self, kind: Kinds, namespace: str, name: str) -> Manifest:
        """One object."""
        ...

    async def create(self, kind: Kinds, body: Manifest) -> Manifest:
        """A new object."""
        ...

    async def patch(self, kind: Kinds, namespace: str, name: str, patch: Manifest, *, status: bool = False) -> Manifest:
        """A merge patch on an object, or on its status."""
        ...

    async def replace(self, kind: Kinds, body: Manifest) -> Manifest:
        """The whole object, refused where its resourceVersion is not the present one."""
        ...

    async def delete(self, kind: Kinds, namespace: str, name: str, uid: str, grace_s: int | None) -> None:
        """Delete the object if it still is the one with that uid."""
        ...
