"""The maps' values as bpf/abi.h has them, field by field; `check` compares sizes and offsets with the object's own.

Addresses and ports are in network order inside the values. Only `streams` is written by the program.
"""

from __future__ import annotations

import ctypes
import socket
from ctypes import Structure, c_int32, c_int64, c_uint16, c_uint32, c_uint64
from functools import lru_cache
from typing import Final

from pbx_media_relay.ebpf.elf import ObjectError
from pbx_media_relay.endpoint import CANONICAL_CACHE, Endpoint

ABI_VERSION: Final = 1
PLACES: Final = 32768
LOCALS_MAX: Final = 512
RTCP_MUX, RECEIVE, SENDTO, SLOW, NO_RTCP = 1, 2, 4, 8, 16
DROPS: Final = 6


class HostC(Structure):
    """struct host."""

    _fields_ = (("address", c_uint32 * 4), ("family", c_uint32))


class EndpointC(Structure):
    """struct endpoint."""

    _fields_ = (("address", c_uint32 * 4), ("port", c_uint16), ("family", c_uint16))


class WayC(Structure):
    """struct way."""

    _fields_ = (("to", HostC), ("nexthop", HostC), ("local", c_uint32 * 4), ("ifindex", c_uint32), ("mtu", c_uint32))


class LegC(Structure):
    """struct leg."""

    _fields_ = (("announced", EndpointC), ("epoch", c_uint32), ("aim", c_uint32), ("way", WayC))


class ForwardC(Structure):
    """struct forward."""

    _fields_ = (
        ("until_ns", c_uint64),
        ("payload_types", c_uint64 * 2),
        ("flags", c_uint32),
        ("peer", c_uint32),
        ("clock_rate", c_uint32),
        ("limit_pps", c_uint32),
        ("pauses", c_uint32),
        ("generation", c_uint32),
        ("hint", HostC),
        ("leg", LegC * 2),
        ("pad", c_uint32),
    )


class LearnedC(Structure):
    """struct learned."""

    _fields_ = (("source", EndpointC), ("local", c_uint32 * 4), ("ifindex", c_uint32))


class LatchC(Structure):
    """struct latch."""

    _fields_ = (
        ("word", c_uint32),
        ("lock", c_uint32),
        ("epoch", c_uint32),
        ("aim", c_uint32),
        ("rank", c_uint32),
        ("candidate_epoch", c_uint32),
        ("until_ns", c_uint64),
        ("learned", LearnedC * 2),
        ("candidate", EndpointC),
        ("candidate_ssrc", c_uint32),
        ("candidate_sequence", c_uint32),
        ("pad", c_uint32),
    )


class ReceptionC(Structure):
    """struct reception."""

    _fields_ = (
        ("lost_before", c_int64),
        ("max", c_int64),
        ("base", c_int64),
        ("received", c_uint64),
        ("seen", c_uint64),
        ("reordered", c_uint64),
        ("duplicate", c_uint64),
        ("gap_last_ns", c_uint64),
        ("gap_max_ns", c_uint64),
        ("ssrc", c_uint32),
        ("ssrc_changes", c_uint32),
        ("has_ssrc", c_uint32),
        ("bad", c_uint32),
        ("transit", c_uint32),
        ("has_transit", c_uint32),
        ("timestamp", c_uint32),
        ("has_timestamp", c_uint32),
        ("jitter_q4", c_uint32),
        ("jitter_measured", c_uint32),
        ("pauses", c_uint32),
        ("pad", c_uint32),
    )


class TripC(Structure):
    """struct trip."""

    _fields_ = (
        ("passed_ns", c_uint64 * 4),
        ("ntp", c_uint32 * 4),
        ("rtt_ns", c_uint64),
        ("next", c_uint32),
        ("pad", c_uint32),
        ("lost", c_int32),
        ("jitter", c_uint32),
    )


class StreamC(Structure):
    """struct stream."""

    _fields_ = (
        ("heard_ns", c_uint64),
        ("packets", c_uint64),
        ("bytes", c_uint64),
        ("rtcp_packets", c_uint64),
        ("rtcp_bytes", c_uint64),
        ("first_ns", c_uint64),
        ("last_ns", c_uint64),
        ("last_rtcp_ns", c_uint64),
        ("drops", c_uint64 * DROPS),
        ("second", c_uint32),
        ("in_second", c_uint32),
        ("up_second", c_uint32),
        ("up_in_second", c_uint32),
        ("payload_type", c_uint32),
        ("pad", c_uint32),
        ("reception", ReceptionC),
        ("trip", TripC),
        ("latch", LatchC * 2),
    )


class ControlC(Structure):
    """struct control."""

    _fields_ = (("alive_until_ns", c_uint64), ("passed_up", c_uint64))


LAYOUT: Final = (
    ABI_VERSION,
    ctypes.sizeof(ForwardC),
    ctypes.sizeof(StreamC),
    ctypes.sizeof(ControlC),
    ctypes.sizeof(LatchC),
    StreamC.reception.offset,
    StreamC.trip.offset,
    StreamC.latch.offset,
    ForwardC.leg.offset,
    ctypes.sizeof(LegC),
)
"""What relay.bpf.c writes into its section `abi.layout`."""


def check(layout: tuple[int, ...]) -> None:
    """Raise ObjectError where the object was compiled from another layout."""
    if layout != LAYOUT:
        raise ObjectError(f"layout {layout} of the object is not {LAYOUT}")


@lru_cache(maxsize=CANONICAL_CACHE)
def packed(host: str) -> tuple[int, bytes]:
    """Family and 16 octets of an address literal; none for an empty one."""
    if not host:
        return 0, bytes(16)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return family, socket.inet_pton(family, host).ljust(16, b"\0")


def host_c(host: str) -> HostC:
    """An address as the maps have it."""
    family, octets = packed(host)
    return HostC.from_buffer_copy(octets + family.to_bytes(4, "little"))


def endpoint_c(endpoint: Endpoint) -> EndpointC:
    """An endpoint as the maps have it."""
    family, octets = packed(endpoint.host)
    return EndpointC.from_buffer_copy(octets + endpoint.port.to_bytes(2, "big") + family.to_bytes(2, "little"))


def host_text(address: bytes, family: int) -> str:
    """The literal of an address in a map; empty for none."""
    if not family:
        return ""
    return socket.inet_ntop(family, address[:4] if family == socket.AF_INET else address)


def endpoint_of(value: EndpointC) -> Endpoint | None:
    """The endpoint in a map; None where there is none."""
    if not value.family:
        return None
    return Endpoint(host_text(bytes(value.address), value.family), socket.ntohs(value.port))
