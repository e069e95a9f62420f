"""Puts the questions of transaction users to the world: one line a question, each to a client. It decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from pbx_signaling.users import questions as q

if TYPE_CHECKING:
    from pbx_signaling.clients.base import RegistrarClient, RelayClient
    from pbx_signaling.users.step import Ask


class Executor:
    """Puts questions to the clients, and their answers to the driver."""

    def __init__(self, registrar: RegistrarClient, relay: RelayClient, answered: Callable[[Ask, object], None]) -> None:
        self.registrar = registrar
        self.relay = relay
        self._answered = answered

    def ask(self, ask: Ask) -> None:
        """Carries one question out."""
        answered = self._answered
        QUESTIONS[type(ask.question)](self, ask.question, lambda answer: answered(ask, answer))


QUESTIONS: Final[Mapping[type, Callable[[Executor, Any, Callable[[Any], None]], None]]] = {
    q.Authenticate: lambda to, asked, answer: to.registrar.authenticate(asked.attempt, asked.method, answer),
    q.Find: lambda to, asked, answer: to.registrar.find(asked.aor, answer),
    q.Register: lambda to, asked, answer: to.registrar.register(asked, answer),
    q.Reserve: lambda to, asked, answer: to.relay.reserve(asked.call_id, asked.endpoints, answer),
    q.Update: lambda to, asked, answer: to.relay.update(asked.call_id, asked.slot, asked.endpoints),
    q.Release: lambda to, asked, answer: to.relay.release(asked.call_id, asked.slot),
}
