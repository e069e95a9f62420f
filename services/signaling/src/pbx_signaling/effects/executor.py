"""Carries out what the core asks of the world: one line per question, each to a client. It decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from pbx_signaling.calls import commands as c
from pbx_signaling.calls.signals import MediaReleased, Signal

if TYPE_CHECKING:
    from pbx_signaling.effects.step import Ask
    from pbx_signaling.media.stream import Slot, StreamEndpoint
    from pbx_signaling.users.entry import Attempt, Entry
    from pbx_signaling.users.registrations import RegisterAsk, Registered

Answer = Callable[[Signal], None]


class RegistrarClient(Protocol):
    """The registrar as signaling sees it. Answers come by callback, on the loop; never an exception."""

    def authenticate(self, attempt: Attempt, method: str, answer: Answer) -> None:
        """Verifies the caller's credentials: Authenticated, Refused or ServiceFailed."""

    def find(self, aor: str, answer: Answer) -> None:
        """Looks an address-of-record up: Found or LookupFailed."""

    def register(self, ask: RegisterAsk, answer: Callable[[Registered], None]) -> None:
        """Puts a REGISTER to the registrar."""


class RelayClient(Protocol):
    """All relays as signaling sees them."""

    def reserve(self, call_id: str, endpoints: list[StreamEndpoint], answer: Answer) -> None:
        """Takes a slot of some relay: MediaReady or MediaUnavailable."""

    def update(self, call_id: str, slot: Slot, endpoints: list[StreamEndpoint]) -> None:
        """Tells new endpoints."""

    def release(self, call_id: str, slot: Slot, answer: Answer) -> None:
        """Gives a slot back: MediaReleased."""


class Executor:
    """Puts the core's questions to the clients, and their answers to the driver."""

    def __init__(self, registrar: RegistrarClient, relay: RelayClient, signal: Callable[[str, Signal], None]) -> None:
        self.registrar = registrar
        self.relay = relay
        self._signal = signal

    def ask(self, ask: Ask) -> None:
        """Carries one question out."""
        QUESTIONS[type(ask.command)](self, ask.entry, ask.command)

    def _answer(self, entry: Entry) -> Answer:
        call_id, signal = entry.call.call_id, self._signal
        return lambda answer: signal(call_id, answer)

    def _authenticate(self, entry: Entry, command: c.Authenticate) -> None:
        self.registrar.authenticate(entry.attempt, "INVITE", self._answer(entry))

    def _find(self, entry: Entry, command: c.FindTargets) -> None:
        self.registrar.find(command.aor, self._answer(entry))

    def _reserve(self, entry: Entry, command: c.ReserveMedia) -> None:
        self.relay.reserve(entry.call.call_id, command.endpoints, self._answer(entry))

    def _update(self, entry: Entry, command: c.UpdateMedia) -> None:
        slot = entry.call.media.slot
        if slot is not None:
            self.relay.update(entry.call.call_id, slot, command.endpoints)

    def _release(self, entry: Entry, command: c.ReleaseMedia) -> None:
        slot = entry.call.media.slot
        if slot is None:
            self._answer(entry)(MediaReleased([]))
        else:
            self.relay.release(entry.call.call_id, slot, self._answer(entry))


QUESTIONS: Final[Mapping[type, Callable[[Executor, Entry, Any], None]]] = {
    c.Authenticate: Executor._authenticate,
    c.FindTargets: Executor._find,
    c.ReserveMedia: Executor._reserve,
    c.UpdateMedia: Executor._update,
    c.ReleaseMedia: Executor._release,
}
