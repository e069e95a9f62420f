"""The native datapath: a C library (native/) that relays on threads of its own, driven through cffi's ABI mode.

Control alone happens here, and reading of counters; no packet touches Python except copies for a tap. The
library is built with the package where there is a compiler (hatch_build.py); without it `make` refuses and says why.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib import resources
from typing import Any, Final

import cffi

from pbx_media_relay.datapath.base import ZEROS, Counters, DatapathError, Listener, PortInUseError
from pbx_media_relay.datapath.select import UnsupportedError, Wanted
from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.forward import Forward
from pbx_runtime import logs

_log = logs.get_logger("native")
CORES_MAX: Final = 64
"""Of the library's table of threads."""
EVENTS_PER_TURN: Final = 256
"""Copies and first packets handled before the loop gets its turn: one ring full."""
WORD: Final = (1 << 64) - 1
MAPPED: Final = bytes(10) + b"\xff\xff"


@cache
def library() -> tuple[Any, Any]:
    """The cffi instance and the library. Raises UnsupportedError where it was not built."""
    here = resources.files("pbx_media_relay.datapath")
    ffi = cffi.FFI()
    try:
        ffi.cdef(here.joinpath("_relay_abi.h").read_text(encoding="ascii"))
        return ffi, ffi.dlopen(str(here.joinpath("_relay.so")))
    except OSError as error:
        raise UnsupportedError(f"library not built ({error}): a C compiler was missing at install time") from error


def make(wanted: Wanted) -> NativeDatapath:
    """The datapath on the configured cores, else on every one that this process may use."""
    cores = wanted.cores or tuple(sorted(os.sched_getaffinity(0)))
    return NativeDatapath(wanted.bind_hosts, cores[:CORES_MAX])


class NativeDatapath:
    """Relays on the library's threads."""

    name = "native"

    def __init__(self, bind_hosts: tuple[str, ...], cores: tuple[int, ...], steer: bool = True) -> None:
        """Serve these local addresses, at most one per family, with one thread on each core. Without `steer`
        each port's socket is read by itself, as where sk_lookup is not allowed. Raises UnsupportedError."""
        self._ffi, self._lib = library()
        self._options = self._ffi.new("pr_options *")
        for place, host in enumerate(bind_hosts):
            self._fill(self._options.bind[place], Endpoint(host, 1))
        self._options.cores[0 : len(cores)] = list(cores)
        self._options.core_count = len(cores)
        self._options.steer = steer
        self._relay = self._ffi.NULL
        self._event = self._ffi.new("pr_event *")
        self._last = self._ffi.new("pr_counters *")
        self._refused = self._ffi.new("uint32_t *")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: Listener | None = None

    def __repr__(self) -> str:
        return f"<NativeDatapath {self._options.core_count} threads>"

    def start(self, listener: Listener) -> frozenset[int]:
        """See `Datapath.start`; nothing outlives this one. Raises DatapathError."""
        self._loop, self._listener = asyncio.get_running_loop(), listener
        self._relay = self._lib.pr_open(self._options)
        if not self._relay:
            raise DatapathError(f"threads not started: {os.strerror(self._ffi.errno)}")
        self._loop.add_reader(self._lib.pr_event_fd(self._relay), self._told)
        _log.info("native threads", threads=self._options.core_count, one_socket_refused=self.steering_refused)
        return frozenset()

    @property
    def realtime_threads(self) -> int:
        """How many of the threads run under SCHED_FIFO."""
        if not self._relay:
            return 0
        return int(self._lib.pr_realtime(self._relay))

    @property
    def steering_refused(self) -> str:
        """Why not all ports end in one socket per thread; empty: they do."""
        if not self._relay:
            return ""
        refused = self._lib.pr_steered(self._relay)
        return os.strerror(refused) if refused else ""

    def bind(self, slot_port: int) -> None:
        """See `Datapath.bind`."""
        if not self._relay:
            raise DatapathError("closed")
        error = -self._lib.pr_bind(self._relay, slot_port, self._refused)
        if error == errno.EADDRINUSE:
            raise PortInUseError(self._refused[0])
        if error:
            raise OSError(error, f"port {self._refused[0]}: {os.strerror(error)}")

    def unbind(self, slot_port: int) -> None:
        """See `Datapath.unbind`. Nothing after `close`: what looks at rests may do so once more."""
        if not self._relay:
            return
        self._lib.pr_unbind(self._relay, slot_port)

    def last_heard_ns(self, slot_port: int) -> int:
        """See `Datapath.last_heard_ns`; 0 after `close`."""
        if not self._relay:
            return 0
        return int(self._lib.pr_last_heard_ns(self._relay, slot_port))

    def upsert(self, forward: Forward) -> None:
        """See `Datapath.upsert`. The slot must be bound, the peer of the same slot."""
        if not self._relay:
            raise DatapathError("closed")
        if self._lib.pr_upsert(self._relay, self._packed(forward)):
            raise DatapathError(f"forward {forward.id}: its slot is not bound, or its peer is of another slot")

    def remove(self, forward: int) -> Counters:
        """See `Datapath.remove`."""
        if not self._relay or not self._lib.pr_remove(self._relay, forward, self._last):
            return ZEROS
        return _counters(self._last)

    def counters(self, forwards: Iterable[int]) -> list[Counters]:
        """See `Datapath.counters`. Reads memory that the threads write, without a lock."""
        numbers = list(forwards)
        if not self._relay:
            return [ZEROS] * len(numbers)
        read = self._ffi.new("pr_counters[]", len(numbers))
        found = self._ffi.new("uint8_t[]", len(numbers))
        self._lib.pr_read(self._relay, numbers, len(numbers), read, found)
        return [_counters(one) if there else ZEROS for one, there in zip(read, found, strict=True)]

    def close(self) -> None:
        """See `Datapath.close`. Joins the threads."""
        if self._loop is None or not self._relay:
            return
        self._loop.remove_reader(self._lib.pr_event_fd(self._relay))
        self._lib.pr_close(self._relay)
        self._relay = self._ffi.NULL

    def _told(self) -> None:
        listener, event = self._listener, self._event
        assert listener is not None, "start() comes first"
        self._lib.pr_woken(self._relay)
        for _ in range(EVENTS_PER_TURN):
            if not self._lib.pr_next(self._relay, event):
                return
            if event.length:
                packet = bytes(self._ffi.buffer(event.packet, event.length))
                listener.tapped(event.forward, packet, event.at_ns)
            else:
                source = _endpoint(event.source)
                assert source is not None, "a packet came from somewhere"
                listener.first_packet(event.forward, source, event.at_ns)
        assert self._loop is not None, "start() comes first"
        self._loop.call_soon(self._told_more)

    def _told_more(self) -> None:
        if self._relay:
            self._told()

    def _fill(self, target: Any, endpoint: Endpoint) -> None:
        self._ffi.buffer(target.addr)[:] = _address(endpoint.host)
        target.port = endpoint.port

    def _packed(self, forward: Forward) -> Any:
        packed = self._ffi.new("pr_forward *")
        packed.id, packed.peer = forward.id, forward.peer
        self._fill(packed.rtp, forward.rtp)
        self._fill(packed.rtcp, forward.rtcp)
        if forward.hint_host:
            self._ffi.buffer(packed.hint_host)[:] = _address(forward.hint_host)
        packed.payload_types = [forward.payload_types & WORD, forward.payload_types >> 64]
        packed.latch_until_ns, packed.generation = forward.latch_until_ns, forward.generation
        packed.clock_rate_hz, packed.limit_pps = forward.clock_rate_hz, forward.limit_pps
        packed.rtcp_mux, packed.tap = forward.rtcp_mux, forward.tap
        packed.receive, packed.send = forward.receive, forward.send
        packed.no_rtcp, packed.fixed = forward.no_rtcp, forward.fixed
        return packed


@lru_cache(maxsize=4096)
def _address(host: str) -> bytes:
    packed = ipaddress.ip_address(host).packed
    return packed if len(packed) == 16 else MAPPED + packed


def _endpoint(from_c: Any) -> Endpoint | None:
    if not from_c.port:
        return None
    address = bytes(from_c.addr)
    if address.startswith(MAPPED):
        return Endpoint(str(ipaddress.IPv4Address(address[12:])), from_c.port)
    return Endpoint(str(ipaddress.IPv6Address(address)), from_c.port)


def _counters(from_c: Any) -> Counters:
    return Counters(
        packets=from_c.packets,
        bytes=from_c.bytes,
        rtcp_packets=from_c.rtcp_packets,
        rtcp_bytes=from_c.rtcp_bytes,
        lost=from_c.lost,
        reordered=from_c.reordered,
        duplicate=from_c.duplicate,
        jitter_q4=from_c.jitter_q4,
        jitter_measured=bool(from_c.jitter_measured),
        gap_max_ns=from_c.gap_max_ns,
        first_packet_ns=from_c.first_packet_ns,
        last_packet_ns=from_c.last_packet_ns,
        last_rtcp_ns=from_c.last_rtcp_ns,
        ssrc=from_c.ssrc,
        ssrc_changes=from_c.ssrc_changes,
        payload_type=from_c.payload_type,
        rtt_ns=from_c.rtt_ns,
        reported_lost=from_c.reported_lost,
        reported_jitter=from_c.reported_jitter,
        source=_endpoint(from_c.source),
        source_rtcp=_endpoint(from_c.source_rtcp),
        drops=tuple(from_c.drops),
    )
