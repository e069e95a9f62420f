"""When a peer is a slow loris: when one thing does not come whole in time, and not when reads end inside of others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pbx_runtime.address import Listen
from pbx_signaling.transport.limits import Budget, Limits
from pbx_signaling.transport.listeners import SipPipes, WebSocketPipes
from pbx_signaling.transport.stream import Closed, Connection, Pipes, StreamListener
from pbx_sip.address import Flow, Transport

OPTIONS = b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bKx\r\nContent-Length: 4\r\n\r\nbody"
LIMITS = Limits(partial_s=15.0, first_message_s=30.0, idle_s=900.0)


class Clocked(StreamListener):
    """A listener whose clock the test sets; it opens no port."""

    now = 100.0


class Wire:
    """The transport of a connection: keeps nothing, sends nothing."""

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_extra_info(self, name: str) -> tuple[str, int] | None:
        return ("192.0.2.9", 5060) if name == "peername" else None

    def write(self, data: bytes) -> None: ...


class Peer:
    """A peer that sends pieces, one a few seconds after the other."""

    def __init__(self, pipes: Pipes | None = None) -> None:
        self.received: list[bytes] = []

        def receive(data: bytes, flow: Flow) -> None:
            self.received.append(data)

        self.listener = Clocked(
            "port",
            Transport.TCP,
            Listen("127.0.0.1", 0),
            pipes or SipPipes(),
            Budget(LIMITS),
            receive,
            lambda flow: None,
        )
        self.connection = Connection(self.listener, 1, self.listener._pipes.accepted(), is_ours=False)
        self.connection.connection_made(Wire())  # type: ignore[arg-type]  # as much of a transport as is used

    def send(self, data: bytes, after_s: float = 0.0) -> None:
        """Time passes, then octets come."""
        self.listener.now += after_s
        assert self.overdue is None, f"cut off after {self.listener.now - 100:g} s"
        self.connection.data_received(data)

    @property
    def overdue(self) -> Closed | None:
        """Why the connection would be closed now."""
        return self.listener._overdue(self.connection, self.listener.now)


def shifted(stream: bytes, size: int, by: int) -> Iterator[bytes]:
    """A stream cut `by` octets after each whole thing of `size` octets: no read ends where a message does."""
    yield stream[: size + by]
    for at in range(size + by, len(stream), size):
        yield stream[at : at + size]


@pytest.mark.parametrize("by", [1, 30, len(OPTIONS) - 1])
async def test_reads_that_always_end_inside_a_message_are_progress(by: int) -> None:
    peer = Peer()
    for piece in shifted(OPTIONS * 12, len(OPTIONS), by):
        peer.send(piece, 10)
    assert len(peer.received) == 12


async def test_keep_alives_that_are_always_cut_in_two_are_progress() -> None:
    peer = Peer()
    peer.send(OPTIONS + b"\r")
    for _ in range(20):
        peer.send(b"\n\r\n\r", 10)
    assert len(peer.received) == 1


async def test_one_message_that_never_ends_is_slow_however_many_came_before() -> None:
    peer = Peer()
    peer.send(OPTIONS * 3 + OPTIONS[:10])
    for octet in range(10, 24):
        peer.send(OPTIONS[octet : octet + 1], 1)
    peer.listener.now += 2
    assert peer.overdue is Closed.SLOW


async def test_the_time_of_a_message_begins_with_its_first_octet() -> None:
    peer = Peer()
    peer.send(OPTIONS[:40])
    peer.send(OPTIONS[40:] + OPTIONS[:40], 14)
    peer.listener.now += 14
    assert peer.overdue is None
    peer.listener.now += 2
    assert peer.overdue is Closed.SLOW


async def test_pings_between_the_fragments_of_a_websocket_message_are_no_progress() -> None:
    peer = Peer(WebSocketPipes((), None))
    hello = "GET / HTTP/1.1\r\nHost: pbx\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    hello += "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    hello += "Sec-WebSocket-Protocol: sip\r\n\r\n"
    peer.send(hello.encode())
    whole = b"\x81" + bytes([0x80 | len(OPTIONS)]) + bytes(4) + OPTIONS
    for piece in shifted(whole * 6, len(whole), 20):
        peer.send(piece, 10)
    assert len(peer.received) == 6
    ping, first = b"\x89\x80" + bytes(4), b"\x01\x84" + bytes(4) + b"OPTI"
    peer.send(first, 1)
    for _ in range(3):
        peer.send(ping, 5)
    peer.listener.now += 1
    assert peer.overdue is Closed.SLOW
