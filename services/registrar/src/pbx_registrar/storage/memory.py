"""Bindings in memory: for tests, and the plain reading of what the Redis store does."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from pbx_registrar.storage.base import Done, Record, T, Write
from pbx_runtime.errors import ServiceError


@dataclass(slots=True)
class MemoryBindings:
    """`BindingStore` in dicts; `error`, where set, is what every operation meets."""

    records: dict[str, Record] = field(default_factory=dict)
    first_expiry_ms: dict[str, int] = field(default_factory=dict)
    events: list[bytes] = field(default_factory=list)
    notices: list[bytes] = field(default_factory=list)
    error: ServiceError | None = None
    _versions: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def read(self, aor: str, done: Done[Record]) -> None:
        """See `BindingStore`."""
        if self.error is not None:
            done(None, self.error)
        else:
            done(self.records.get(aor, Record()), None)

    def write(self, write: Write, done: Done[Record]) -> None:
        """See `BindingStore`."""
        current = self.records.get(write.aor, Record())
        if self.error is not None:
            done(None, self.error)
        elif current.version != write.expected:
            done(current, None)
        else:
            self._store(write)
            done(None, None)

    def _store(self, write: Write) -> None:
        if write.payload:
            self.records[write.aor] = Record(next(self._versions).to_bytes(8), write.payload)
            self.first_expiry_ms[write.aor] = write.first_expiry_ms
        else:
            self.records.pop(write.aor, None)
            self.first_expiry_ms.pop(write.aor, None)
        self.events.extend(write.events)
        self.notices.extend(write.notices)

    def due(self, now_ms: int, limit: int, done: Done[list[str]]) -> None:
        """See `BindingStore`."""
        due = sorted((at_ms, aor) for aor, at_ms in self.first_expiry_ms.items() if at_ms <= now_ms)
        self._answer([aor for _, aor in due[:limit]], done)

    def page(self, after: str, limit: int, done: Done[list[tuple[str, bytes]]]) -> None:
        """See `BindingStore`."""
        above = sorted((aor for aor in self.records if aor.encode() > after.encode()), key=str.encode)
        self._answer([(aor, self.records[aor].payload) for aor in above[:limit]], done)

    def count(self, done: Done[int]) -> None:
        """See `BindingStore`."""
        self._answer(len(self.records), done)

    def _answer(self, value: T, done: Done[T]) -> None:
        done(None if self.error is not None else value, self.error)
