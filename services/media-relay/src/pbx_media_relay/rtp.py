"""Views of RTP and RTCP headers (RFC 3550 sections 5.1 and 6.4), and RFC 5761's way to tell them apart.

Only what a relay looks at: nothing is decoded, no packet is changed. Any octets are accepted or refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

RTP_HEADER: Final = struct.Struct("!BBHII")
RTP_MIN: Final = RTP_HEADER.size
RTCP_MIN: Final = 8
VERSION_2: Final = 0x80
VERSION_MASK: Final = 0xC0
RTCP_FIRST: Final = 192
RTCP_LAST: Final = 223
"""RFC 5761 section 4: with the marker bit, RTP payload types 64..95 would collide and must not be used."""
STUN_MIN: Final = 20
STUN_COOKIE: Final = b"\x21\x12\xa4\x42"
COMFORT_NOISE: Final = (13, 19)
"""Payload types of RFC 3389, and what was reserved for it: sent in any session, and to keep a NAT open (RFC 6263)."""
SENDER_REPORT: Final = 200
RECEIVER_REPORT: Final = 201
REPORT_BLOCK: Final = struct.Struct("!IB3sIIII")
SENDER_INFO: Final = struct.Struct("!IIIII")
REPORTS_MAX: Final = 31
"""The five-bit count of a report packet."""


class Header(NamedTuple):
    """The fixed part of an RTP header."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int


class Report(NamedTuple):
    """One report block: what an endpoint says of a stream that it receives."""

    ssrc: int
    """The stream reported on."""
    lost: int
    """Cumulative packets lost, signed."""
    jitter: int
    """Interarrival jitter in timestamp units."""
    last_sr: int
    """Middle 32 bits of the NTP time of the last sender report it saw; 0: none."""
    delay_since_sr: int
    """Since then, in 1/65536 s."""


class SenderReport(NamedTuple):
    """A sender report's own part."""

    ssrc: int
    ntp_middle: int
    """Middle 32 bits of the NTP timestamp, as a receiver echoes them in LSR."""


def is_rtcp(packet: bytes) -> bool:
    """Whether the octets can be RTCP (RFC 5761 section 4)."""
    return len(packet) >= RTCP_MIN and packet[0] & VERSION_MASK == VERSION_2 and RTCP_FIRST <= packet[1] <= RTCP_LAST


def is_rtp(packet: bytes) -> bool:
    """Whether the octets can be RTP and are not RTCP."""
    return len(packet) >= RTP_MIN and packet[0] & VERSION_MASK == VERSION_2 and not RTCP_FIRST <= packet[1] <= RTCP_LAST


def is_keep_alive(packet: bytes) -> bool:
    """Whether octets that are no RTP were sent to keep a NAT open: nothing at all, STUN, RTP of no version without a
    payload (RFC 6263 sections 4.1, 4.4, 4.5)."""
    if not packet:
        return True
    if packet[0] & VERSION_MASK:
        return False
    return len(packet) == RTP_MIN or (len(packet) >= STUN_MIN and packet[4:8] == STUN_COOKIE)


def header(packet: bytes) -> Header:
    """The fixed header of octets for which `is_rtp` holds."""
    _, second, sequence, timestamp, ssrc = RTP_HEADER.unpack_from(packet)
    return Header(second & 0x7F, second >= 0x80, sequence, timestamp, ssrc)


def payload(packet: bytes) -> bytes:
    """The payload without CSRCs, extension and padding; empty where the header promises more than there
    is."""
    start = RTP_MIN + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10:
        if len(packet) < start + 4:
            return b""
        start += 4 + 4 * int.from_bytes(packet[start + 2 : start + 4], "big")
    end = len(packet)
    if packet[0] & 0x20:
        end -= packet[-1]
    return packet[start:end] if start < end else b""


def build(head: Header, body: bytes) -> bytes:
    """An RTP packet without CSRCs; for tests, tools and the load generator."""
    second = head.payload_type | (0x80 if head.marker else 0)
    return RTP_HEADER.pack(VERSION_2, second, head.sequence & 0xFFFF, head.timestamp & 0xFFFFFFFF, head.ssrc) + body


def reports(compound: bytes) -> Iterator[SenderReport | Report]:
    """Sender reports and report blocks of a compound RTCP packet; stops quietly where it is cut or wrong."""
    at = 0
    while at + 4 <= len(compound) and compound[at] & VERSION_MASK == VERSION_2:
        end = at + 4 + 4 * int.from_bytes(compound[at + 2 : at + 4], "big")
        if end > len(compound):
            return
        yield from _reports_of(compound, at, end)
        at = end


def _reports_of(compound: bytes, at: int, end: int) -> Iterator[SenderReport | Report]:
    kind, count, body = compound[at + 1], compound[at] & REPORTS_MAX, at + 8
    if kind == SENDER_REPORT and body + SENDER_INFO.size <= end:
        high, low, _, _, _ = SENDER_INFO.unpack_from(compound, body)
        ssrc = int.from_bytes(compound[at + 4 : at + 8], "big")
        yield SenderReport(ssrc, (high & 0xFFFF) << 16 | low >> 16)
        body += SENDER_INFO.size
    elif kind != RECEIVER_REPORT:
        return
    for block in range(body, min(end, body + count * REPORT_BLOCK.size), REPORT_BLOCK.size):
        if block + REPORT_BLOCK.size <= end:
            ssrc, _, lost, _, jitter, last_sr, delay = REPORT_BLOCK.unpack_from(compound, block)
            yield Report(ssrc, int.from_bytes(lost, "big", signed=True), jitter, last_sr, delay)
