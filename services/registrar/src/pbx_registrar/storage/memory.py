"""The fake: everything in a dict, the same answers as Redis."""

from __future__ import annotations

from itertools import count

from pbx_registrar.bindings import Binding
from pbx_registrar.storage.base import Change, Stored


class MemoryStore:
    """Bindings in memory."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self._aors: dict[str, tuple[str, dict[str, Binding]]] = {}
        self._nonces: set[tuple[str, str]] = set()
        self._versions = count(1)

    async def read(self, aor: str) -> Stored:
        """All bindings."""
        version, bindings = self._aors.get(aor, ("", {}))
        return Stored(version, dict(bindings))

    async def apply(self, change: Change) -> bool:
        """Applies a change."""
        version, bindings = self._aors.get(change.aor, ("", {}))
        if version != change.version:
            return False
        after = {key: value for key, value in bindings.items() if key not in change.remove} | dict(change.put)
        if after:
            self._aors[change.aor] = (str(next(self._versions)), after)
        else:
            self._aors.pop(change.aor, None)
        self.events += change.events
        return True

    async def page(self, after: str, size: int) -> tuple[list[str], str]:
        """Addresses-of-record in order."""
        found = sorted(aor for aor in self._aors if aor > after)
        return found[:size], found[size - 1] if len(found) > size else ""

    async def expired(self, now_ms: int, limit: int) -> list[tuple[str, str]]:
        """Bindings whose time ran out."""
        return [
            (aor, key)
            for aor, (_, bindings) in self._aors.items()
            for key, binding in bindings.items()
            if binding.expires_at_ms <= now_ms
        ][:limit]

    async def forget(self, aor: str, key: str) -> None:
        """Nothing to do: there is no index."""

    async def first_use(self, nonce: str, count: str, lifetime_s: int) -> bool:
        """Notes a nonce with its count."""
        pair = (nonce, count)
        if pair in self._nonces:
            return False
        self._nonces.add(pair)
        return True
