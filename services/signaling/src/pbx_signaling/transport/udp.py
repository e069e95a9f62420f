"""SIP over UDP: a plain non-blocking socket with `add_reader` and a bounded drain loop.

Measured at 4.6 us of CPU per packet on the machine this was chosen on, against 26 us for asyncio's datagram transport.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from pbx_signaling.transport import stun
from pbx_sip.address import Flow, HostPort, Transport

DRAIN_MAX: Final = 64
"""Datagrams read per wake-up. Threat: a flood that keeps timers and gRPC from running."""
RECEIVE_BUFFER: Final = 4 << 20
"""Octets of kernel buffer asked for: two seconds of 2 000 calls/s; the kernel may grant less."""
MAX_DATAGRAM: Final = 65_535
FLOWS_MAX: Final = 65_536
"""Flow values kept for reuse. Threat: spoofed sources filling memory; the table starts anew beyond."""

Receiver = Callable[[bytes, Flow], None]


class UdpListener:
    """One UDP socket of the SIP port."""

    def __init__(
        self, name: str, host: str, port: int, receiver: Receiver, inherited: socket.socket | None = None
    ) -> None:
        """`inherited`: the bound socket, where another process opened it (`inherited.Inherited`)."""
        self.name = name
        self.dropped_out = 0
        """Datagrams that the kernel did not take (full buffer, no route)."""
        self.keepalives = 0
        """Datagrams that only keep a NAT open: line ends, zeros, STUN (RFC 5626 section 4.4)."""
        self._socket = _bound(host, port) if inherited is None else inherited
        self._receiver = receiver
        self._flows: dict[tuple[str, int], Flow] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def address(self) -> HostPort:
        """Where it is bound."""
        name = self._socket.getsockname()
        return HostPort(name[0], name[1])

    def start(self) -> None:
        """Begins to read on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def send(self, data: bytes, flow: Flow) -> bool:
        """Sends one datagram; False where the kernel did not take it (SIP's own timers repeat what matters)."""
        try:
            self._socket.sendto(data, flow.remote)
        except OSError:
            self.dropped_out += 1
            return False
        return True

    def close(self) -> None:
        """Stops reading and closes the socket."""
        if self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop = None
        self._socket.close()

    def _readable(self) -> None:
        receive, receiver, flows = self._socket.recvfrom, self._receiver, self._flows
        for _ in range(DRAIN_MAX):
            try:
                data, address = receive(MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier send; the next datagram is behind it
            source = address[:2]
            flow = flows.get(source)
            if flow is None:
                if len(flows) >= FLOWS_MAX:
                    flows.clear()
                flow = flows[source] = Flow(Transport.UDP, HostPort(*source), self.name)
            if data[:1] > b" ":  # what a SIP message can begin with
                receiver(data, flow)
            else:
                self._keep_alive(data, flow)

    def _keep_alive(self, data: bytes, flow: Flow) -> None:
        """Line ends (which nobody answers over UDP), zeros, or STUN; SIP behind line ends is SIP (RFC 3261 7.5)."""
        if data[:1] != b"\0" and data.strip():
            self._receiver(data, flow)
            return
        self.keepalives += 1
        answer = stun.answer(data, flow.remote)
        if answer is not None:
            self.send(answer, flow)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_DGRAM)
    opened.setblocking(False)
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    opened.bind((host, port))
    return opened
