"""The reference datapath: one UDP socket per port and family, read by the event loop (uvloop's add_reader).

Slow and obvious on purpose: it is the oracle that the native and the eBPF datapath are held to, and what runs
on a developer's machine. Its path of a packet is the numbered list of `datapath/base.py`, in that order.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Iterable
from typing import Final

from pbx_media_relay.datapath.base import ZEROS, Counters, Listener, PortInUseError
from pbx_media_relay.endpoint import Endpoint, received_from
from pbx_media_relay.forward import PORTS_PER_SLOT, DropReason, Forward
from pbx_media_relay.latching import Latch
from pbx_media_relay.reception import Reception
from pbx_media_relay.roundtrip import RoundTrip
from pbx_media_relay.rtp import RTP_MIN, header, is_keep_alive, is_rtcp, is_rtp

PACKET_MAX: Final = 2048
"""Longer than any RTP packet on an Ethernet path; a longer one arrives cut, and is dropped as malformed."""
DSCP_EF: Final = 46
SECOND_NS: Final = 1_000_000_000


class _Stream:
    """One installed forward and all that was counted of it."""

    __slots__ = (
        "bytes",
        "drops",
        "first_ns",
        "forward",
        "last_ns",
        "last_rtcp_ns",
        "packets",
        "payload_type",
        "reception",
        "rtcp_bytes",
        "rtcp_latch",
        "rtcp_packets",
        "rtp_latch",
        "trip",
        "window",
        "window_packets",
    )

    def __init__(self, forward: Forward) -> None:
        self.forward = forward
        rest = forward.hint_host, forward.latch_until_ns, forward.generation, forward.fixed
        self.rtp_latch, self.rtcp_latch = Latch(forward.rtp, *rest), Latch(forward.rtcp, *rest)
        self.packets = self.bytes = self.rtcp_packets = self.rtcp_bytes = 0
        self.first_ns = self.last_ns = self.last_rtcp_ns = 0
        self.payload_type = -1
        self.window = self.window_packets = 0
        self.reception = Reception()
        self.trip = RoundTrip()
        self.drops = [0] * len(DropReason)

    def replace(self, forward: Forward) -> None:
        """Take over a new value of the same forward."""
        if self.forward.receive and not forward.receive:
            self.reception.pause()
        self.forward = forward
        rest = forward.hint_host, forward.latch_until_ns, forward.generation, forward.fixed
        self.rtp_latch.update(forward.rtp, *rest)
        self.rtcp_latch.update(forward.rtcp, *rest)

    def over_limit(self, now_ns: int) -> bool:
        """Count one packet against the limit of the current second."""
        limit = self.forward.limit_pps
        second = now_ns // SECOND_NS
        if second != self.window:
            self.window, self.window_packets = second, 0
        self.window_packets += 1
        return 0 < limit < self.window_packets

    def snapshot(self) -> Counters:
        """The counters as they are now."""
        reception, trip = self.reception, self.trip
        return Counters(
            packets=self.packets,
            bytes=self.bytes,
            rtcp_packets=self.rtcp_packets,
            rtcp_bytes=self.rtcp_bytes,
            lost=reception.lost,
            reordered=reception.reordered,
            duplicate=reception.duplicate,
            jitter_q4=reception.jitter_q4,
            jitter_measured=reception.jitter_measured,
            gap_max_ns=reception.gap_max_ns,
            first_packet_ns=self.first_ns,
            last_packet_ns=self.last_ns,
            last_rtcp_ns=self.last_rtcp_ns,
            ssrc=max(reception.ssrc, 0),
            ssrc_changes=reception.ssrc_changes,
            payload_type=self.payload_type,
            rtt_ns=trip.rtt_ns,
            reported_lost=trip.reported_lost,
            reported_jitter=trip.reported_jitter,
            source=self.rtp_latch.last_source,
            source_rtcp=self.rtcp_latch.last_source,
            drops=tuple(self.drops),
        )


class _Slot:
    """The open sockets of 8 ports, by offset and family."""

    __slots__ = ("heard_ns", "port", "sockets")

    def __init__(self, port: int) -> None:
        self.port = port
        self.heard_ns = 0
        self.sockets: dict[tuple[int, socket.AddressFamily], socket.socket] = {}


class PythonDatapath:
    """Relays with plain sockets on the running event loop."""

    name = "python"

    def __init__(self, bind_hosts: tuple[str, ...], clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Serve these local addresses, at most one per family; `clock` is CLOCK_MONOTONIC in ns."""
        self._hosts = {Endpoint(host, 0).family: host for host in bind_hosts}
        self._clock = clock
        self._slots: dict[int, _Slot] = {}
        self._streams: dict[int, _Stream] = {}
        self._by_port: dict[int, _Stream] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: Listener | None = None

    def __repr__(self) -> str:
        return f"<PythonDatapath {len(self._slots)} slots, {len(self._streams)} forwards>"

    def start(self, listener: Listener) -> frozenset[int]:
        """See `Datapath.start`; nothing outlives this one."""
        self._loop, self._listener = asyncio.get_running_loop(), listener
        return frozenset()

    def bind(self, slot_port: int) -> None:
        """See `Datapath.bind`."""
        if slot_port in self._slots:
            return
        slot = _Slot(slot_port)
        try:
            for offset in range(PORTS_PER_SLOT):
                for family, host in self._hosts.items():
                    slot.sockets[offset, family] = _open(family, host, slot_port + offset)
        except OSError as error:
            self._shut(slot)
            if error.errno == errno.EADDRINUSE:
                raise PortInUseError(slot_port + offset) from error
            raise
        for (offset, _), sock in slot.sockets.items():
            self._running.add_reader(sock.fileno(), self._readable, slot, slot_port + offset, sock)
        self._slots[slot_port] = slot

    def unbind(self, slot_port: int) -> None:
        """See `Datapath.unbind`."""
        slot = self._slots.pop(slot_port, None)
        if slot is not None:
            self._shut(slot)

    def last_heard_ns(self, slot_port: int) -> int:
        """See `Datapath.last_heard_ns`."""
        slot = self._slots.get(slot_port)
        return slot.heard_ns if slot else 0

    def upsert(self, forward: Forward) -> None:
        """See `Datapath.upsert`."""
        stream = self._streams.get(forward.id)
        if stream is None:
            stream = self._streams[forward.id] = _Stream(forward)
        else:
            stream.replace(forward)
        self._by_port[forward.port] = stream

    def remove(self, forward: int) -> Counters:
        """See `Datapath.remove`."""
        stream = self._streams.pop(forward, None)
        if stream is None:
            return ZEROS
        self._by_port.pop(stream.forward.port, None)
        return stream.snapshot()

    def counters(self, forwards: Iterable[int]) -> list[Counters]:
        """See `Datapath.counters`."""
        streams = map(self._streams.get, forwards)
        return [stream.snapshot() if stream else ZEROS for stream in streams]

    def close(self) -> None:
        """See `Datapath.close`."""
        for slot_port in list(self._slots):
            self.unbind(slot_port)
        self._streams.clear()
        self._by_port.clear()

    @property
    def _running(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None, "start() comes first"
        return self._loop

    def _shut(self, slot: _Slot) -> None:
        for sock in slot.sockets.values():
            self._running.remove_reader(sock.fileno())
            sock.close()

    def _readable(self, slot: _Slot, port: int, sock: socket.socket) -> None:
        try:
            packet, address = sock.recvfrom(PACKET_MAX)
        except OSError:  # spurious wake-up, or an ICMP error queued: the next packet comes by itself
            return
        now_ns = slot.heard_ns = self._clock()
        stream = self._by_port.get(port & ~1)
        if stream is None:
            return
        refused = self._receive(stream, port, packet, received_from(address), now_ns)
        if refused is not None:
            stream.drops[refused] += 1

    def _receive(self, stream: _Stream, port: int, packet: bytes, source: Endpoint, now_ns: int) -> DropReason | None:
        """Steps 2 and on, by kind of packet."""
        if len(packet) == PACKET_MAX:
            return DropReason.MALFORMED
        if is_rtcp(packet) and (port & 1 or stream.forward.rtcp_mux):
            return self._receive_rtcp(stream, packet, source, now_ns)
        if is_rtp(packet) and not port & 1:
            return self._receive_rtp(stream, packet, source, now_ns)
        if not port & 1 and is_keep_alive(packet):
            stream.rtp_latch.keep_alive(source, now_ns)
        return DropReason.MALFORMED

    def _receive_rtp(self, stream: _Stream, packet: bytes, source: Endpoint, now_ns: int) -> DropReason | None:
        forward, head = stream.forward, header(packet)
        plausible = len(packet) == RTP_MIN or bool(forward.payload_types >> head.payload_type & 1)
        if not stream.rtp_latch.accept_rtp(source, plausible, (head.ssrc, head.sequence), now_ns):
            return DropReason.SOURCE
        if stream.over_limit(now_ns):
            return DropReason.RATE
        stream.packets += 1
        stream.bytes += len(packet)
        stream.payload_type = head.payload_type
        stream.last_ns = now_ns
        stream.reception.receive(head.sequence, head.timestamp, head.ssrc, forward.clock_rate_hz, now_ns)
        if not stream.first_ns:
            stream.first_ns = now_ns
            self._tell().first_packet(forward.id, source, now_ns)
        if forward.tap:
            self._tell().tapped(forward.id, packet, now_ns)
        peer = self._streams.get(forward.peer)
        if not forward.receive or (peer is not None and not peer.forward.send):
            return DropReason.DIRECTION
        if peer is None:
            return DropReason.NO_DESTINATION
        return self._send(peer.forward.port, peer.rtp_latch.destination, packet)

    def _receive_rtcp(self, stream: _Stream, packet: bytes, source: Endpoint, now_ns: int) -> DropReason | None:
        rtp_source = stream.rtp_latch.source
        latch = stream.rtp_latch if stream.forward.rtcp_mux else stream.rtcp_latch
        if not latch.accept_rtcp(source, rtp_source.host if rtp_source else None, now_ns):
            return DropReason.SOURCE
        if stream.over_limit(now_ns):
            return DropReason.RATE
        stream.rtcp_packets += 1
        stream.rtcp_bytes += len(packet)
        stream.last_rtcp_ns = now_ns
        peer = self._streams.get(stream.forward.peer)
        stream.trip.receive(packet, peer.trip if peer else None, now_ns)
        if peer is None:
            return DropReason.NO_DESTINATION
        if peer.forward.no_rtcp:
            return DropReason.DIRECTION
        if peer.forward.rtcp_mux:
            return self._send(peer.forward.port, peer.rtp_latch.destination, packet)
        return self._send(peer.forward.port + 1, peer.rtcp_latch.destination, packet)

    def _send(self, port: int, destination: Endpoint, packet: bytes) -> DropReason | None:
        slot = self._slots.get(port & ~(PORTS_PER_SLOT - 1))
        sock = slot.sockets.get((port & (PORTS_PER_SLOT - 1), destination.family)) if slot else None
        if sock is None:
            return DropReason.SEND
        try:
            sock.sendto(packet, destination)
        except OSError:
            return DropReason.SEND
        return None

    def _tell(self) -> Listener:
        assert self._listener is not None, "start() comes first"
        return self._listener


def _open(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, DSCP_EF << 2)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, DSCP_EF << 2)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
