"""What one account and one source may have at once, and how fast they may ask for more. Pure.

Charged once a caller has proved its user: nobody else can use up what an account has. A call counts for its caller's
account and source from the proof to its end, and for its callee's account while it rings there. Each instance counts
its own calls alone, so n replicas let an account have n times its limit at the most; a phone stays with one of them for
as long as its flow stands, so in practice it meets the limit of one. Processes of one machine see each other's counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from pbx_signaling.bucket import Bucket
from pbx_signaling.calls.signals import Limited
from pbx_signaling.config import QuotaPolicy
from pbx_sip.address import network_of

if TYPE_CHECKING:
    from pbx_signaling.calls.signals import Authenticated
    from pbx_sip.address import HostPort

RATES_MAX: Final = 20_000
"""Accounts and sources whose rates are remembered; the oldest is dropped for a new one, and may burst again."""
BURST_S: Final = 3.0
"""How many seconds' attempts may come at once: everybody who redials when a line came back."""
RETRY_AFTER_S: Final = 1
LIMITS: Final = ("account_calls", "account_rate", "source_calls", "source_rate", "callee_ringing")
"""Words for the CDR and for metrics."""


class Counts(Protocol):
    """What the processes of one address know of each other's counts (`replicas.board`)."""

    def put(self, name: str, number: int) -> None:
        """So many there are here."""

    def elsewhere(self, name: str) -> int:
        """So many the others have together."""


@dataclass(slots=True)
class Held:
    """What a call counts for; given back by `Quotas.end`."""

    account: str = ""
    source: str = ""
    callee: str = ""


@dataclass(slots=True)
class Quotas:
    """The counts of one instance."""

    policy: QuotaPolicy
    refused: dict[str, int] = field(default_factory=dict)
    """Refusals by the limit that was met."""
    shared: Counts | None = None
    """Where there are other processes at the same address."""
    _accounts: dict[str, int] = field(default_factory=dict)
    _sources: dict[str, int] = field(default_factory=dict)
    _ringing: dict[str, int] = field(default_factory=dict)
    _rates: dict[str, Bucket] = field(default_factory=dict)

    def attempt(self, user: str, source: HostPort, now: float, *, trusted: bool) -> Limited | None:
        """Charges an account and its source for an attempt; what the caller meets instead where they go too fast.

        `trusted`: the source is a proxy or trunk that speaks for many.
        """
        policy = self.policy
        if not self._take(f"a {user}", policy.account_calls_per_s, now):
            return self._refuse(503, "account_rate", RETRY_AFTER_S)
        if not trusted and not self._take(f"s {network_of(source.host)}", policy.source_calls_per_s, now):
            return self._refuse(503, "source_rate", RETRY_AFTER_S)
        return None

    def begin(self, held: Held, caller: Authenticated, source: HostPort, *, trusted: bool) -> Limited | None:
        """Counts a call for its caller; what the caller meets instead where there are too many."""
        limit = caller.calls_max or self.policy.account_calls
        if limit and self._has("a", self._accounts, caller.user) >= limit:
            # 486 and not 503: the caller hears that its lines are busy, and its phone looks for no other server.
            return self._refuse(486, "account_calls", warning=f"the account has {limit} calls already")
        network, limit = network_of(source.host), 0 if trusted else self.policy.source_calls
        if limit and self._has("s", self._sources, network) >= limit:
            return self._refuse(486, "source_calls", warning=f"this address has {limit} calls already")
        self._count("a", self._accounts, caller.user)
        self._count("s", self._sources, network)
        held.account, held.source = caller.user, network
        return None

    def ring(self, held: Held, callee: str) -> Limited | None:
        """Counts a call for the account at which it is to ring; what the caller meets instead where it is busy."""
        limit = self.policy.callee_ringing
        self.answered(held)
        if limit and self._has("r", self._ringing, callee) >= limit:
            return self._refuse(486, "callee_ringing")
        self._count("r", self._ringing, callee)
        held.callee = callee
        return None

    def answered(self, held: Held) -> None:
        """A call does not ring any more."""
        self._uncount("r", self._ringing, held.callee)
        held.callee = ""

    def end(self, held: Held) -> None:
        """A call is over."""
        self.answered(held)
        self._uncount("a", self._accounts, held.account)
        self._uncount("s", self._sources, held.source)
        held.account = held.source = ""

    @property
    def busiest(self) -> int:
        """Calls of the account that has most."""
        return max(self._accounts.values(), default=0)

    def __len__(self) -> int:
        """Accounts and sources with calls, and accounts that are rung."""
        return len(self._accounts) + len(self._sources) + len(self._ringing)

    def _take(self, key: str, rate: float, now: float) -> bool:
        if not rate:
            return True
        burst = max(1.0, rate * BURST_S)
        bucket = self._rates.get(key)
        if bucket is None:
            if len(self._rates) >= RATES_MAX:
                del self._rates[next(iter(self._rates))]
            bucket = self._rates[key] = Bucket(burst, now)
        return bucket.take(rate, burst, now)

    def _has(self, kind: str, table: dict[str, int], key: str) -> int:
        own = table.get(key, 0)
        return own if self.shared is None else own + self.shared.elsewhere(f"{kind} {key}")

    def _count(self, kind: str, table: dict[str, int], key: str) -> None:
        number = table[key] = table.get(key, 0) + 1
        if self.shared is not None:
            self.shared.put(f"{kind} {key}", number)

    def _uncount(self, kind: str, table: dict[str, int], key: str) -> None:
        if not key:
            return
        number = table[key] - 1
        if number:
            table[key] = number
        else:
            del table[key]
        if self.shared is not None:
            self.shared.put(f"{kind} {key}", number)

    def _refuse(self, status: int, word: str, retry_after_s: int = 0, warning: str = "") -> Limited:
        self.refused[word] = self.refused.get(word, 0) + 1
        return Limited(status, word, retry_after_s, warning)
