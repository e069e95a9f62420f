"""The registrar as the core sees it: answered from the directory where that is sure, else by the registrar itself.

What is said here without the registrar is a yes: a right digest response, the phones of a known user; or that a name is
nobody's. Whatever else it may be (another password, a claim of another user, an algorithm that was not offered, a user
without a phone) the registrar judges, counts and answers as if there were no directory; so a cache that lags refuses
nobody, and failures are counted where all replicas agree. In doubt the registrar is asked, and what is here serves
where it does not answer.

Each count of a nonce is good once over all replicas. That of a nonce minted here is used up in memory, and written
without waiting where the others look (`reg:n:`); that of another replica's nonce is used up there first. Either way the
one key in Redis stands before the same credentials can be judged elsewhere, but for the moment that a message takes:
who is fast enough for that could as well have come before their owner.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from pbx_signaling.calls.signals import Authenticated, Found, LookupFailed, Refused, ServiceFailed, Signal
from pbx_signaling.directory.directory import Standing
from pbx_signaling.users.questions import Registered
from pbx_sip.auth import proof
from pbx_sip.auth.counts import NonceCounts
from pbx_sip.auth.proof import Fault, Offer
from pbx_sip.message.text import printable, utf8

if TYPE_CHECKING:
    from pbx_runtime.clock import Clock
    from pbx_runtime.errors import ServiceError
    from pbx_signaling.directory.directory import Directory, Look
    from pbx_signaling.directory.user import Binding, User
    from pbx_signaling.users.attempt import Attempt
    from pbx_signaling.users.questions import Register
    from pbx_sip.auth.digest import Credentials
    from pbx_sip.auth.nonce import NonceMinter

DOUBT_S: Final = 0.5
"""How long the registrar may take where the directory has an answer that will do."""
USED_KEY: Final = "reg:n:"
"""Keys of counts of nonces that were used; the registrar's, and the one thing of its that signaling writes."""
Answer = Callable[[Signal], None]


class Asked(Protocol):
    """The registrar itself."""

    def authenticate(self, attempt: Attempt, method: str, answer: Answer, timeout_s: float = ...) -> None:
        """See `clients.base.RegistrarClient`."""

    def find(self, aor: str, answer: Answer, timeout_s: float = ...) -> None:
        """See `clients.base.RegistrarClient`."""

    def register(self, ask: Register, answer: Callable[[Registered], None]) -> None:
        """See `clients.base.RegistrarClient`."""


class Ledger(Protocol):
    """What is used of `pbx_runtime.redis_pipe.PipelinedRedis`."""

    def submit(self, *command: str | int, callback: Callable[[Any, ServiceError | None], None]) -> None:
        """Sends one command."""


class Topic(enum.StrEnum):
    """What is asked of the directory."""

    CALLER = "caller"
    TARGETS = "targets"
    REGISTER = "register"


class Result(enum.StrEnum):
    """How a question was answered."""

    HIT = "hit"
    """Here."""
    MISS = "miss"
    """By the registrar: nothing is known here."""
    DOUBT = "doubt"
    """By the registrar: what is known here may be old."""
    KEPT = "kept"
    """Here, from what may be old: the registrar did not answer."""
    UNPROVED = "unproved"
    """By the registrar: not right by what is known here."""


@dataclass(frozen=True, slots=True)
class _Presented:
    """A digest response and what it claims, as the registrar would be given it."""

    authorization: str = field(repr=False)
    method: str
    body: bytes = field(repr=False)
    claimed: str
    nonce_source: str


@dataclass(frozen=True, slots=True)
class _Right:
    """A digest response that is right by what is known here."""

    standing: Standing
    user: User
    credentials: Credentials

    @property
    def caller(self) -> Authenticated:
        return Authenticated(self.user.user, self.user.display_name, self.user.calls_max)


class InformedRegistrar:
    """`clients.base.RegistrarClient` over a directory and the registrar."""

    def __init__(
        self,
        registrar: Asked,
        directory: Directory,
        wake: Callable[[], None],
        ledger: Ledger,
        nonces: NonceMinter,
        offer: Offer,
        clock: Clock,
    ) -> None:
        """`wake`: the directory may have wishes. `nonces`: those that minted what this instance's challenges hold."""
        self._registrar = registrar
        self._directory = directory
        self._wake = wake
        self._ledger = ledger
        self._nonces = nonces
        self._offer = offer
        self._clock = clock
        # A nonce is good for its lifetime on both sides of now (clocks of replicas differ).
        self._remembered_s = 2 * nonces.lifetime_s
        self.counts = NonceCounts(self._remembered_s)
        self.results = {(topic, result): 0 for topic in Topic for result in Result}

    # --- who calls

    def authenticate(self, attempt: Attempt, method: str, answer: Answer) -> None:
        """Verifies the caller's credentials; answers at once where they are right by what is sure."""
        presented = _Presented(
            utf8(attempt.authorization), method, attempt.body, printable(attempt.claimed), attempt.nonce_source
        )
        right = self._prove(presented, Topic.CALLER)

        def ask() -> None:
            self._registrar.authenticate(attempt, method, answer)

        def judged(signal: Signal) -> None:
            if right is None or not isinstance(signal, ServiceFailed):
                answer(signal)
            else:
                self._note(Topic.CALLER, Result.KEPT)
                self._use(right, answer, lambda: answer(signal))

        if right is None:
            ask()
        elif right.standing is Standing.CERTAIN:
            self._use(right, answer, ask)
        else:
            self._registrar.authenticate(attempt, method, judged, DOUBT_S)

    def _prove(self, presented: _Presented, topic: Topic) -> _Right | None:
        """Whether a response is right by what is known here; None where the registrar must judge."""
        credentials = proof.read(
            presented.authorization, self._nonces, self._offer, presented.nonce_source, self._clock.epoch_ms() / 1000
        )
        if isinstance(credentials, Fault):
            self._note(topic, Result.UNPROVED)
            return None
        look = self._look(proof.account_tried(credentials), if_room=topic is Topic.REGISTER)
        user = look.user
        secrets = None if user is None else user.secrets
        is_right = proof.proves(credentials, secrets, presented.method, presented.body)
        if user is None:
            self._note(topic, Result.MISS)
            return None
        if not is_right or (presented.claimed and canonical(presented.claimed) != user.aor):
            self._note(topic, Result.UNPROVED)
            return None
        self._note(topic, Result.HIT if look.standing is Standing.CERTAIN else Result.DOUBT)
        return _Right(look.standing, user, credentials)

    def _use(self, right: _Right, answer: Answer, otherwise: Callable[[], None]) -> None:
        """Uses the count of a right response up; `otherwise`: where that cannot be done here."""
        fresh = self._use_own(right.credentials)
        if fresh is not None:
            answer(right.caller if fresh else Refused(407, stale=True))
            return

        def used(reply: Any, error: ServiceError | None) -> None:
            if error is not None:
                otherwise()
            else:
                answer(right.caller if reply is not None else Refused(407, stale=True))

        self._write_used(right.credentials, used)

    def _use_own(self, credentials: Credentials) -> bool | None:
        """Uses the count of a nonce of our own up; False: it was used before. None: it is not ours, or has no room."""
        if not self._nonces.is_own(credentials.nonce):
            return None
        fresh = self.counts.use(credentials.nonce, proof.count_of(credentials), self._clock.now())
        if fresh:
            self._write_used(credentials, _ignore)
        return fresh

    def _write_used(self, credentials: Credentials, done: Callable[[Any, ServiceError | None], None]) -> None:
        key = USED_KEY + proof.name_of_count(credentials)
        self._ledger.submit("SET", key, "", "NX", "PX", self._remembered_s * 1000, callback=done)

    # --- who is called

    def find(self, aor: str, answer: Answer) -> None:
        """Looks an address-of-record up; answers at once where what is known of it is sure and of use.

        A user without a phone may have registered one a moment ago at another replica: the registrar is asked then.
        """
        look = self._find(canonical(printable(aor)))
        known = self._found(look.user)
        if look.standing is Standing.CERTAIN and (look.user is None or known.targets):
            self._note(Topic.TARGETS, Result.HIT)
            answer(known)
            return
        self._note(Topic.TARGETS, Result.DOUBT if look.user is not None else Result.MISS)
        if look.user is None:
            self._registrar.find(aor, answer)
            return

        def looked_up(signal: Signal) -> None:
            if isinstance(signal, LookupFailed):
                self._note(Topic.TARGETS, Result.KEPT)
                signal = known
            answer(signal)

        self._registrar.find(aor, looked_up, DOUBT_S)

    def _found(self, user: User | None) -> Found:
        """Where a user can be reached."""
        if user is None:
            return Found(False, [])
        return Found(True, [binding.target(user.aor) for binding in user.bindings_at(self._clock.epoch_ms())])

    def _find(self, aor: str) -> Look:
        """What is known of a name, or of whom the registrar takes it for where it is nobody's."""
        look = self._look(aor)
        if look.standing is Standing.CERTAIN and look.user is None:
            user, _, domain = aor.rpartition("@")
            lower = user.lower()  # the registrar's rule: people write `Bob` for `bob`
            if lower != user:
                return self._look(f"{lower}@{domain}")
        return look

    # --- who registers

    def register(self, ask: Register, answer: Callable[[Registered], None]) -> None:
        """Puts a REGISTER to the registrar: with its credentials, but where they are proved and used up here."""
        if not ask.authorization:
            self._registrar.register(ask, answer)
            return
        presented = _Presented(utf8(ask.authorization), "REGISTER", ask.body, printable(ask.aor), ask.nonce_source)
        right = self._prove(presented, Topic.REGISTER)
        fresh = None
        if right is not None and right.standing is Standing.CERTAIN:
            fresh = self._use_own(right.credentials)
        if fresh is False:
            answer(Registered(401, stale=True))
        else:
            self._registrar.register(replace(ask, authorization="") if fresh else ask, answer)

    def bound(self, aor: str, bindings: Sequence[Binding]) -> None:
        """A REGISTER was carried out: these are the bindings of its user now."""
        self._directory.bound(canonical(aor), tuple(bindings))

    # --- the directory

    def _look(self, aor: str, *, if_room: bool = False) -> Look:
        look = self._directory.look(aor, self._clock.now(), if_room=if_room)
        if look.standing is not Standing.CERTAIN:
            self._wake()
        return look

    def _note(self, topic: Topic, result: Result) -> None:
        self.results[topic, result] += 1


def canonical(aor: str) -> str:
    """An address-of-record with its domain in lower case, as accounts are named."""
    user, _, domain = aor.rpartition("@")
    return f"{user}@{domain.lower()}"


def _ignore(reply: object, error: object) -> None:
    """A count that Redis does not take is used up here alone: as long as it refuses or is away, no other replica can
    judge credentials with it either, and a key that Redis loses is as lost as all its others."""
