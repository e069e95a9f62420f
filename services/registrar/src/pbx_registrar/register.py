"""REGISTER, look-up and removal: rules applied to the store, lost races repeated, events told."""

from __future__ import annotations

from typing import Final

from pbx_registrar import outbox
from pbx_registrar.bindings import Binding, Decision, Limits, Registration, decide, ordered
from pbx_registrar.storage.base import BindingStore, Change
from pbx_runtime.errors import Unavailable

RACES_MAX: Final = 8
"""Times that a change is decided anew because another replica was faster. Eight phones of one user at once."""


class Registrar:
    """The use cases of bindings. Raises ServiceError where the store is out of reach."""

    def __init__(self, store: BindingStore, limits: Limits, source: str) -> None:
        self._store = store
        self._limits = limits
        self._source = source

    async def register(self, request: Registration, now_ms: int) -> Decision:
        """Applies a REGISTER, whole or not at all."""
        for _ in range(RACES_MAX):
            stored = await self._store.read(request.aor)
            decision = decide(request, stored.bindings, self._limits, now_ms)
            if decision.status != 200 or not (decision.put or decision.remove):
                return decision
            if await self._store.apply(self._change(request.aor, stored.version, decision, now_ms)):
                return decision
        raise Unavailable(f"{request.aor} changes too fast")

    def _change(self, aor: str, version: str, decision: Decision, now_ms: int) -> Change:
        events = [outbox.added(binding, self._source, now_ms) for binding in decision.added]
        events += [outbox.removed(binding, self._source, now_ms) for binding in decision.remove.values()]
        return Change(aor, version, decision.put, list(decision.remove), events)

    async def lookup(self, aor: str, now_ms: int) -> list[Binding]:
        """The live bindings, best first."""
        stored = await self._store.read(aor)
        return ordered(binding for binding in stored.bindings.values() if binding.expires_at_ms > now_ms)

    async def remove(self, aor: str, uri: str, now_ms: int) -> int:
        """Removes bindings of a URI (all where it is empty); how many went."""
        for _ in range(RACES_MAX):
            stored = await self._store.read(aor)
            gone = {key: b for key, b in stored.bindings.items() if not uri or b.uri == uri}
            if not gone:
                return 0
            events = [outbox.removed(binding, self._source, now_ms) for binding in gone.values()]
            if await self._store.apply(Change(aor, stored.version, {}, list(gone), events)):
                return len(gone)
        raise Unavailable(f"{aor} changes too fast")

    async def expire(self, now_ms: int, limit: int = 500) -> int:
        """Removes bindings whose time ran out, and tells of each once; how many."""
        count = 0
        for aor, key in await self._store.expired(now_ms, limit):
            stored = await self._store.read(aor)
            binding = stored.bindings.get(key)
            if binding is None:
                await self._store.forget(aor, key)
            elif binding.expires_at_ms <= now_ms:
                events = [outbox.expired(binding, self._source, now_ms)]
                count += await self._store.apply(Change(aor, stored.version, {}, [key], events))
        return count

    async def page(self, after: str, size: int, now_ms: int) -> tuple[list[Binding], str]:
        """All live bindings of a page of addresses-of-record."""
        aors, cursor = await self._store.page(after, size)
        return [binding for aor in aors for binding in await self.lookup(aor, now_ms)], cursor
