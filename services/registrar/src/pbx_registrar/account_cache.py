"""Accounts at hand: a bounded cache in front of SQL, told of changes, loading what misses in batches.

Theory of operation. `find` answers from memory at once, or puts the address-of-record on the list that `run` loads in
one SELECT. A change of an account invalidates it in every replica (`notices`); the time to live only bounds what a
change made behind our back, or a notice lost, can cost. A load that an invalidation overtook is not kept. While SQL is
out of reach an entry past its time serves on: phones go on registering and calling.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pbx_registrar.credentials import DOMAIN_MAX, USER_MAX, Account, Found
from pbx_runtime.clock import Clock
from pbx_runtime.errors import ResourceExhausted, ServiceError

ENTRIES_MAX: Final = 50_000
"""Known accounts kept; about 700 octets each."""
UNKNOWN_MAX: Final = 10_000
"""Unknown users kept, apart from the known: a search through numbers must not drive real accounts out."""
AOR_MAX: Final = USER_MAX + 1 + DOMAIN_MAX
"""Longer ones are nobody's; callers may write what they like."""
TTL_S: Final = 60.0
UNKNOWN_TTL_S: Final = 1.0
WAITING_MAX: Final = 20_000
"""Look-ups that wait for SQL; beyond them the answer is 503 at once."""
BATCH_MAX: Final = 500
RETRY_S: Final = 0.2
"""Pause after a failed load, so that a dead database is not asked in a spin."""


class Source(Protocol):
    """Where accounts come from."""

    async def load(self, aors: Sequence[str]) -> dict[str, Account]:
        """Those that exist, by address-of-record. Raises ServiceError."""


@dataclass(slots=True)
class _Entry:
    account: Account | None
    good_until_s: float


class AccountCache:
    """`credentials.Accounts` over a source; start `run` with the lifecycle."""

    def __init__(self, source: Source, clock: Clock, on_state: Callable[[ServiceError | None], None]) -> None:
        self._source = source
        self._clock = clock
        self._on_state = on_state
        self._known: dict[str, _Entry] = {}
        self._unknown: dict[str, _Entry] = {}
        self._waiting: dict[str, list[Found]] = {}
        self._count = 0
        self._wakeup = asyncio.Event()
        self._generation = 0

    def __repr__(self) -> str:
        return f"<AccountCache {len(self._known)} known, {self._count} waiting>"

    def __len__(self) -> int:
        return len(self._known)

    def find(self, aor: str, done: Found) -> None:
        """See `Accounts`."""
        if len(aor) > AOR_MAX or not aor.isprintable():
            done(None, None)  # no account is named so, and SQL refuses some of these for the whole batch
            return
        entry = self._known.get(aor) or self._unknown.get(aor)
        if entry is not None and entry.good_until_s > self._clock.now():
            done(entry.account, None)
        elif self._count >= WAITING_MAX:
            done(None, ResourceExhausted(f"{WAITING_MAX} look-ups wait for SQL"))
        else:
            self._waiting.setdefault(aor, []).append(done)
            self._count += 1
            self._wakeup.set()

    def forget(self, aor: str) -> None:
        """This account changed."""
        self._generation += 1
        self._known.pop(aor, None)
        self._unknown.pop(aor, None)

    def forget_all(self) -> None:
        """Any account may have changed."""
        self._generation += 1
        self._known.clear()
        self._unknown.clear()

    def doubt_all(self) -> None:
        """Any account may have changed; what is here serves only where SQL is out of reach."""
        self._generation += 1
        self._unknown.clear()
        for entry in self._known.values():
            entry.good_until_s = 0.0

    async def run(self) -> None:
        """Load what is waited for, until cancelled."""
        while True:
            await self._wakeup.wait()
            self._wakeup.clear()
            while self._waiting:
                await self._load_batch()

    async def _load_batch(self) -> None:
        batch = {aor: self._waiting.pop(aor) for aor in list(self._waiting)[:BATCH_MAX]}
        self._count -= sum(len(found) for found in batch.values())
        generation = self._generation
        try:
            accounts = await self._source.load(list(batch))
        except ServiceError as error:
            self._on_state(error)
            self._answer_stale(batch, error)
            await asyncio.sleep(RETRY_S)
            return
        self._on_state(None)
        for aor, waiting in batch.items():
            account = accounts.get(aor)
            if generation == self._generation:
                self._keep(aor, account)
            for done in waiting:
                done(account, None)

    def _answer_stale(self, batch: dict[str, list[Found]], error: ServiceError) -> None:
        for aor, waiting in batch.items():
            entry = self._known.get(aor)
            for done in waiting:
                done(entry.account, None) if entry is not None else done(None, error)

    def _keep(self, aor: str, account: Account | None) -> None:
        if account is not None:
            self._unknown.pop(aor, None)
            _put(self._known, aor, _Entry(account, self._clock.now() + TTL_S), ENTRIES_MAX)
        else:
            self._known.pop(aor, None)
            _put(self._unknown, aor, _Entry(None, self._clock.now() + UNKNOWN_TTL_S), UNKNOWN_MAX)


def _put(table: dict[str, _Entry], aor: str, entry: _Entry, most: int) -> None:
    # A dict keeps the order of insertion: what was loaded first goes first.
    table.pop(aor, None)
    if len(table) >= most:
        del table[next(iter(table))]
    table[aor] = entry
