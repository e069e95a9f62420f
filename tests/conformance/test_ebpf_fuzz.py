"""The kernel's program against the oracle: random frames through the kernel's test run, the same verdicts and figures.

No packet leaves: the program answers for one frame what it would do with it. Frames that it hands to user space are
the oracle's alone there, so they are left out of the comparison of figures.
"""

from __future__ import annotations

import errno
import random
import socket
import struct
import time
from collections.abc import AsyncIterator

import pytest

from pbx_media_relay.datapath.base import Counters
from pbx_media_relay.datapath.ebpf import EbpfDatapath
from pbx_media_relay.datapath.python import PythonDatapath
from pbx_media_relay.ebpf import syscall
from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.forward import DropReason, Forward
from support.datapaths import Unsupported, ebpf
from support.relay_rig import Told, receiver_report, rtp_packet, sender_report

NEXT, DROP, REDIRECT = -1, 2, 7
PORT = 42000
HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
TIMES = ("first_packet_ns", "last_packet_ns", "last_rtcp_ns", "gap_max_ns", "jitter_q4", "rtt_ns")


class Oracle(PythonDatapath):
    """The reference without sockets: what it would send is remembered."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1",))
        self.sent: list[tuple[int, Endpoint, bytes]] = []
        self._listener = Told()

    def handle(self, port: int, packet: bytes, source: Endpoint) -> DropReason | None:
        """One datagram; why it was dropped, or nothing."""
        stream = self._by_port[port & ~1]
        refused = self._receive(stream, port, packet, source, time.monotonic_ns())
        if refused is not None:
            stream.drops[refused] += 1
        return refused

    def _send(self, port: int, destination: Endpoint, packet: bytes) -> DropReason | None:
        self.sent.append((port, destination, packet))
        return None


@pytest.fixture
async def kernel() -> AsyncIterator[EbpfDatapath]:
    try:
        made = ebpf()
    except Unsupported as missing:
        pytest.skip(str(missing))
    assert isinstance(made, EbpfDatapath)
    made.start(Told())
    yield made
    for number in (PORT // 2, PORT // 2 + 2):
        made.remove(number)
    made.close()


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) // 2 * 2]))
    total += data[-1] << 8 if len(data) & 1 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo(source: str, to: str, udp: bytes) -> bytes:
    return socket.inet_aton(source) + socket.inet_aton(to) + struct.pack("!HH", 17, len(udp)) + udp


def frame(source: Endpoint, to: Endpoint, payload: bytes) -> bytes:
    """An Ethernet frame with right checksums."""
    udp = struct.pack("!HHHH", source.port, to.port, 8 + len(payload), 0) + payload
    check = ~checksum(pseudo(source.host, to.host, udp)) & 0xFFFF or 0xFFFF
    udp = udp[:6] + check.to_bytes(2, "big") + udp[8:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 7, 0, 64, 17, 0)
    ip += socket.inet_aton(source.host) + socket.inet_aton(to.host)
    ip = ip[:10] + (~checksum(ip) & 0xFFFF).to_bytes(2, "big") + ip[12:]
    return bytes(12) + b"\x08\x00" + ip + udp


def opened(data: bytes) -> tuple[int, Endpoint, bytes]:
    """Source port, destination and payload of a frame whose checksums must be right."""
    ip, udp = data[14:34], data[34:]
    assert checksum(ip) == 0xFFFF, "IP checksum"
    source, to = socket.inet_ntoa(ip[12:16]), socket.inet_ntoa(ip[16:20])
    assert checksum(pseudo(source, to, udp)) == 0xFFFF, "UDP checksum"
    assert source == "127.0.0.1"
    from_port, port = struct.unpack_from("!HH", udp)
    return from_port, Endpoint(to, port), udp[8:]


def forwards(chance: random.Random) -> list[Forward]:
    made = []
    for number, peer, first in ((PORT // 2, PORT // 2 + 2, 50000), (PORT // 2 + 2, PORT // 2, 50010)):
        mux = chance.random() < 0.3
        window = time.monotonic_ns() + 60_000_000_000 if chance.random() < 0.7 else 0
        made.append(
            Forward(
                id=number,
                peer=peer,
                port=number * 2,
                rtp=Endpoint("127.0.0.1", first),
                rtcp=Endpoint("127.0.0.1", first if mux else first + 1),
                rtcp_mux=mux,
                receive=chance.random() < 0.9,
                send=chance.random() < 0.9,
                latch_until_ns=window,
                generation=chance.randrange(2),
                hint_host=chance.choice(["", "", "127.0.0.2"]),
                payload_types=chance.choice([(1 << 128) - 1, 1 << 8 | 1]),
                clock_rate_hz=8000,
            )
        )
    return made


def payload(chance: random.Random) -> bytes:
    kind = chance.randrange(12)
    if kind == 0:
        return chance.randbytes(chance.randrange(60))
    if kind <= 2:
        ntp = chance.randrange(3) << 16
        report = chance.choice([sender_report(1, ntp), receiver_report(2, 1, -5, chance.randrange(3))])
        report += chance.choice([b"", receiver_report(3, 1, 7), b"\x81\xca\x00\x01abcd"])
        return report[: chance.choice([len(report), chance.randrange(len(report) + 1)])]
    sequence = chance.choice([chance.randrange(20), chance.randrange(65516, 65536), chance.randrange(65536)])
    packet = rtp_packet(sequence, ssrc=chance.choice([1, 1, 1, 2]), payload_type=chance.choice([0, 0, 8, 70]))
    return packet if chance.random() < 0.9 else packet[: chance.randrange(len(packet))]


@pytest.mark.parametrize("seed", range(4))
async def test_random_packets_fare_as_with_the_oracle(kernel: EbpfDatapath, seed: int) -> None:
    chance = random.Random(seed)
    oracle = Oracle()
    for step in range(300):
        if step % 60 == 0:
            for forward in forwards(chance):
                kernel.upsert(forward)
                oracle.upsert(forward)
        source = Endpoint(chance.choice(HOSTS), chance.choice([50000, 50001, 50010, 50011, 50020]))
        port = PORT + chance.choice([0, 0, 0, 1, 4, 4, 5])
        body = payload(chance)
        verdict, left = syscall.run_once(kernel._links._program, frame(source, Endpoint("127.0.0.1", port), body))
        refused = oracle.handle(port, body, source)
        if refused is DropReason.MALFORMED:
            assert verdict in (NEXT, DROP)
            continue
        assert verdict == (REDIRECT if refused is None else DROP), (step, source, port, body.hex(), refused)
        if refused is None:
            assert opened(left) == oracle.sent.pop(), step
    numbers = [PORT // 2, PORT // 2 + 2]
    for ours, theirs in zip(kernel.counters(numbers), oracle.counters(numbers), strict=True):
        assert comparable(ours) == comparable(theirs)


def comparable(counters: Counters) -> Counters:
    drops = tuple(0 if reason is DropReason.MALFORMED else counters.drops[reason] for reason in DropReason)
    return counters._replace(drops=drops, **dict.fromkeys(TIMES, 0))


@pytest.mark.parametrize("seed", range(2))
async def test_no_frame_whatever_it_holds_is_more_than_passed_on_or_dropped(kernel: EbpfDatapath, seed: int) -> None:
    chance = random.Random(seed)
    for forward in forwards(chance):
        kernel.upsert(forward)
    whole = frame(Endpoint("127.0.0.1", 50000), Endpoint("127.0.0.1", PORT), rtp_packet(1))
    for _ in range(300):
        data = bytearray(whole[: chance.randrange(14, len(whole) + 1)])
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            verdict, _ = syscall.run_once(kernel._links._program, bytes(data))
        except OSError as error:  # the test run itself refuses frames that are cut within their IP header
            if error.errno != errno.EINVAL:
                raise
            continue
        assert verdict in (NEXT, DROP, REDIRECT)
