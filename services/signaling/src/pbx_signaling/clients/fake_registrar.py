"""The registrar in memory: accounts, bindings and their digests, for tests and for parts that run alone.

Held to the same conformance tests as the real client (`tests/conformance/test_clients.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pbx_signaling.calls.signals import Authenticated, Found, LookupFailed, Refused, ServiceFailed, Signal, Target
from pbx_signaling.users.questions import CurrentBinding, Registered
from pbx_sip.auth.digest import Credentials, ha1, verify
from pbx_sip.errors import RemoteError

if TYPE_CHECKING:
    from pbx_signaling.clients.base import Answer
    from pbx_signaling.users.attempt import Attempt
    from pbx_signaling.users.questions import Register
    from pbx_sip.address import Flow

RETRY_AFTER_S = 5
Later = Callable[[float, Callable[[], None]], None]
"""Lets something happen after so many seconds."""


def at_once(after_s: float, act: Callable[[], None]) -> None:
    """Time does not matter."""
    act()


@dataclass
class FakeRegistrar:
    """Implements `clients.base.RegistrarClient`."""

    domain: str
    later: Later = at_once
    passwords: dict[str, str] = field(default_factory=dict)
    """Users that exist."""
    names: dict[str, str] = field(default_factory=dict)
    """Their display names."""
    bindings: dict[str, list[Target]] = field(default_factory=dict)
    """By user."""
    delay_s: float | None = 0.0
    """How long it takes to answer; None: it never does."""
    is_down: bool = False
    verifies_registers: bool = True
    """Whether a REGISTER needs a digest."""
    instance: str = "s1"
    """That of the flows over which phones register."""

    def authenticate(self, attempt: Attempt, method: str, answer: Answer) -> None:
        """Verifies the caller's credentials."""
        self._answer(lambda: answer(self._verdict(attempt, method)))

    def find(self, aor: str, answer: Answer) -> None:
        """Looks an address-of-record up."""
        self._answer(lambda: answer(self._found(aor)))

    def register(self, ask: Register, answer: Callable[[Registered], None]) -> None:
        """Puts a REGISTER to it."""
        self._answer(lambda: answer(self._registered(ask)))

    def _answer(self, act: Callable[[], None]) -> None:
        if self.delay_s is not None:
            self.later(self.delay_s, act)

    def _verdict(self, attempt: Attempt, method: str) -> Signal:
        if self.is_down:
            return ServiceFailed("down", RETRY_AFTER_S)
        user = self._proven(attempt.authorization, method, attempt.body)
        if not user or f"{user}@{self.domain}" != attempt.claimed:
            return Refused(403)
        return Authenticated(user, self.names.get(user, ""))

    def _proven(self, authorization: str, method: str, body: bytes) -> str:
        """The user whom credentials prove; empty where they are wrong, or none."""
        try:
            credentials = Credentials.parse(authorization)
            password = self.passwords.get(credentials.username, "")
            hashed = ha1(credentials.algorithm, credentials.username, self.domain, password)
        except RemoteError:
            return ""
        return credentials.username if password and verify(credentials, hashed, method, body) else ""

    def _found(self, aor: str) -> Signal:
        if self.is_down:
            return LookupFailed("down", RETRY_AFTER_S)
        user, _, domain = aor.partition("@")
        known = user in self.passwords and domain == self.domain
        return Found(known, list(self.bindings.get(user, ())) if known else [])

    def _registered(self, ask: Register) -> Registered:
        if self.is_down:
            return Registered(503, retry_after_s=RETRY_AFTER_S)
        user = ask.aor.partition("@")[0]
        if self.verifies_registers and self._proven(ask.authorization, "REGISTER", ask.body) != user:
            return Registered(403)
        kept = [] if ask.remove_all else list(self.bindings.get(user, ()))
        for contact in ask.contacts:
            kept = [target for target in kept if target.uri != contact.uri]
            if contact.expires_s != 0:
                target = target_of(contact.uri, ask.aor, ask.flow, self.instance, tuple(ask.path))
                q, phone = contact.q_thousandths, contact.sip_instance
                kept.append(replace(target, q_thousandths=q, sip_instance=phone))
        if ask.contacts or ask.remove_all:
            self.bindings[user] = kept
        return Registered(200, bindings=[CurrentBinding(target.uri, 1000, 300) for target in kept])


def target_of(uri: str, aor: str, flow: Flow, instance: str = "s1", path: tuple[str, ...] = ()) -> Target:
    """The binding of a phone at the end of a flow."""
    where = flow.remote
    return Target(uri, aor, path, int(flow.transport), where.host, where.port, flow.listener, flow.connection, instance)
