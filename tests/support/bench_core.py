"""A core on a virtual clock with a registrar and a relay that answer at once, and two scripted phones around it.

For tests of single ladders: every message is written out by the test. `tests/sim` has phones that act on their own.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from pbx_signaling.border.headers import HeaderPolicy
from pbx_signaling.border.trust import Trust
from pbx_signaling.calls import commands as c
from pbx_signaling.calls import signals as e
from pbx_signaling.config import CoreConfig
from pbx_signaling.effects.step import Ask, Step
from pbx_signaling.identity import Identity
from pbx_signaling.media.stream import Slot, StreamStatistics
from pbx_signaling.router.addressing import Addressing, Listener
from pbx_signaling.router.admission import Gate
from pbx_signaling.router.router import Core
from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.auth.nonce import NonceMinter
from pbx_sip.message.message import Message, Request, Response
from pbx_sip.message.parse import parse
from pbx_sip.tokens import RandomTokens

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
    found: e.Found | None = None
    now: float = 1000.0
    sent: list[tuple[Message, HostPort]] = field(default_factory=list)
    octets: list[bytes] = field(default_factory=list)
    """All that was sent, as it went on the wire."""
    records: list[tuple[str, c.Record]] = field(default_factory=list)
    asked: list[Ask] = field(default_factory=list)
    slots: dict[str, Slot] = field(default_factory=dict)
    updates: list[c.UpdateMedia] = field(default_factory=list)

    def __post_init__(self) -> None:
        counter = itertools.count(1)
        entropy = lambda size: b"".join(next(counter).to_bytes(8, "big") for _ in range(size // 8))  # noqa: E731
        self.addressing = Addressing("s1")
        self.addressing.add(Listener("udp4", Transport.UDP, PBX))
        self.config = CoreConfig(
            "pbx.local", authenticate=self.authenticate, headers=HeaderPolicy(self.headers), trusted=Trust(self.trusted)
        )
        gate = Gate(self.config, NonceMinter(b"0123456789abcdef", entropy))
        identity = Identity(RandomTokens("s1", entropy), "s1", lambda: 1_700_000_000.0)
        self.core = Core(self.config, self.addressing, identity, gate)
        if self.found is None:
            target = e.Target(f"sip:1008@{BOB}", "1008@pbx.local", (), 1, BOB.host, BOB.port, "udp4", 0, "s1")
            self.found = e.Found(True, [target])

    def nonce(self, source: HostPort = ALICE) -> str:
        """A nonce that was sent to a phone."""
        gate, flow = self.core._gate, Flow(Transport.UDP, source, "udp4")
        return gate.nonces.mint(self.now + 1_700_000_000.0, gate.nonce_source(flow))

    # --- the wire

    def send(self, text: str, source: HostPort, body: bytes = b"") -> None:
        """A phone sends a message (lines separated by newlines)."""
        head = "\r\n".join(line.strip() for line in text.strip().splitlines())
        data = f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        self.raw(data, source)

    def raw(self, data: bytes, source: HostPort) -> None:
        """Bytes arrive."""
        self.core.receive(data, Flow(Transport.UDP, source, "udp4"), self.now)
        self.drain()

    def drain(self) -> None:
        """Does what the core wants, with everything around it answering at once."""
        while outputs := self.core.drain():
            for output in outputs:
                if isinstance(output, Step):
                    assert output.entry is not None or not output.records
                    if output.entry is not None:
                        self.records += [(output.entry.call.call_id, emit.record) for emit in output.records]
                    self.sent += [(parse(data), flow.remote) for data, flow in output.transmits]
                    self.octets += [data for data, _ in output.transmits]
                else:
                    self.asked.append(output)
                    self.answer(output)

    def answer(self, ask: Ask) -> None:
        """The world's answer."""
        call_id = ask.entry.call.call_id
        signal: e.Signal | None = None
        match ask.command:
            case c.Authenticate():
                signal = e.Authenticated("1004", self.name)
            case c.FindTargets() if self.answer_registrar:
                assert self.found is not None
                signal = e.Found(self.found.known, list(self.found.targets))
            case c.ReserveMedia() if self.answer_relay:
                signal = e.MediaReady(self.slot(call_id))
            case c.UpdateMedia() as update:
                self.updates.append(update)
            case c.ReleaseMedia():
                self.slots.pop(call_id)
                signal = e.MediaReleased([StreamStatistics(1, 1, 100, 17200)])
        if signal is not None:
            self.core.signal(call_id, signal, self.now)

    def slot(self, call_id: str) -> Slot:
        """A slot of eight ports."""
        first = 30000 + 8 * len(self.slots)
        ports = {(1, 1): (first, first + 1), (1, 2): (first + 2, first + 3)}
        ports |= {(2, 1): (first + 4, first + 5), (2, 2): (first + 6, first + 7)}
        return self.slots.setdefault(call_id, Slot("r1", 0, "192.0.2.2", "", ports))

    def advance(self, seconds: float) -> None:
        """Time passes, every deadline at its own moment."""
        end = self.now + seconds
        while (due := self.core.next_timeout) is not None and due <= end:
            self.now = max(self.now, due)
            self.core.handle_timeout(self.now)
            self.drain()
        self.now = end

    # --- what was seen

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
        assert not self.core.calls
        assert not self.core.legs
        assert not self.slots
        self.advance(70)
        self.sent.clear()
        assert self.core.layer.active == 0
        assert self.core.next_timeout is None
