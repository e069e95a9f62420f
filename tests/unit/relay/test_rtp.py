"""RTP and RTCP headers: any octets are taken or refused, none crash."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pbx_media_relay.roundtrip import RoundTrip
from pbx_media_relay.rtp import Header, Report, SenderReport, build, header, is_rtcp, is_rtp, payload, reports
from support.relay_rig import receiver_report, rtp_packet, sender_report

HEADER = Header(101, True, 65535, 0xFFFFFFFF, 0xDEADBEEF)


def test_a_header_survives_the_round_trip() -> None:
    packet = build(HEADER, b"abc")
    assert header(packet) == HEADER
    assert payload(packet) == b"abc"
    assert is_rtp(packet)
    assert not is_rtcp(packet)


@pytest.mark.parametrize("length", range(12))
def test_every_truncation_is_refused(length: int) -> None:
    assert not is_rtp(rtp_packet(1)[:length])


@pytest.mark.parametrize("second", [191, 192, 200, 223, 224])
def test_rtcp_is_told_by_its_packet_type(second: int) -> None:
    packet = bytes([0x80, second]) + bytes(20)
    assert is_rtcp(packet) is (192 <= second <= 223)
    assert is_rtp(packet) is not is_rtcp(packet)


def test_payload_without_csrcs_extension_and_padding() -> None:
    head = bytes([0x80 | 0x20 | 0x10 | 2]) + build(HEADER, b"")[1:]
    extension = b"\xbe\xde\x00\x01" + bytes(4)
    assert payload(head + bytes(8) + extension + b"voice" + b"\0\0\3") == b"voice"
    assert payload(head) == b""


def test_reports_of_a_compound_packet() -> None:
    compound = sender_report(7, ntp=0x1122334455667788)
    compound += receiver_report(7, 8, lost=-2, last_sr=5, delay=65536)
    assert list(reports(compound)) == [SenderReport(7, 0x33445566), Report(8, -2, 40, 5, 65536)]


@settings(deadline=None)
@given(st.binary(max_size=200))
@example(b"\x81\xc8\x00\x0c" + bytes(48))
@example(b"\x9f\xc9\xff\xff")
def test_any_octets_are_read_without_a_crash(octets: bytes) -> None:
    list(reports(octets))
    if is_rtp(octets):
        header(octets)
        payload(octets)
    RoundTrip().receive(octets, RoundTrip(), 1)


def test_round_trip_is_what_is_left_of_the_echo() -> None:
    a, b = RoundTrip(), RoundTrip()
    a.receive(sender_report(1, ntp=0x0000_AAAA_BBBB_0000), b, 1_000_000_000)
    b.receive(receiver_report(2, 1, last_sr=0xAAAABBBB, delay=32768), a, 1_580_000_000)
    assert b.rtt_ns == 80_000_000


@pytest.mark.parametrize(("last_sr", "delay"), [(0, 0), (77, 0), (0xAAAABBBB, 65536 * 9)])
def test_no_round_trip_from_reports_that_do_not_fit(last_sr: int, delay: int) -> None:
    a, b = RoundTrip(), RoundTrip()
    a.receive(sender_report(1, ntp=0x0000_AAAA_BBBB_0000), b, 1_000_000_000)
    b.receive(receiver_report(2, 1, last_sr=last_sr, delay=delay), a, 1_080_000_000)
    assert b.rtt_ns == 0
