"""A core on a virtual clock with a registrar and a relay that answer at once, and two scripted phones around it.

For tests of single ladders: every message is written out by the test. `tests/sim` has phones that act on their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pbx_signaling.border.headers import HeaderPolicy
from pbx_signaling.border.trust import Trust
from pbx_signaling.calls import commands as c
from pbx_signaling.calls import signals as e
from pbx_signaling.clients.fake_registrar import FakeRegistrar
from pbx_signaling.config import CoreConfig
from pbx_signaling.core import Core
from pbx_signaling.media.stream import Slot
from pbx_signaling.router.addressing import Addressing
from pbx_signaling.users import questions as q
from pbx_signaling.users.attempt import Attempt
from pbx_signaling.users.entry import Entry
from pbx_signaling.users.step import Ask
from pbx_signaling.users.told import Told
from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.message.message import Message, Request, Response
from pbx_sip.message.parse import parse
from support.harness import EPOCH_S, Harness

ALICE = HostPort("192.0.2.10", 5060)
BOB = HostPort("192.0.2.20", 5060)
PBX = HostPort("192.0.2.1", 5060)


def sdp(host: str, port: int = 4000, *, extra: str = "", direction: str = "sendrecv") -> bytes:
    """An offer or answer with one G.711 stream."""
    text = (
        f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP 0 8\r\na={direction}\r\n{extra}"
    )
    return text.encode()


class Scripted(FakeRegistrar):
    """A registrar that believes everybody and finds what the bench says."""

    bench: Bench

    def authenticate(self, attempt: Attempt, method: str, answer: Callable[[e.Signal], None]) -> None:
        if self.bench.answer_registrar:
            answer(e.Authenticated("1004", self.bench.name))

    def find(self, aor: str, answer: Callable[[e.Signal], None]) -> None:
        bench = self.bench
        if not bench.answer_registrar:
            return
        if bench.found_by_user is None:
            assert bench.found is not None
            answer(bench.found if isinstance(bench.found, e.ServiceFailed) else _copy(bench.found))
        else:
            found = bench.found_by_user.get(aor.partition("@")[0])
            answer(e.Found(found is not None, list(found or ())))


def _copy(found: e.Found) -> e.Found:
    return e.Found(found.known, list(found.targets))


@dataclass
class Bench:
    """The core and its surroundings."""

    authenticate: bool = False
    headers: tuple[str, ...] = ()
    """Rules of the header policy."""
    trusted: tuple[str, ...] = ()
    """Networks with which identities are exchanged."""
    name: str = ""
    """The caller's display name at the registrar."""
    answer_relay: bool = True
    answer_registrar: bool = True
    found: Any = None
    """What a look-up finds: a Found, or a ServiceFailed."""
    found_by_user: dict[str, list[e.Target]] | None = None
    """The same by user, where that matters."""
    limits: dict[str, Any] = field(default_factory=dict)
    """Other settings than usual."""
    around: dict[str, Any] = field(default_factory=dict)
    """What else the core cannot make itself."""
    sent: list[tuple[Message, HostPort]] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings: dict[str, Any] = {
            "domain": "pbx.local",
            "authenticate": self.authenticate,
            "headers": HeaderPolicy(self.headers),
            "trusted": Trust(self.trusted),
        }
        registrar = Scripted("pbx.local")
        registrar.bench = self
        registrar.verifies_registers = False
        config = CoreConfig(**(settings | self.limits))
        self.harness = Harness(PBX, config, now=1000.0, registrar=registrar, around=self.around)
        self.harness.relay.delay_s = 0.0 if self.answer_relay else None
        if self.found is None:
            target = e.Target(f"sip:1008@{BOB}", "1008@pbx.local", (), 1, BOB.host, BOB.port, "udp4", 0, "s1")
            self.found = e.Found(True, [target])
        self._seen = 0

    # --- its parts

    @property
    def core(self) -> Core:
        return self.harness.core

    @property
    def config(self) -> CoreConfig:
        return self.harness.config

    @property
    def addressing(self) -> Addressing:
        return self.harness.addressing

    @property
    def calls(self) -> dict[str, Entry]:
        """Live calls."""
        return self.core.calls.table

    @property
    def slots(self) -> dict[str, Slot]:
        return self.harness.relay.slots

    @property
    def asked(self) -> list[Ask]:
        """Questions to the world."""
        return self.harness.asked

    @property
    def updates(self) -> list[q.Update]:
        """What the relay was told; a copy, see `forget_updates`."""
        return [ask.question for ask in self.asked if isinstance(ask.question, q.Update)]

    def forget_updates(self) -> list[q.Update]:
        """The same, and nothing of it is left."""
        updates = self.updates
        self.asked[:] = [ask for ask in self.asked if not isinstance(ask.question, q.Update)]
        return updates

    @property
    def records(self) -> list[tuple[str, c.Record]]:
        """Events written of calls: call and record."""
        return self.harness.records

    @property
    def told(self) -> list[Told]:
        """Events of messages."""
        return [told for step in self.harness.steps for told in step.records if isinstance(told, Told)]

    @property
    def now(self) -> float:
        return self.harness.clock.now

    @now.setter
    def now(self, now: float) -> None:
        self.harness.clock.now = now

    def nonce(self, source: HostPort = ALICE) -> str:
        """A nonce that was sent to a phone."""
        challenges, flow = self.core.challenges, Flow(Transport.UDP, source, "udp4")
        return challenges.mint(self.now + EPOCH_S, challenges.nonce_source(flow))

    # --- the wire

    def send(self, text: str, source: HostPort, body: bytes = b"") -> None:
        """A phone sends a message (lines separated by newlines)."""
        head = "\r\n".join(line.strip() for line in text.strip().splitlines())
        data = f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        self.raw(data, source)

    def raw(self, data: bytes, source: HostPort) -> None:
        """Bytes arrive in a datagram."""
        self.receive(data, Flow(Transport.UDP, source, "udp4"))

    def receive(self, data: bytes, flow: Flow) -> None:
        """Bytes arrive."""
        self.harness.driver.received(data, flow)
        self._look()

    def signal(self, call_id: str, signal: e.Signal) -> None:
        """The world has something to say about a call."""
        self.harness.signal(call_id, signal)
        self._look()

    def transport_failed(self, flow: Flow) -> None:
        """A flow breaks."""
        self.harness.driver.transport_failed(flow)
        self._look()

    def end_all(self, reason: str = "test") -> None:
        """What SIGTERM does."""
        self.harness.driver.end_all(reason)
        self._look()

    def journal(self, ready: bool) -> None:
        """Events can be written again, or not any more."""
        self.harness.driver.journal(ready)
        self._look()

    def advance(self, seconds: float) -> None:
        """Time passes, every deadline at its own moment."""
        self.harness.clock.fire(self.now + seconds)
        self._look()

    def slot(self, call_id: str) -> Slot:
        """A slot of eight ports."""
        return self.harness.relay.take(call_id)

    def _look(self) -> None:
        wire = self.harness.wire
        self.sent += [(parse(data), flow.remote) for data, flow in wire[self._seen :]]
        self._seen = len(wire)

    # --- what was seen

    @property
    def octets(self) -> list[bytes]:
        """All that was sent, as it went on the wire."""
        return [data for data, _ in self.harness.wire]

    def take(self, to: HostPort) -> list[Message]:
        """Messages sent to a phone since the last look, in order."""
        mine = [message for message, remote in self.sent if remote == to]
        self.sent = [(message, remote) for message, remote in self.sent if remote != to]
        return mine

    def one(self, to: HostPort) -> Message:
        """The only message sent to a phone since the last look."""
        messages = self.take(to)
        assert len(messages) == 1, messages
        return messages[0]

    def request(self, to: HostPort, method: str) -> Request:
        """The only message, which is a request of that method."""
        message = self.one(to)
        assert isinstance(message, Request), message
        assert message.method == method, message
        return message

    def response(self, to: HostPort, status: int) -> Response:
        """The only message, which is a response with that status."""
        message = self.one(to)
        assert isinstance(message, Response), message
        assert message.status == status, message
        return message

    def names(self) -> list[str]:
        """The events written, by name."""
        return [record.name for _, record in self.records]

    def assert_clean(self) -> None:
        """Nothing is left: no call, no leg, no slot; no transaction once their timers ran out."""
        assert not self.calls
        assert len(self.core.dialogs) == 0
        assert not self.slots
        self.advance(70)
        self.sent.clear()
        assert self.core.layer.active == 0
        assert self.core.router.next_timeout is None
