"""An account: a user of a domain, and what is kept instead of its password."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from pbx_sip.auth.digest import STRONGEST_FIRST, ha1

MAX_NAME: Final = 128
MAX_PASSWORD: Final = 256


@dataclass(frozen=True, slots=True)
class Account:
    """One account. `hashes` maps an algorithm to H(A1) with the domain as realm; it is never shown."""

    user: str
    domain: str
    display_name: str
    created_at_ms: int
    hashes: Mapping[str, str] = field(repr=False)


def hashes_of(user: str, domain: str, password: str) -> dict[str, str]:
    """H(A1) for each algorithm that is offered (RFC 8760)."""
    return {algorithm: ha1(algorithm, user, domain, password) for algorithm in STRONGEST_FIRST}


class AccountStore(Protocol):
    """Where accounts are kept. Raises ServiceError where it is out of reach."""

    async def get(self, user: str, domain: str) -> Account | None:
        """One account."""

    async def put(self, account: Account) -> bool:
        """Creates or replaces an account; True where it is new."""

    async def delete(self, user: str, domain: str) -> bool:
        """Removes an account; False where there was none."""

    async def page(self, after: tuple[str, str], size: int) -> list[Account]:
        """Accounts in order of (user, domain), behind `after`."""
