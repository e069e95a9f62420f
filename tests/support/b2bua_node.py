"""One instance as a node of the virtual network, with a registrar and a relay that answer late, or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pbx_signaling.border.trust import Trust
from pbx_signaling.calls import commands as c
from pbx_signaling.calls import signals as e
from pbx_signaling.calls.state import CallPolicy
from pbx_signaling.clients.fake_registrar import FakeRegistrar, target_of
from pbx_signaling.clients.fake_relay import FakeRelay
from pbx_signaling.config import CoreConfig
from pbx_signaling.core import Core
from pbx_signaling.users.entry import Entry
from pbx_sip.address import Flow, HostPort, Transport
from support.harness import Harness

DOMAIN = "pbx.local"
ANSWER_S = 0.002


class B2buaNode:
    """The core at one address. Implements `netem.Node`."""

    def __init__(
        self,
        address: HostPort,
        *,
        authenticate: bool = False,
        policy: CallPolicy | None = None,
        proxies: Iterable[str] = (),
    ) -> None:
        self.address = address
        config = CoreConfig(DOMAIN, authenticate=authenticate, calls=policy or CallPolicy(), proxies=Trust(proxies))
        self.harness = Harness(address, config)
        self.registrar.delay_s = self.relay.delay_s = ANSWER_S
        self._seen = 0

    @property
    def core(self) -> Core:
        return self.harness.core

    @property
    def calls(self) -> dict[str, Entry]:
        """Live calls."""
        return self.core.calls.table

    @property
    def registrar(self) -> FakeRegistrar:
        registrar = self.harness.registrar
        assert isinstance(registrar, FakeRegistrar)
        return registrar

    @property
    def relay(self) -> FakeRelay:
        return self.harness.relay

    @property
    def records(self) -> list[tuple[str, c.Record]]:
        """Events written of calls: call and record."""
        return self.harness.records

    def forget_records(self) -> None:
        """Those until now do not count any more, nor do their calls."""
        self.harness.forget()
        self._seen = 0
        self.core.counters.calls = 0

    def bind(self, user: str, *where: HostPort) -> None:
        """A user's phones."""
        flows = [Flow(Transport.UDP, each, "udp4") for each in where]
        self.registrar.bindings[user] = [
            target_of(f"sip:{user}@{flow.remote}", f"{user}@{DOMAIN}", flow) for flow in flows
        ]

    # --- netem.Node

    @property
    def now(self) -> float:
        return self.harness.clock.now

    @now.setter
    def now(self, now: float) -> None:
        self.harness.clock.now = now

    def receive(self, data: bytes, source: HostPort, now: float) -> None:
        """A datagram arrives."""
        self.now = now
        self.harness.driver.received(data, Flow(Transport.UDP, source, "udp4"))

    def handle_timeout(self, now: float) -> None:
        """The world answers, and timers of the core fire."""
        self.harness.clock.fire(now)

    @property
    def next_timeout(self) -> float | None:
        """The next of both."""
        return self.harness.clock.next_timeout

    def outgoing(self) -> list[tuple[bytes, HostPort]]:
        """What is to be sent."""
        wire, self._seen, seen = self.harness.wire, len(self.harness.wire), self._seen
        return [(data, flow.remote) for data, flow in wire[seen:]]

    # --- what is done to it

    def end_all(self) -> None:
        """What SIGTERM does."""
        self.harness.driver.end_all("shutdown")

    def signal(self, call_id: str, signal: e.Signal, now: float) -> None:
        """The world has something to say about a call."""
        self.now = now
        self.harness.signal(call_id, signal)

    def transport_failed(self, flow: Flow, now: float) -> None:
        """A flow breaks."""
        self.now = now
        self.harness.driver.transport_failed(flow)

    def journal(self, ready: bool, now: float) -> None:
        """Events can be written again, or not any more."""
        self.now = now
        self.harness.driver.journal(ready)

    # --- what must be true in the end

    def names(self) -> list[str]:
        """The events written, by name."""
        return [record.name for _, record in self.records]

    def assert_clean(self) -> None:
        """Nothing is left, and each attempt has its first and its last event, once, and nothing behind it."""
        core = self.core
        assert not self.calls, self.calls
        assert len(core.dialogs) == 0
        assert not self.relay.slots, self.relay.slots
        assert core.layer.active == 0, core.layer
        assert core.registrations.pending == core.messages.pending == core.options.pending == 0
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
