"""One instance of signaling without sockets, on a virtual clock: the real router, users, driver, write-ahead and
encoder, with the fakes that the product ships around them.

`Bench` (ladders written out by hand) and `B2buaNode` (phones that act on their own) are two ways to speak to it.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pbx_signaling.clients.fake_registrar import FakeRegistrar
from pbx_signaling.clients.fake_relay import FakeRelay
from pbx_signaling.config import CoreConfig
from pbx_signaling.core import Core, Surroundings
from pbx_signaling.driver import Driver
from pbx_signaling.effects.encode import Encoder
from pbx_signaling.effects.fake_outbox import MemoryOutbox
from pbx_signaling.effects.perform import Executor
from pbx_signaling.effects.write_ahead import Journal
from pbx_signaling.identity import Identity
from pbx_signaling.router.addressing import Addressing, Listener
from pbx_signaling.users.step import Ask, Step
from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.auth.nonce import NonceMinter
from pbx_sip.tokens import RandomTokens
from support.thawing import renew

RELAY_HOST = "192.0.2.2"
EPOCH_S = 1_700_000_000.0
"""The wall clock at time 0 of the virtual one."""


class VirtualTimer:
    """One that was set."""

    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class VirtualClock:
    """Time that passes where a test says so. Implements `write_ahead.Clock`."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self._due: list[tuple[float, int, VirtualTimer, Callable[[], None]]] = []
        self._order = itertools.count()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> VirtualTimer:
        timer = VirtualTimer()
        heapq.heappush(self._due, (when, next(self._order), timer, callback))
        return timer

    def later(self, after_s: float, act: Callable[[], None]) -> None:
        """Lets something happen; at once where that is no time at all."""
        if after_s:
            self.call_at(self.now + after_s, act)
        else:
            act()

    @property
    def next_timeout(self) -> float | None:
        """When something is due."""
        while self._due and self._due[0][2].is_cancelled:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def fire(self, until: float) -> None:
        """Lets everything happen that is due until then, each at its own moment; the clock stands there then."""
        while (due := self.next_timeout) is not None and due <= until:
            self.now = max(self.now, due)
            heapq.heappop(self._due)[3]()
        self.now = max(self.now, until)


OF_CALLS = tuple(f"{method} ".encode() for method in ("INVITE", "BYE", "CANCEL", "PRACK", "UPDATE", "INFO"))


def is_of_a_call(data: bytes) -> bool:
    """Whether what is sent belongs to a call whatever else there is: a request of one, or an INVITE's good answer.

    Not an ACK: the one for a refusal is sent again by a transaction that keeps no owner.
    """
    return data.startswith(OF_CALLS) or (data.startswith((b"SIP/2.0 1", b"SIP/2.0 2")) and b" INVITE\r\n" in data)


class RenewingDriver(Driver):
    """Lets all legs be made anew after each input, where the harness wants that."""

    harness: Harness

    def _arm(self) -> None:
        harness = self.harness
        if harness.renews or harness.thaws:
            renew(harness.core, thaws=harness.thaws)
        super()._arm()


class Harness:
    """One instance at one address."""

    def __init__(
        self,
        address: HostPort,
        config: CoreConfig,
        *,
        now: float = 0.0,
        registrar: Any = None,
        around: dict[str, Any] | None = None,
    ) -> None:
        """`registrar`: another one than the fake; `around`: what else the core cannot make itself."""
        counter = itertools.count(1)

        def entropy(size: int) -> bytes:
            return b"".join(next(counter).to_bytes(8, "big") for _ in range(size // 8))

        self.config = config
        self.clock = VirtualClock(now)
        self.addressing = Addressing("s1")
        self.addressing.add(Listener("udp4", Transport.UDP, address))
        self.registrar = registrar or FakeRegistrar(
            config.domain, self.clock.later, verifies_registers=config.authenticate
        )
        self.relay = FakeRelay(RELAY_HOST, self.clock.later)
        self.outbox = MemoryOutbox()
        self.steps: list[Step] = []
        """All that were carried out."""
        self.asked: list[Ask] = []
        """All questions that were put."""
        self.wire: list[tuple[bytes, Flow]] = []
        """All that was sent."""
        identity = Identity(RandomTokens("s1", entropy), "s1", lambda: EPOCH_S, random.Random(1).random)
        self.core = Core(
            Surroundings(
                config=config,
                addressing=self.addressing,
                identity=identity,
                nonces=NonceMinter(b"0123456789abcdef", entropy),
                encoder=Encoder("signaling/s1.1", identity.wall_ms),
                **(around or {}),
            )
        )
        self.executor = Executor(self.registrar, self.relay, self.answered)
        self.journal = Journal(self.outbox, self.transmit, self.ask, self.clock)
        self.thaws = bool(os.environ.get("SIM_THAWS"))
        """Legs are thawed after each input."""
        self.renews = False
        """Their alarms are set anew after each input, as thawing does."""
        self.driver = RenewingDriver(self.core.router, self.perform, self.ask, self.clock)
        self.driver.harness = self
        self.journal.on_ready = self.driver.journal

    def answered(self, ask: Ask, answer: object) -> None:
        """The world answers."""
        self.driver.answered(ask, answer)

    def perform(self, step: Step) -> None:
        """A step is carried out; what must hold of each one is looked at on the way."""
        numbers = [getattr(record, "sequence", 0) for record in step.records]
        assert not step.call_id or numbers == sorted(set(numbers)), "each record once, in order"
        assert len(step.events) == len(step.records)
        assert step.call_id or not any(is_of_a_call(data) for data, _ in step.transmits), "it says not of which call"
        self.steps.append(step)
        self.journal.perform(step)

    def ask(self, ask: Ask) -> None:
        """A question is put to the world."""
        self.asked.append(ask)
        self.executor.ask(ask)

    def transmit(self, data: bytes, flow: Flow) -> None:
        """Something is sent."""
        self.wire.append((data, flow))

    def signal(self, call_id: str, signal: object) -> None:
        """The world says something about a call that nobody asked for."""
        self.driver.signal(self.core.calls, call_id, signal)

    def reconfigure(self, **changes: Any) -> None:
        """Other settings from now on, where parts read them for each request."""
        self.config = replace(self.config, **changes)
        core = self.core
        for part in (core.calls, core.challenges):
            for name in ("config", "_config"):
                if hasattr(part, name):
                    setattr(part, name, self.config)

    def forget(self) -> None:
        """What was seen until now counts no more."""
        for seen in (self.steps, self.asked, self.wire, self.outbox.events, self.relay.updates):
            seen.clear()

    @property
    def records(self) -> list[tuple[str, Any]]:
        """What was written of calls, in order: call and record."""
        return [(step.call_id, emit.record) for step in self.steps if step.call_id for emit in step.records]
