"""The authentication ledger in memory: for tests, and the plain reading of the Redis scripts. Time is an argument."""

from __future__ import annotations

from dataclasses import dataclass, field

from pbx_registrar.storage.base import Done, Failure, Proof, Refusals
from pbx_registrar.throttle import DRAWERS, REPORT_MS, SOURCES_MAX
from pbx_runtime.errors import ServiceError


@dataclass(slots=True)
class _Count:
    failures: int
    window_ends_ms: int


@dataclass(slots=True)
class MemoryLedger:
    """`AuthLedger` in dicts; `error`, where set, is what every operation meets."""

    events: list[bytes] = field(default_factory=list)
    error: ServiceError | None = None
    _used: dict[str, int] = field(default_factory=dict)
    _counts: dict[str, _Count] = field(default_factory=dict)
    _waits: dict[str, int] = field(default_factory=dict)
    _refused: dict[str, tuple[int, Refusals]] = field(default_factory=dict)

    def admit(self, proof: Proof, done: Done[bool]) -> None:
        """See `AuthLedger`."""
        if self.error is not None:
            done(None, self.error)
            return
        fresh = self._used.get(proof.nonce, 0) <= proof.now_ms
        if fresh:
            self._used[proof.nonce] = proof.now_ms + proof.lifetime_ms
        done(fresh, None)

    def fail(self, failure: Failure, done: Done[int]) -> None:
        """See `AuthLedger`."""
        if self.error is not None:
            done(None, self.error)
            return
        self._note(failure)
        names = _names(failure.source, failure.account)
        wait_ms = self._wait(names, failure.now_ms)
        if wait_ms == 0:
            for name, drawer in zip(names, DRAWERS, strict=True):
                count = self._count(name, failure.now_ms) or _Count(0, failure.now_ms + drawer.window_ms)
                count.failures += 1
                self._counts[name] = count
                self._waits[name] = failure.now_ms + drawer.wait_ms(count.failures)
        done(wait_ms, None)

    def _note(self, failure: Failure) -> None:
        source = failure.source
        if source not in self._refused and len(self._refused) >= SOURCES_MAX:
            source = ""
        due_ms, before = self._refused.get(source, (failure.now_ms + REPORT_MS, None))
        count = before.count + 1 if before else 1
        self._refused[source] = (due_ms, Refusals(source, count, failure.user, failure.method))

    def _wait(self, names: tuple[str, str, str], now_ms: int) -> int:
        pair, source, account = (max(self._waits.get(name, 0) - now_ms, 0) for name in names)
        return max(pair, source, account if self._count(names[0], now_ms) else 0)

    def _count(self, name: str, now_ms: int) -> _Count | None:
        count = self._counts.get(name)
        return count if count is not None and count.window_ends_ms > now_ms else None

    def unreported(self, now_ms: int, limit: int, done: Done[list[Refusals]]) -> None:
        """See `AuthLedger`."""
        due = [refusals for due_ms, refusals in self._refused.values() if due_ms <= now_ms]
        done(None if self.error else due[:limit], self.error)

    def report(self, refusals: Refusals, event: bytes, done: Done[bool]) -> None:
        """See `AuthLedger`."""
        told = self.error is None and self._refused.get(refusals.source, (0, None))[1] == refusals
        if told:
            del self._refused[refusals.source]
            self.events.append(event)
        done(None if self.error else told, self.error)


def _names(source: str, account: str) -> tuple[str, str, str]:
    return f"p:{source} {account}", f"s:{source}", f"a:{account}"
