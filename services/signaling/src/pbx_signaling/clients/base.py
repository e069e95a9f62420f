"""The services around signaling as it sees them: the registrar, and all relays. Fakes stand beside (`fake_*`).

Answers come by callback, on the loop; never an exception.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from pbx_signaling.calls.signals import Signal

if TYPE_CHECKING:
    from pbx_signaling.media.stream import Slot, StreamEndpoint
    from pbx_signaling.users.attempt import Attempt
    from pbx_signaling.users.questions import Register, Registered

Answer = Callable[[Signal], None]


class RegistrarClient(Protocol):
    """The registrar."""

    def authenticate(self, attempt: Attempt, method: str, answer: Answer) -> None:
        """Verifies the caller's credentials: Authenticated, Refused or ServiceFailed."""

    def find(self, aor: str, answer: Answer) -> None:
        """Looks an address-of-record up: Found or LookupFailed."""

    def register(self, ask: Register, answer: Callable[[Registered], None]) -> None:
        """Puts a REGISTER to the registrar; 503 where that does not answer."""


class RelayClient(Protocol):
    """All relays."""

    def reserve(self, call_id: str, endpoints: list[StreamEndpoint], answer: Answer) -> None:
        """Takes a slot of some relay: MediaReady or MediaUnavailable."""

    def update(self, call_id: str, slot: Slot, endpoints: list[StreamEndpoint]) -> None:
        """Tells new endpoints."""

    def release(self, call_id: str, slot: Slot) -> None:
        """Gives a slot back."""
