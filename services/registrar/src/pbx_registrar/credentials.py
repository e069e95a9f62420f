"""Accounts as authentication sees them: a port to where they are kept, and a fake of it.

An account holds H(A1) for each digest algorithm and never a password. `find` answers by a callback, at once where the
account is at hand: a look-up on the path of a call costs no task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from pbx_runtime.errors import InvalidArgument, ServiceError
from pbx_sip.auth.digest import STRONGEST_FIRST, ha1

USER_MAX: Final = 128
DOMAIN_MAX: Final = 253
DISPLAY_MAX: Final = 128
PASSWORD_MAX: Final = 256
CALLS_MAX: Final = 1_000_000
"""The highest limit of calls of an account: as good as none."""
_FORBIDDEN_IN_USER: Final = frozenset('@:"<>\\ \t/?;,')
"""What would need an escape in a URI or in a digest's user-value (":" ends the user in A1)."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who may register and call."""

    user: str
    domain: str
    display_name: str = ""
    created_at_ms: int = 0
    ha1: dict[str, str] = field(default_factory=dict, repr=False)
    """Algorithm to H(A1), lower-case hex."""
    calls_max: int = 0
    """Calls that it may make at once; 0: what signaling says for accounts without a limit of their own."""
    ha1_of_aor: dict[str, str] = field(default_factory=dict, repr=False)
    """The same for a phone whose digest user name is `user@domain`; empty for an account that was last put before."""

    @property
    def aor(self) -> str:
        """The address-of-record: user@domain."""
        return f"{self.user}@{self.domain}"


@dataclass(frozen=True, slots=True)
class Put:
    """How an account is put."""

    keep_calls_max: bool = False
    """An existing account keeps its limit of calls."""
    keep_name: bool = False
    """An existing account keeps its display name."""
    must_be_new: bool = False
    must_exist: bool = False


ANYHOW: Final = Put()
"""Created or replaced, whole."""

Found = Callable[[Account | None, ServiceError | None], None]
"""Called once: with the account, with None where there is none, or with None and the error."""


class Accounts(Protocol):
    """Where accounts are looked up."""

    def find(self, aor: str, done: Found) -> None:
        """The account of a canonical address-of-record. Errors: `Unavailable`, `ResourceExhausted`."""


def canonical_aor(user: str, domain: str) -> str:
    """user@domain with the domain in lower case: domains are compared without regard to case, users are not."""
    return f"{user}@{domain.lower()}"


def canonical(aor: str) -> str:
    """An address-of-record as it is stored."""
    user, _, domain = aor.rpartition("@")
    return f"{user}@{domain.lower()}"


def hashes(user: str, realm: str, password: str) -> dict[str, str]:
    """H(A1) for every algorithm; all that is kept of a password."""
    return {algorithm: ha1(algorithm, user, realm, password) for algorithm in STRONGEST_FIRST}


def new_account(user: str, domain: str, display_name: str, password: str, now_ms: int) -> Account:
    """A valid account. Raises InvalidArgument that says what is wrong, never the password."""
    domain = domain.lower()
    if not 0 < len(user) <= USER_MAX or not user.isprintable() or not _FORBIDDEN_IN_USER.isdisjoint(user):
        raise InvalidArgument(f'a user has 1 to {USER_MAX} printable characters, none of @:"<>\\/?;, and no space')
    if not 0 < len(domain) <= DOMAIN_MAX or not _is_host(domain):
        raise InvalidArgument("the domain is not a host name or address")
    check_display_name(display_name)
    if not 0 < len(password) <= PASSWORD_MAX:
        raise InvalidArgument(f"a password has 1 to {PASSWORD_MAX} characters")
    both = hashes(user, domain, password), hashes(f"{user}@{domain}", domain, password)
    return Account(user, domain, display_name, now_ms, both[0], ha1_of_aor=both[1])


def check_display_name(display_name: str) -> None:
    """Raises InvalidArgument where it is too long, or would not print."""
    if len(display_name) > DISPLAY_MAX or not (display_name.isprintable() or not display_name):
        raise InvalidArgument(f"a display name has at most {DISPLAY_MAX} printable characters")


def check_calls_max(calls_max: int) -> None:
    """Raises InvalidArgument where it is more than any account needs."""
    if not 0 <= calls_max <= CALLS_MAX:
        raise InvalidArgument(f"an account's limit of calls is 0 (the default) to {CALLS_MAX}")


def _is_host(domain: str) -> bool:
    return domain.isascii() and all(char.isalnum() or char in "-._:[]" for char in domain)


class FakeAccounts:
    """Accounts in a dict; `error`, where set, is what every look-up meets."""

    def __init__(self, *accounts: Account) -> None:
        self.by_aor = {account.aor: account for account in accounts}
        self.error: ServiceError | None = None

    def find(self, aor: str, done: Found) -> None:
        """See `Accounts`."""
        if self.error is not None:
            done(None, self.error)
        else:
            done(self.by_aor.get(aor), None)
