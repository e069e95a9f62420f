"""The B2BUA's core as a node of the virtual network, with a registrar and a relay that answer late, or not at all."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pbx_signaling.border.trust import Trust
from pbx_signaling.calls import commands as c
from pbx_signaling.calls import signals as e
from pbx_signaling.calls.state import CallPolicy
from pbx_signaling.config import CoreConfig
from pbx_signaling.effects.step import Ask, Step
from pbx_signaling.identity import Identity
from pbx_signaling.media.stream import Slot, StreamStatistics
from pbx_signaling.router.addressing import Addressing, Listener
from pbx_signaling.router.admission import Gate
from pbx_signaling.router.router import Core
from pbx_signaling.users.messages import Pager, PagerMessage, Stage
from pbx_signaling.users.registrations import CurrentBinding, RegisterAsk, Registered, Registration
from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.auth.digest import Credentials, ha1, verify
from pbx_sip.auth.nonce import NonceMinter
from pbx_sip.errors import RemoteError
from pbx_sip.tokens import RandomTokens

DOMAIN = "pbx.local"
RELAY_HOST = "192.0.2.2"


@dataclass
class World:
    """What surrounds the core, as a test sets it."""

    passwords: dict[str, str] = field(default_factory=dict)
    """Users that exist."""
    bindings: dict[str, list[HostPort]] = field(default_factory=dict)
    registrar_s: float | None = 0.002
    """How long the registrar takes; None: it never answers."""
    relay_s: float | None = 0.002
    registrar_fails: bool = False
    relay_full: bool = False
    slots: dict[str, Slot] = field(default_factory=dict)
    reserved: int = 0


class B2buaNode:
    """The core at one address. Implements `netem.Node`; checks on the way what must hold in each step."""

    def __init__(
        self,
        address: HostPort,
        *,
        authenticate: bool = False,
        policy: CallPolicy | None = None,
        proxies: Iterable[str] = (),
    ) -> None:
        counter = itertools.count(1)

        def entropy(size: int) -> bytes:
            return b"".join(next(counter).to_bytes(8, "big") for _ in range(size // 8))

        self.address = address
        self.world = World()
        self.now = 0.0
        self.records: list[tuple[str, c.Record]] = []
        self.config = CoreConfig(
            DOMAIN, authenticate=authenticate, calls=policy or CallPolicy(), proxies=Trust(proxies)
        )
        addressing = Addressing("s1")
        addressing.add(Listener("udp4", Transport.UDP, address))
        gate = Gate(self.config, NonceMinter(b"0123456789abcdef", entropy))
        identity = Identity(RandomTokens("s1", entropy), "s1", lambda: 1_700_000_000.0)
        self.core = Core(self.config, addressing, identity, gate)
        self.core.registration = Registration(self.core, gate, self._register)
        self.core.pager = Pager(self.core, gate, identity, addressing, self._page)
        self._todo: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._sent: list[tuple[bytes, HostPort]] = []

    # --- netem.Node

    def receive(self, data: bytes, source: HostPort, now: float) -> None:
        """A datagram arrives."""
        self.now = now
        self.core.receive(data, Flow(Transport.UDP, source, "udp4"), now)
        self._drain()

    def handle_timeout(self, now: float) -> None:
        """The world answers, and timers of the core fire."""
        self.now = now
        while self._todo and self._todo[0][0] <= now:
            heapq.heappop(self._todo)[2]()
            self._drain()
        due = self.core.next_timeout
        if due is not None and due <= now:
            self.core.handle_timeout(now)
            self._drain()

    @property
    def next_timeout(self) -> float | None:
        """The next of both."""
        times = [self._todo[0][0]] if self._todo else []
        if self.core.next_timeout is not None:
            times.append(self.core.next_timeout)
        return min(times, default=None)

    def outgoing(self) -> list[tuple[bytes, HostPort]]:
        """What is to be sent."""
        sent, self._sent = self._sent, []
        return sent

    def end_all(self) -> None:
        """What SIGTERM does."""
        self.core.end_all("shutdown", self.now)
        self._drain()

    # --- the driver's part

    def _drain(self) -> None:
        while outputs := self.core.drain():
            for output in outputs:
                if isinstance(output, Step):
                    self._step(output)
                else:
                    self._asked(output)

    def _step(self, step: Step) -> None:
        if step.records:
            assert step.entry is not None
            call = step.entry.call
            self.records += [(call.call_id, emit.record) for emit in step.records]
            assert [emit.sequence for emit in step.records] == sorted({emit.sequence for emit in step.records})
        self._sent += [(data, flow.remote) for data, flow in step.transmits]

    def _later(self, after_s: float | None, act: Callable[[], None]) -> None:
        if after_s is not None:
            heapq.heappush(self._todo, (self.now + after_s, next(self._order), act))

    def _asked(self, ask: Ask) -> None:
        call_id, world, command = ask.entry.call.call_id, self.world, ask.command
        match command:
            case c.Authenticate():
                self._later(world.registrar_s, lambda: self._signal(call_id, self._verdict(ask)))
            case c.FindTargets():
                self._later(world.registrar_s, lambda: self._signal(call_id, self._found(command.aor)))
            case c.ReserveMedia():
                self._later(world.relay_s, lambda: self._signal(call_id, self._reserve(call_id)))
            case c.ReleaseMedia():
                self._later(world.relay_s or 0.001, lambda: self._signal(call_id, self._release(call_id)))
            case c.UpdateMedia():
                assert call_id in world.slots, "endpoints for a slot that is not there"

    def _signal(self, call_id: str, signal: e.Signal) -> None:
        self.core.signal(call_id, signal, self.now)

    # --- the world's part

    def _verdict(self, ask: Ask) -> e.Signal:
        if self.world.registrar_fails:
            return e.ServiceFailed("down")
        user = self._proven(ask.entry.attempt.authorization, "INVITE")
        return e.Authenticated(user, "") if user else e.Refused(403)

    def _proven(self, authorization: str, method: str) -> str:
        """The user whom credentials prove; empty where they are wrong, or none."""
        try:
            credentials = Credentials.parse(authorization)
            password = self.world.passwords.get(credentials.username, "")
            hashed = ha1(credentials.algorithm, credentials.username, DOMAIN, password)
        except RemoteError:
            return ""
        return credentials.username if password and verify(credentials, hashed, method) else ""

    def _found(self, aor: str) -> e.Signal:
        if self.world.registrar_fails:
            return e.LookupFailed("down")
        user = aor.partition("@")[0]
        targets = [
            e.Target(f"sip:{user}@{where}", aor, (), 1, where.host, where.port, "udp4", 0, "s1")
            for where in self.world.bindings.get(user, [])
        ]
        return e.Found(user in self.world.passwords, targets)

    def _reserve(self, call_id: str) -> e.Signal:
        world = self.world
        if world.relay_full:
            return e.MediaUnavailable("full")
        first = 30000 + 8 * world.reserved
        world.reserved += 1
        ports = {(1, 1): (first, first + 1), (1, 2): (first + 2, first + 3)}
        ports |= {(2, 1): (first + 4, first + 5), (2, 2): (first + 6, first + 7)}
        assert call_id not in world.slots, "two slots for one call"
        world.slots[call_id] = Slot("r1", 0, RELAY_HOST, "", ports)
        return e.MediaReady(world.slots[call_id])

    def _release(self, call_id: str) -> e.Signal:
        assert call_id in self.world.slots, "a slot was released twice"
        del self.world.slots[call_id]
        return e.MediaReleased([StreamStatistics(1, 1, 100, 17200)])

    def _register(self, ask: RegisterAsk) -> None:
        registration = self.core.registration
        assert registration is not None

        def answer() -> None:
            registration.registered(ask.number, self._registered(ask), self.now)

        self._later(self.world.registrar_s, answer)

    def _registered(self, ask: RegisterAsk) -> Registered:
        if self.world.registrar_fails:
            return Registered(503, retry_after_s=5)
        user = ask.aor.partition("@")[0]
        if self.config.authenticate and self._proven(ask.authorization, "REGISTER") != user:
            return Registered(403)
        if ask.remove_all or any(contact.expires_s == 0 for contact in ask.contacts):
            self.world.bindings.pop(user, None)
            return Registered(200)
        self.world.bindings[user] = [ask.flow.remote]
        return Registered(200, bindings=[CurrentBinding(contact.uri, 1000, 300) for contact in ask.contacts])

    def _page(self, message: PagerMessage) -> None:
        attempt, pager, number, stage = message.attempt, self.core.pager, message.number, message.stage
        assert pager is not None

        def answer() -> None:
            if stage is Stage.TARGETS:
                signal = self._found(message.aor)
            else:
                user = self._proven(attempt.authorization, message.request.method)
                signal = e.Authenticated(user, "") if user else e.Refused(403)
            pager.signal(number, signal, self.now)

        self._later(self.world.registrar_s, answer)

    # --- what must be true in the end

    def names(self) -> list[str]:
        """The events written, by name."""
        return [record.name for _, record in self.records]

    def assert_clean(self) -> None:
        """Nothing is left, and each attempt has its first and its last event, once, and nothing behind it."""
        core = self.core
        assert not core.calls, core.calls
        assert not core.legs, core.legs
        assert not self.world.slots, self.world.slots
        assert core.layer.active == 0, core.layer
        assert core.registration is not None
        assert core.registration.pending == 0
        assert core.pager is not None
        assert core.pager.pending == 0
        assert self.next_timeout is None
        events: dict[str, list[c.Record]] = {}
        for call_id, record in self.records:
            events.setdefault(call_id, []).append(record)
        assert len(events) == core.counters.calls
        for records in events.values():
            counts = Counter(records)
            assert records[0] is c.Record.INITIATED, records
            assert records[-1] is c.Record.ENDED, records
            assert counts[c.Record.INITIATED] == counts[c.Record.ENDED] == 1, records
            assert counts[c.Record.ANSWERED] <= 1, records
