"""What the registrar needs of a store; one conformance suite runs over every implementation.

A record is all that is known of one address-of-record: a version and an opaque payload. Rules run outside of the store,
so a write names the version that it was made from and is refused where the record has changed since: check and write
are one step (in Redis one script), and with them the order of RFC 3261 section 10.3. All answers come by callbacks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pbx_runtime.errors import ServiceError

T = TypeVar("T")
Done = Callable[[T | None, ServiceError | None], None]
"""Called once: with the answer and None, or with None and the error."""


@dataclass(frozen=True, slots=True)
class Record:
    """The bindings of one address-of-record as they are stored."""

    version: bytes = b""
    """Empty where there is no record; else unique to this state of it."""
    payload: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A change of one record, with all that must happen in the same step."""

    aor: str
    expected: bytes
    """The version that the change was made from."""
    payload: bytes
    """The new bindings; empty where none are left."""
    first_expiry_ms: int = 0
    """When the first of the bindings runs out (Unix milliseconds); ignored without a payload."""
    last_expiry_ms: int = 0
    events: tuple[bytes, ...] = ()
    """Serialised events for the outbox."""
    notices: tuple[bytes, ...] = ()
    """Serialised changes for watchers; told once, kept nowhere."""


class BindingStore(Protocol):
    """Bindings by address-of-record."""

    def read(self, aor: str, done: Done[Record]) -> None:
        """The record; an empty one where there is none."""

    def write(self, write: Write, done: Done[Record]) -> None:
        """Write; answers None where it was done, or the record as it stands where it had changed."""

    def due(self, now_ms: int, limit: int, done: Done[list[str]]) -> None:
        """Addresses-of-record whose first expiry has come, the longest due first."""

    def page(self, after: str, limit: int, done: Done[list[tuple[str, bytes]]]) -> None:
        """Addresses-of-record above `after` in order of their octets, with their payloads."""

    def count(self, done: Done[int]) -> None:
        """How many addresses-of-record have bindings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A digest response that is right: its nonce's count, which it uses up."""

    nonce: str
    """Names the nonce and its count; bounded in length."""
    lifetime_ms: int
    """How long it must be remembered."""
    now_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A digest response that is wrong."""

    source: str
    account: str
    """The account tried; may not exist."""
    user: str
    """The user name as it was written, for the event."""
    method: str
    now_ms: int


@dataclass(frozen=True, slots=True)
class Refusals:
    """Failures of one source that were not told yet."""

    source: str
    count: int
    user: str
    method: str


class AuthLedger(Protocol):
    """What all replicas know together of nonces that were used and of failures."""

    def admit(self, proof: Proof, done: Done[bool]) -> None:
        """Use up a nonce's count; answers False where it was used before. Failures of nobody stand in its way."""

    def fail(self, failure: Failure, done: Done[int]) -> None:
        """Count a failure. Answers how long the source must wait, in milliseconds: more than 0 where it was blocked."""

    def unreported(self, now_ms: int, limit: int, done: Done[list[Refusals]]) -> None:
        """Sources whose period of counting is over."""

    def report(self, refusals: Refusals, event: bytes, done: Done[bool]) -> None:
        """Append the event and forget these refusals, in one step; False where another replica did so before."""
