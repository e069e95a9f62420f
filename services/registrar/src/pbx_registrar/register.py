"""The use cases of bindings: REGISTER, removal and expiry, each as read, decide, write.

The rules are `bindings`; the store refuses a write whose record has changed since it was read, and then the rules are
applied again to what stands. Payloads and events are made by a `Codec`, so that no generated type is known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pbx_registrar import bindings as rules
from pbx_registrar.authenticate import Attempt, Authenticator, Judgement, Verdict
from pbx_registrar.bindings import Binding, Change, Flow, Outcome, Policy, Registration, Report
from pbx_registrar.credentials import Account, Accounts
from pbx_registrar.storage.base import BindingStore, Done, Record, Write
from pbx_runtime.clock import Clock
from pbx_runtime.errors import ServiceError, Unavailable

CONFLICTS_MAX: Final = 10
"""Times that a write may find its record changed: replicas that fight over one phone for so long are not making
progress, and the phone will ask again."""


class Codec(Protocol):
    """Bindings and changes as octets."""

    def decode(self, aor: str, payload: bytes) -> list[Binding]:
        """The bindings of a record."""

    def encode(self, bindings: Sequence[Binding]) -> bytes:
        """The payload of a record; empty for none."""

    def events(self, changes: Sequence[Change], now_ms: int) -> tuple[bytes, ...]:
        """Events for the outbox; a refresh is none."""

    def notices(self, changes: Sequence[Change]) -> tuple[bytes, ...]:
        """Changes for watchers."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer to a REGISTER."""

    outcome: Outcome
    stale: bool = False


STATUS_OF: Final = {
    Verdict.STALE: 401,
    Verdict.REJECTED: 403,
    Verdict.MALFORMED: 400,
    Verdict.THROTTLED: 403,
    Verdict.FORBIDDEN: 403,
}
_UNKNOWN: Final = Reply(Outcome(404))
Observe = Callable[[Sequence[Change]], None]
Decide = Callable[[list[Binding], int], Outcome]
"""The rules to apply to the bindings that stand, at a time in Unix milliseconds."""


@dataclass(frozen=True, slots=True)
class Registrar:
    """The use cases."""

    store: BindingStore
    accounts: Accounts
    authenticator: Authenticator
    codec: Codec
    policy: Policy
    clock: Clock
    observe: Observe = lambda changes: None

    def register(self, request: Registration, attempt: Attempt | None, done: Done[Reply]) -> None:
        """Carry out a REGISTER; verify its digest response first where there is one."""
        if attempt is None:
            self._register_known(request, done)
            return

        def judged(judgement: Judgement | None, error: ServiceError | None) -> None:
            if judgement is None:
                done(None, error)
            elif judgement.verdict is Verdict.ACCEPTED:
                self._change_for(request, done)
            else:
                outcome = Outcome(STATUS_OF[judgement.verdict])
                done(Reply(outcome, stale=judgement.verdict is Verdict.STALE), None)

        self.authenticator.check(attempt, judged)

    def _register_known(self, request: Registration, done: Done[Reply]) -> None:
        def found(account: Account | None, error: ServiceError | None) -> None:
            if error is not None:
                done(None, error)
            elif account is None:
                done(_UNKNOWN, None)  # RFC 3261 section 10.3 step 5
            else:
                self._change_for(request, done)

        self.accounts.find(request.aor, found)

    def _change_for(self, request: Registration, done: Done[Reply]) -> None:
        def changed(outcome: Outcome | None, error: ServiceError | None) -> None:
            done(None if outcome is None else Reply(outcome), error)

        self.change(request.aor, lambda current, now_ms: rules.register(current, request, self.policy, now_ms), changed)

    def unregister(self, aor: str, uri: str, flow: Flow | None, done: Done[Outcome]) -> None:
        """Remove bindings without a REGISTER: a broken flow, an administrator, a deleted account."""
        self.change(aor, lambda current, now_ms: rules.unregister(current, uri, flow, now_ms), done)

    def report(self, aor: str, flow: Flow, report: Report, done: Done[Outcome]) -> None:
        """Note what a keep-alive found out about the bindings of a flow."""
        self.change(aor, lambda current, now_ms: rules.report(current, flow, report, now_ms), done)

    def expire(self, aor: str, done: Done[Outcome]) -> None:
        """Drop what ran out, and tell of it."""
        self.change(aor, rules.expire, done, even_unchanged=True)

    def change(self, aor: str, decide: Decide, done: Done[Outcome], *, even_unchanged: bool = False) -> None:
        """Read, decide, write, until the write finds what was read."""
        _Change(self, aor, decide, done, even_unchanged).start()


class _Change:
    """One read-decide-write on its way."""

    __slots__ = ("_aor", "_decide", "_done", "_even_unchanged", "_registrar", "_tries")

    def __init__(
        self, registrar: Registrar, aor: str, decide: Decide, done: Done[Outcome], even_unchanged: bool
    ) -> None:
        self._registrar = registrar
        self._aor = aor
        self._decide = decide
        self._done = done
        self._even_unchanged = even_unchanged
        self._tries = 0

    def start(self) -> None:
        self._registrar.store.read(self._aor, self._read)

    def _read(self, record: Record | None, error: ServiceError | None) -> None:
        if record is None:
            self._done(None, error)
            return
        registrar = self._registrar
        now_ms = registrar.clock.epoch_ms()
        outcome = self._decide(registrar.codec.decode(self._aor, record.payload), now_ms)
        if not outcome.changes and not self._even_unchanged:
            self._done(outcome, None)
            return
        self._tries += 1

        def written(current: Record | None, error: ServiceError | None) -> None:
            self._written(outcome, current, error)

        registrar.store.write(self._write(record, outcome, now_ms), written)

    def _write(self, record: Record, outcome: Outcome, now_ms: int) -> Write:
        codec, left = self._registrar.codec, outcome.bindings
        expiries = [binding.expires_at_ms for binding in left] or [0]
        return Write(
            aor=self._aor,
            expected=record.version,
            payload=codec.encode(left),
            first_expiry_ms=min(expiries),
            last_expiry_ms=max(expiries),
            events=codec.events(outcome.changes, now_ms),
            notices=codec.notices(outcome.changes),
        )

    def _written(self, outcome: Outcome, current: Record | None, error: ServiceError | None) -> None:
        if error is not None:
            self._done(None, error)
        elif current is None:
            self._registrar.observe(outcome.changes)
            self._done(outcome, None)
        elif self._tries >= CONFLICTS_MAX:
            self._done(None, Unavailable(f"the record changed {CONFLICTS_MAX} times while it was being written"))
        else:
            self._read(current, None)
