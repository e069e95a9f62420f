"""A rig for datapaths: real UDP phones on loopback around one slot of eight ports, and the values that
install it."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pbx_media_relay.datapath.base import Counters, Datapath, PortInUseError
from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.forward import DropReason, Forward, Medium, Side, forward_id, rtp_port, slot_of
from pbx_media_relay.rtp import Header, build

PATIENCE_S = 3.0
"""How long a packet may take on a busy machine before the test says that it was lost."""
QUIET_S = 0.05
"""How long nothing must come where nothing may come; the datapaths act within a millisecond."""
SLOT_PORTS = range(41000, 60000, 8)


def rtp_packet(sequence: int, ssrc: int = 0x1234, payload_type: int = 0, timestamp: int | None = None) -> bytes:
    """One G.711 packet of 20 ms."""
    stamp = sequence * 160 if timestamp is None else timestamp
    return build(Header(payload_type, False, sequence, stamp, ssrc), bytes(160))


def receiver_report(reporter: int, about: int, lost: int = 0, last_sr: int = 0, delay: int = 0) -> bytes:
    """A receiver report with one block."""
    block = about.to_bytes(4, "big") + b"\0" + lost.to_bytes(3, "big", signed=True) + bytes(4)
    block += (40).to_bytes(4, "big") + last_sr.to_bytes(4, "big") + delay.to_bytes(4, "big")
    return b"\x81\xc9\x00\x07" + reporter.to_bytes(4, "big") + block


def sender_report(ssrc: int, ntp: int = 0) -> bytes:
    """A sender report without blocks; `ntp` is the 64-bit timestamp."""
    return b"\x80\xc8\x00\x06" + ssrc.to_bytes(4, "big") + ntp.to_bytes(8, "big") + bytes(12)


class Socket:
    """One UDP socket of a phone, or of an attacker."""

    def __init__(self, host: str, port: int = 0) -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        try:
            self.sock.bind((host, port))
        except OSError:
            self.sock.close()
            raise
        self.endpoint = Endpoint(host, self.sock.getsockname()[1])

    def send(self, packet: bytes, to: Endpoint) -> None:
        """Send one datagram."""
        self.sock.sendto(packet, to)

    async def receive(self) -> tuple[bytes, Endpoint]:
        """The next datagram and whence it came."""
        loop = asyncio.get_running_loop()
        data, address = await asyncio.wait_for(loop.sock_recvfrom(self.sock, 4096), PATIENCE_S)
        return data, Endpoint(address[0], address[1])

    async def nothing(self) -> bool:
        """Whether nothing comes."""
        loop = asyncio.get_running_loop()
        try:
            await asyncio.wait_for(loop.sock_recvfrom(self.sock, 4096), QUIET_S)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        """Close it."""
        self.sock.close()


class Phone:
    """An RTP and an RTCP socket on neighbouring ports."""

    def __init__(self, host: str) -> None:
        for _ in range(100):
            self.rtp = Socket(host)
            try:
                self.rtcp = Socket(host, self.rtp.endpoint.port + 1)
            except OSError:
                self.rtp.close()
            else:
                return
        raise RuntimeError("no two neighbouring ports")

    def close(self) -> None:
        """Close both."""
        self.rtp.close()
        self.rtcp.close()


@dataclass
class Told:
    """A listener that remembers."""

    first: list[tuple[int, Endpoint]] = field(default_factory=list)
    taps: list[bytes] = field(default_factory=list)

    def first_packet(self, forward: int, source: Endpoint, at_ns: int) -> None:
        """See `Listener`."""
        self.first.append((forward, source))

    def tapped(self, forward: int, packet: bytes, at_ns: int) -> None:
        """See `Listener`."""
        self.taps.append(packet)


class Rig:
    """A started datapath with one bound slot."""

    def __init__(self, datapath: Datapath) -> None:
        self.datapath = datapath
        self.told = Told()
        datapath.start(self.told)
        self.slot_port = self._bind()
        self.slot = slot_of(self.slot_port)
        self.hosts: list[Phone | Socket] = []

    def _bind(self) -> int:
        for _ in range(200):
            port = random.choice(SLOT_PORTS)
            try:
                self.datapath.bind(port)
            except PortInUseError:
                continue
            return port
        raise RuntimeError("no free slot")

    def phone(self, host: str = "127.0.0.1") -> Phone:
        """A new phone, closed with the rig."""
        self.hosts.append(phone := Phone(host))
        return phone

    def socket(self, host: str = "127.0.0.1") -> Socket:
        """A new lone socket, closed with the rig."""
        self.hosts.append(sock := Socket(host))
        return sock

    def forward(self, side: Side, phone: Phone, medium: Medium = Medium.AUDIO, **changes: Any) -> Forward:
        """What installs that phone on that side: strict unless `changes` say otherwise."""
        values: dict[str, Any] = {
            "id": self.id(side, medium),
            "peer": self.id(Side(1 - side), medium),
            "port": rtp_port(self.slot_port, side, medium),
            "rtp": phone.rtp.endpoint,
            "rtcp": phone.rtcp.endpoint,
            "clock_rate_hz": 8000,
        }
        return Forward(**{**values, **changes})

    def pair(self, a: Phone, b: Phone, **changes: Any) -> None:
        """Install both sides' audio."""
        self.datapath.upsert(self.forward(Side.A, a, **changes))
        self.datapath.upsert(self.forward(Side.B, b, **changes))

    def id(self, side: Side, medium: Medium = Medium.AUDIO) -> int:
        """The forward's number."""
        return forward_id(self.slot, side, medium)

    def local(self, side: Side, rtcp: bool = False, host: str = "127.0.0.1", medium: Medium = Medium.AUDIO) -> Endpoint:
        """The relay's endpoint towards that side."""
        return Endpoint(host, rtp_port(self.slot_port, side, medium) + rtcp)

    def counters(self, side: Side, medium: Medium = Medium.AUDIO) -> Counters:
        """That side's counters now."""
        return self.datapath.counters([self.id(side, medium)])[0]

    async def dropped(self, side: Side, reason: DropReason, count: int = 1) -> Counters:
        """Wait until so many packets were dropped for that reason."""
        return await self.until(side, lambda counters: counters.drops[reason] >= count)

    async def until(self, side: Side, holds: Callable[[Counters], bool]) -> Counters:
        """Wait until it holds of the side's counters."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds(counters := self.counters(side)):
            assert time.monotonic() < deadline, counters
            await asyncio.sleep(0.002)
        return counters

    def open_window(self) -> int:
        """A latch window that is open now."""
        return time.monotonic_ns() + 30_000_000_000

    def close(self) -> None:
        """Close all."""
        for host in self.hosts:
            host.close()
        for side in Side:
            for medium in Medium:
                self.datapath.remove(self.id(side, medium))
        self.datapath.unbind(self.slot_port)
        self.datapath.close()
