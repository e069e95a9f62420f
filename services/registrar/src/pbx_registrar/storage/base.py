"""The location store as the use case sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pbx_registrar.bindings import Binding


@dataclass(frozen=True, slots=True)
class Stored:
    """All bindings of an address-of-record, and the version that a change must name."""

    version: str
    bindings: Mapping[str, Binding]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one address-of-record: applied whole, with its events, or not at all."""

    aor: str
    version: str
    put: Mapping[str, Binding]
    remove: Sequence[str]
    events: Sequence[bytes]


class BindingStore(Protocol):
    """Where bindings are kept. Raises ServiceError where the store is out of reach."""

    async def read(self, aor: str) -> Stored:
        """All bindings, expired ones perhaps among them."""

    async def apply(self, change: Change) -> bool:
        """Applies a change; False where the version is not the one stored any more."""

    async def page(self, after: str, size: int) -> tuple[list[str], str]:
        """Addresses-of-record with bindings, in order, behind `after`; and the cursor of the next page or empty."""

    async def expired(self, now_ms: int, limit: int) -> list[tuple[str, str]]:
        """(aor, key) of bindings whose time ran out."""

    async def forget(self, aor: str, key: str) -> None:
        """Drops index entries of a binding that is not there any more."""

    async def first_use(self, nonce: str, count: str, lifetime_s: int) -> bool:
        """Notes a nonce with its count; False where that pair was seen before."""
