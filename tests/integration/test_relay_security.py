"""RTP bleed and injection, played against the running relay: what an attacker who knows the ports can get."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from pbx.relay.v1 import relay_pb2 as pb
from pbx_media_relay.datapath.select import FACTORIES as SELECTABLE
from pbx_media_relay.endpoint import Endpoint
from support.datapaths import FACTORIES, Unsupported
from support.redis_server import redis_server
from support.relay_process import Instance, RelayProcess, endpoint, instance, local, relay_process
from support.relay_rig import Phone, Socket, receiver_report, rtp_packet

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("relay")]
A, B = pb.SIDE_A, pb.SIDE_B


@pytest.fixture(scope="module", params=[name for name in FACTORIES if name in SELECTABLE])
def relay(request: pytest.FixtureRequest) -> Iterator[RelayProcess]:
    """The attacks are played against every datapath."""
    try:
        FACTORIES[request.param]().close()  # what it leaves open would be the next test's: a namespace, ports
    except Unsupported as missing:
        pytest.skip(str(missing))
    with redis_server() as redis, relay_process(redis, datapath=request.param) as process:
        assert (lease := process.lease()) is not None
        assert lease.status.datapath == request.param
        yield process


async def statistics(signaling: Instance, call_id: str) -> dict[int, pb.StreamStatistics]:
    (call,) = (await signaling.ask(query=pb.QueryRequest(call_id=call_id))).query.calls
    return {stream.side: stream for stream in call.streams}


async def talk(a: Phone, b: Phone, to_a: Endpoint, to_b: Endpoint) -> None:
    a.rtp.send(rtp_packet(1, ssrc=1), to_a)
    assert (await b.rtp.receive())[0] == rtp_packet(1, ssrc=1)
    b.rtp.send(rtp_packet(1, ssrc=2), to_b)
    assert (await a.rtp.receive())[0] == rtp_packet(1, ssrc=2)


async def test_a_sprayer_gets_no_media_and_puts_none_in(relay: RelayProcess) -> None:
    """RTP bleed: who sends to every port of the shard must not be sent a call's audio, before or after the
    latch."""
    a, b, attacker = Phone("127.0.0.1"), Phone("127.0.0.1"), Socket("127.0.0.9")
    async with instance(relay) as signaling:
        allocate = pb.AllocateRequest(call_id="bleed", endpoints=[endpoint(A, a), endpoint(B, b)])
        allocated = (await signaling.ask(allocate=allocate)).allocate
        to_a, to_b = local(allocated, A), local(allocated, B)
        for sequence in range(20):
            for ports in allocated.ports:
                attacker.send(rtp_packet(sequence * 7, ssrc=0xBAD + sequence), Endpoint("127.0.0.1", ports.rtp_port))
                attacker.send(receiver_report(1, 2), Endpoint("127.0.0.1", ports.rtcp_port))
        await talk(a, b, to_a, to_b)
        for sequence in range(50):
            attacker.send(rtp_packet(2 + sequence, ssrc=1), to_a)
            attacker.send(rtp_packet(2 + sequence, ssrc=2), to_b)
        await talk(a, b, to_a, to_b)
        assert await attacker.nothing()
        streams = await statistics(signaling, "bleed")
        for stream in streams.values():
            assert stream.packets == 2
            assert stream.dropped_source >= 50
        assert streams[A].source == str(a.rtp.endpoint)
        await signaling.ask(release=pb.ReleaseRequest(call_id="bleed"))
    for sock in (a, b, attacker):
        sock.close()  # type: ignore[attr-defined]


async def test_a_latched_phone_behind_nat_cannot_be_replaced(relay: RelayProcess) -> None:
    """The phone's private address is useless; its SIP came from 127.0.0.2, so nobody else is latched,
    ever."""
    announced, b = Phone("127.0.0.1"), Phone("127.0.0.1")
    nat, attacker = Socket("127.0.0.2"), Socket("127.0.0.9")
    async with instance(relay) as signaling:
        a_side = endpoint(A, announced, signaling_host="127.0.0.2")
        allocate = pb.AllocateRequest(call_id="nat", endpoints=[a_side, endpoint(B, b)])
        allocated = (await signaling.ask(allocate=allocate)).allocate
        for sequence in range(30):
            attacker.send(rtp_packet(sequence), local(allocated, A))
        nat.send(rtp_packet(100, ssrc=1), local(allocated, A))
        assert (await b.rtp.receive())[0] == rtp_packet(100, ssrc=1)
        for sequence in range(30):
            attacker.send(rtp_packet(101 + sequence, ssrc=1), local(allocated, A))
        b.rtp.send(rtp_packet(5), local(allocated, B))
        assert (await nat.receive())[0] == rtp_packet(5)
        assert await attacker.nothing()
        assert await b.rtp.nothing()
        await signaling.ask(release=pb.ReleaseRequest(call_id="nat"))
    for sock in (announced, b, nat, attacker):
        sock.close()  # type: ignore[attr-defined]


async def test_nothing_is_ever_answered_to_a_stranger(relay: RelayProcess) -> None:
    """No amplification: free, resting and taken ports are silent, whatever comes; and the process lives."""
    stranger = Socket("127.0.0.9")
    async with instance(relay) as signaling:
        allocated = (await signaling.ask(allocate=pb.AllocateRequest(call_id="quiet"))).allocate
        ports = [port for pair in allocated.ports for port in (pair.rtp_port, pair.rtcp_port)]
        await signaling.ask(release=pb.ReleaseRequest(call_id="quiet"))
        for port in ports:
            for length in (0, 1, 7, 8, 11, 12, 20, 172, 1500, 9000):
                stranger.send(os.urandom(length), Endpoint("127.0.0.1", port))
        await asyncio.sleep(0.1)
        assert await stranger.nothing()
        assert not relay.process_died()
        again = (await signaling.ask(allocate=pb.AllocateRequest(call_id="again"))).allocate
        assert again.slot != allocated.slot
        await signaling.ask(release=pb.ReleaseRequest(call_id="again"))
    stranger.close()
