"""RTP sources and sinks for many calls in one process: numbered G.711 packets every 20 ms.

No codec, no jitter buffer, no RTCP. Packets of many streams are spread over the 20 ms as phones would.
"""

from __future__ import annotations

import random
import select
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence

PACKET_S = 0.02
_TURNS = 4
_HEADER = struct.Struct("!BBHII")
_PAYLOAD = bytes(range(160))
_SOCKET_BUFFER_BYTES = 262_144


class Stream:
    """One side's audio: sends numbered packets to the relay and notes which of the other side's arrive."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER_BYTES)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]
        self.ssrc = random.getrandbits(32)
        self.remote: tuple[str, int] | None = None
        self.sent = 0
        self.received: list[int] = []
        """Sequence numbers in the order of arrival."""
        self._first = random.getrandbits(15)

    def send(self) -> None:
        """The next packet."""
        assert self.remote is not None
        number = self._first + self.sent
        header = _HEADER.pack(0x80, 0, number & 0xFFFF, number * 160 & 0xFFFFFFFF, self.ssrc)
        self.socket.sendto(header + _PAYLOAD, self.remote)
        self.sent += 1

    def receive(self) -> None:
        """Take all that came."""
        while True:
            try:
                data = self.socket.recv(2048)
            except BlockingIOError:
                return
            self.received.append(_HEADER.unpack_from(data)[2])

    def lost_from(self, source: Stream) -> int:
        """How many of the source's packets did not arrive here."""
        return source.sent - len(set(self.received))

    def disordered(self) -> int:
        """How many packets came out of order or twice."""
        steps = [(b - a) & 0xFFFF for a, b in zip(self.received, self.received[1:], strict=False)]
        return sum(step == 0 or step > 0x8000 for step in steps)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


def play(
    streams: Sequence[Stream],
    seconds: float,
    *,
    others: Mapping[socket.socket, Callable[[], None]] | None = None,
    drain_s: float = 0.5,
) -> None:
    """Let all streams send for some time, take what arrives, and what comes on `others` by their handlers."""
    poll = select.epoll()
    handlers: dict[int, Callable[[], None]] = {s.socket.fileno(): s.receive for s in streams}
    handlers |= {sock.fileno(): handler for sock, handler in (others or {}).items()}
    for descriptor in handlers:
        poll.register(descriptor, select.EPOLLIN)
    turns = round(seconds / PACKET_S) * _TURNS
    start, turn = time.monotonic(), 0
    end = start + seconds + drain_s
    while (now := time.monotonic()) < end:
        due = start + turn * PACKET_S / _TURNS
        if turn < turns and now >= due:
            for stream in streams[turn % _TURNS :: _TURNS]:
                stream.send()
            turn += 1
            continue
        wait_s = max(0.0, (due if turn < turns else end) - now)
        for descriptor, _ in poll.poll(wait_s):
            handlers[descriptor]()
    poll.close()
