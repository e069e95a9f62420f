"""Which dialogs are listened to, by our tag: their owners, and what each may still send. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pbx_signaling.bucket import Bucket

if TYPE_CHECKING:
    from pbx_signaling.users.user import DialogOwner
    from pbx_sip.message.message import Request

DIALOG_BURST_S: Final = 5.0
"""How many seconds' requests a dialog may send at once: digits dialled, a reconnecting phone."""


class Dialogs:
    """The dialogs of one instance. As many as legs of calls, and forks of callees, that live."""

    def __init__(self, requests_per_s: float) -> None:
        """`requests_per_s`: of one dialog; 0: no limit."""
        self.requests_per_s = requests_per_s
        self._owners: dict[str, DialogOwner] = {}
        self._budgets: dict[str, Bucket] = {}
        """Of those that sent something."""

    def __len__(self) -> int:
        return len(self._owners)

    def listen(self, local_tag: str, owner: DialogOwner) -> None:
        """From now on requests with that To-tag go to the owner."""
        self._owners[local_tag] = owner

    def forget(self, local_tag: str) -> None:
        """Requests with that To-tag belong to nobody any more."""
        self._owners.pop(local_tag, None)
        self._budgets.pop(local_tag, None)

    def owners(self) -> list[DialogOwner]:
        """All owners; one of several tags so many times."""
        return list(self._owners.values())

    def by_tag(self, local_tag: str) -> DialogOwner | None:
        """The owner of a tag of ours."""
        return self._owners.get(local_tag)

    def of(self, request: Request) -> DialogOwner | None:
        """The owner of the dialog to which a request belongs (RFC 3261 section 12.2.2)."""
        owner = self._owners.get(request.to_tag)
        return owner if owner is not None and owner.owns(request) else None

    def charge(self, local_tag: str, now: float) -> Bucket | None:
        """Charges a dialog for a request; what it has used up, where it may not send it."""
        rate = self.requests_per_s
        if not rate:
            return None
        burst = rate * DIALOG_BURST_S
        bucket = self._budgets.get(local_tag)
        if bucket is None:
            bucket = self._budgets[local_tag] = Bucket(burst, now)
        return None if bucket.take(rate, burst, now) else bucket
