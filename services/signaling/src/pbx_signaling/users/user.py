"""A user of transactions (RFC 3261 section 5): what handles one or more methods. The router knows no other kind.

A new method is one file with a class like this one, and one row in `app.py`. What a user attaches to a transaction, a
dialog or a deadline is an *owner*: a value of its own that names its user, so that nobody has to ask what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from pbx_sip.swift import swift

if TYPE_CHECKING:
    from collections.abc import Collection

    from pbx_sip.address import Flow
    from pbx_sip.message.message import Request, Response
    from pbx_sip.transaction.events import ClientKey, FailureCause, Key, ServerKey


@swift
@dataclass(frozen=True, slots=True)
class Load:
    """How the instance fares when a request is judged."""

    now: float
    wall_s: float
    """The same in seconds since the Unix epoch."""
    draining: bool = False
    """It takes nothing new: it is about to end."""
    stalled: bool = False
    """Events cannot be written, and not only for a moment."""
    crowded: bool = False
    """What is left of the transaction table is kept for sources that proved a user, and for dialogs."""


class Owner(Protocol):
    """What a user attaches to a transaction, a dialog or a deadline."""

    @property
    def user(self) -> User:
        """Who hears of it."""

    @property
    def call_id(self) -> str:
        """The call to which belongs what is sent for it; empty: to none."""


class DialogOwner(Owner, Protocol):
    """What a user attaches to a dialog."""

    def owns(self, request: Request) -> bool:
        """Whether a request with the local tag of the dialog belongs to it (RFC 3261 section 12.2.2)."""


class Sending(Owner, Protocol):
    """What a user attaches to a request that it sends."""

    @property
    def strict_flow(self) -> bool:
        """Whether the peer is reached down its flow alone, so by no connection of ours."""

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits for the answer any more."""


class User:
    """What a user of transactions may do; each does only what its methods need."""

    methods: ClassVar[tuple[str, ...]] = ()
    """Requests outside of dialogs that come to it."""
    within: ClassVar[tuple[str, ...]] = ()
    """Methods of its dialogs that mean nothing outside of one (481)."""
    challenge: ClassVar[int] = 407
    """How credentials are asked for: 407 for what is passed on, 401 for what is ours."""
    always_proves: ClassVar[bool] = True
    """Whether `needs_auth` says so of every request: then floods of them are challenged without being read whole."""
    is_patient: bool = False
    """While events cannot be written: whether its requests still may wait for that."""

    # --- before there is a transaction: pure, and answered without state

    def needs_auth(self, request: Request) -> bool:
        """Whether a request outside of a dialog must prove its user."""
        return True

    def refusal(self, request: Request, flow: Flow, load: Load) -> Response | None:
        """What answers a request without a transaction, whoever sends it."""
        return None

    def takes(self, load: Load) -> bool:
        """Whether requests are taken now, of anybody; else 503."""
        return not (load.draining or load.stalled)

    def misfit(self, request: Request, load: Load) -> Response | None:
        """What answers a request without a transaction that seems to prove its user, or need not."""
        return None

    # --- transactions

    def request(self, key: ServerKey, request: Request, flow: Flow) -> None:
        """A request outside of any dialog that was admitted; its To-tag is empty."""

    def inside(self, owner: DialogOwner, key: ServerKey, request: Request, flow: Flow) -> None:
        """A request in a dialog that was listened to; its transaction has that owner already."""

    def acknowledged(self, owner: DialogOwner, request: Request) -> None:
        """An ACK for a 2xx, in a dialog that was listened to."""

    def cancelled(self, owner: Owner, key: ServerKey, request: Request) -> None:
        """A CANCEL came for an INVITE that has that owner; the CANCEL is answered already."""

    def response(self, owner: Owner, response: Response) -> None:
        """A response to a request that was sent."""

    def stray(self, owner: DialogOwner | None, response: Response) -> bool:
        """A response to no request that is known, of the dialog with its From-tag or of none; whether it is taken."""
        return False

    def failed(self, owner: Owner, key: Key, cause: FailureCause) -> None:
        """Nothing more comes of a transaction."""

    def resent(self, owner: Sending, key: ClientKey) -> None:
        """A request went another way, in another transaction."""

    # --- everything else

    def expired(self, owner: Owner, what: int) -> None:
        """A deadline passed that was set for `owner` under the number `what`, which is the user's own."""

    def answered(self, number: str | int, answer: object) -> None:
        """The world answered what was asked under that number."""

    def journal(self, ready: bool) -> None:
        """Events can be written again, or not any more."""

    def broken(self, flow: Flow) -> None:
        """A connection is gone; its transactions have failed already."""

    def end(self, reason: str) -> None:
        """The instance goes: nothing may be waited for any longer."""


def by_method(users: Collection[User]) -> dict[str, User]:
    """Who takes which method. Raises ValueError where two want the same one."""
    table: dict[str, User] = {}
    for user in users:
        for method in user.methods:
            if method in table:
                raise ValueError(f"{method} has two users: {table[method]!r} and {user!r}")
            table[method] = user
    return table
