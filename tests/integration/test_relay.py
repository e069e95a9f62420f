"""The relay process as signaling sees it: real gRPC, real Redis, real RTP, real signals."""

from __future__ import annotations

import asyncio
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from pbx.relay.v1 import relay_pb2 as pb
from pbx.relay.v1 import relay_pb2_grpc
from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.rtp import header
from support.ports import free_port
from support.redis_server import RedisServer, redis_server
from support.relay_process import RelayProcess, endpoint, instance, local, relay_process
from support.relay_rig import Phone, rtp_packet
from support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("relay")]
A, B = pb.SIDE_A, pb.SIDE_B
RESTART_S = 10


def _port_first(relay: RelayProcess) -> int:
    lease = relay.lease()
    return lease.status.port_first if lease else 0


@pytest.fixture
def relay(redis: RedisServer) -> Iterator[RelayProcess]:
    with relay_process(redis) as process:
        yield process


@pytest.fixture
def phones() -> Iterator[tuple[Phone, Phone]]:
    a, b = Phone("127.0.0.1"), Phone("127.0.0.1")
    yield a, b
    a.close()
    b.close()


async def test_a_call_over_the_session_stream(relay: RelayProcess, phones: tuple[Phone, Phone]) -> None:
    a, b = phones
    async with instance(relay) as signaling:
        allocate = pb.AllocateRequest(call_id="c1", endpoints=[endpoint(A, a)])
        allocated = (await signaling.ask(allocate=allocate)).allocate
        assert list(allocated.hosts) == ["127.0.0.1", "::1"]
        assert (await signaling.ask(allocate=allocate)).allocate == allocated
        update = pb.UpdateRequest(call_id="c1", endpoints=[endpoint(B, b)])
        assert (await signaling.ask(update=update)).HasField("update")
        a.rtp.send(rtp_packet(1), local(allocated, A))
        assert await b.rtp.receive() == (rtp_packet(1), local(allocated, B))
        b.rtp.send(rtp_packet(9, ssrc=5), local(allocated, B))
        assert await a.rtp.receive() == (rtp_packet(9, ssrc=5), local(allocated, A))
        event = await signaling.heard("first_packet")
        assert (event.call_id, event.first_packet.side) == ("c1", A)
        (call,) = (await signaling.ask(query=pb.QueryRequest(call_id="c1"))).query.calls
        assert (call.instance_id, [stream.packets for stream in call.streams]) == ("s1", [1, 1])
        released = (await signaling.ask(release=pb.ReleaseRequest(call_id="c1"))).release
        assert [stream.source for stream in released.streams] == [str(a.rtp.endpoint), str(b.rtp.endpoint)]
        assert not (await signaling.ask(release=pb.ReleaseRequest(call_id="c1"))).release.streams
        assert signaling.statuses[0].slots_total == 100


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ({"update": pb.UpdateRequest(call_id="nope")}, pb.ERROR_CODE_UNKNOWN_CALL),
        ({"query": pb.QueryRequest(call_id="nope")}, pb.ERROR_CODE_UNKNOWN_CALL),
        ({"allocate": pb.AllocateRequest()}, pb.ERROR_CODE_INVALID_ARGUMENT),
        (
            {
                "allocate": pb.AllocateRequest(
                    call_id="x",
                    endpoints=[pb.StreamEndpoint(media=1, rtp=pb.Address(host="192.0.2.1", port=4000))],
                )
            },
            pb.ERROR_CODE_INVALID_ARGUMENT,
        ),
        ({}, pb.ERROR_CODE_INVALID_ARGUMENT),
    ],
)
async def test_errors_are_results(relay: RelayProcess, command: dict[str, object], code: int) -> None:
    async with instance(relay) as signaling:
        assert (await signaling.ask(**command)).error.code == code


@pytest.mark.parametrize(
    "bad",
    [
        pb.StreamEndpoint(side=B, media=1, rtp=pb.Address(host="pbx.example", port=4000)),
        pb.StreamEndpoint(side=B, media=1, rtp=pb.Address(host="0.0.0.0", port=4000)),
        pb.StreamEndpoint(side=B, media=1, rtp=pb.Address(host="fe80::1%eth0", port=4000)),
        pb.StreamEndpoint(side=B, media=1, rtp=pb.Address(host="192.0.2.1", port=65536)),
        pb.StreamEndpoint(
            side=B, media=1, rtp=pb.Address(host="192.0.2.1", port=4), rtcp=pb.Address(host="239.1.1.1", port=5)
        ),
    ],
)
async def test_a_bad_endpoint_is_refused_by_itself(relay: RelayProcess, bad: pb.StreamEndpoint) -> None:
    async with instance(relay) as signaling:
        good = pb.StreamEndpoint(side=A, media=1, rtp=pb.Address(host="192.0.2.1", port=4000))
        taken = (await signaling.ask(allocate=pb.AllocateRequest(call_id="b1", endpoints=[bad, good]))).allocate
        assert taken.slot
        assert [(one.side, one.media) for one in taken.refused] == [(B, 1)]
        updated = (await signaling.ask(update=pb.UpdateRequest(call_id="b1", endpoints=[good, bad]))).update
        assert len(updated.refused) == 1
        assert updated.refused[0].detail
        fine = pb.StreamEndpoint(side=B, media=1, rtp=pb.Address(host="192.0.2.2", port=4000))
        assert not (await signaling.ask(update=pb.UpdateRequest(call_id="b1", endpoints=[fine]))).update.refused
        streams = (await signaling.ask(release=pb.ReleaseRequest(call_id="b1"))).release.streams
        assert {stream.side for stream in streams} == {A, B}


async def test_a_stream_without_a_hello_is_refused(relay: RelayProcess) -> None:
    async with instance(relay, instance_id="") as signaling:
        stream = signaling.open_session()
        await stream.write(pb.SessionRequest())
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stream.read()
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_unary_twins_watch_and_status(relay: RelayProcess, phones: tuple[Phone, Phone]) -> None:
    a, _ = phones
    async with instance(relay, instance_id="tool") as tool:
        watch = tool.stub.Watch(pb.WatchRequest())
        allocated = await tool.stub.Allocate(pb.AllocateRequest(call_id="c1", endpoints=[endpoint(A, a)]))
        a.rtp.send(rtp_packet(1), local(allocated, A))
        event = (await asyncio.wait_for(watch.read(), 5)).event
        assert event.first_packet.source.port == a.rtp.endpoint.port
        status = await tool.stub.GetStatus(pb.GetStatusRequest())
        assert (status.calls, status.status.state) == (1, pb.RELAY_STATE_READY)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await tool.stub.Update(pb.UpdateRequest(call_id="nope"))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        await tool.stub.Release(pb.ReleaseRequest(call_id="c1"))
        watch.cancel()


async def test_sigterm_drains_and_ends_when_empty(relay: RelayProcess, phones: tuple[Phone, Phone]) -> None:
    a, b = phones
    async with instance(relay) as signaling:
        allocate = pb.AllocateRequest(call_id="c1", endpoints=[endpoint(A, a), endpoint(B, b)])
        allocated = (await signaling.ask(allocate=allocate)).allocate
        relay.send(signal.SIGTERM)
        await signaling.heard("draining")
        refused = await signaling.ask(allocate=pb.AllocateRequest(call_id="c2"))
        assert refused.error.code == pb.ERROR_CODE_DRAINING
        lease = await asyncio.to_thread(relay.lease)
        assert lease is not None
        assert lease.status.state == pb.RELAY_STATE_DRAINING
        a.rtp.send(rtp_packet(1), local(allocated, A))
        assert (await b.rtp.receive())[0] == rtp_packet(1)
        await signaling.ask(release=pb.ReleaseRequest(call_id="c1"))
    assert await asyncio.to_thread(relay.wait) == 0
    assert relay.lease() is None
    assert "call dropped" not in relay.log


async def test_the_deadline_of_a_drain_names_the_dropped_calls(redis: RedisServer) -> None:
    with relay_process(redis, shutdown_s=5) as relay:
        async with instance(relay) as signaling:
            await signaling.ask(allocate=pb.AllocateRequest(call_id="stubborn"))
            relay.send(signal.SIGTERM)
            assert await asyncio.to_thread(relay.wait) == 0
        assert '"call_id":"stubborn","event":"call dropped' in relay.log


async def test_without_redis_it_goes_on_relaying(phones: tuple[Phone, Phone]) -> None:
    a, b = phones
    with redis_server() as own, relay_process(own) as relay:
        async with instance(relay) as signaling:
            own.kill()
            allocate = pb.AllocateRequest(call_id="c1", endpoints=[endpoint(A, a), endpoint(B, b)])
            allocated = (await signaling.ask(allocate=allocate)).allocate
            a.rtp.send(rtp_packet(1), local(allocated, A))
            assert (await b.rtp.receive())[0] == rtp_packet(1)
            own.start()
            until(relay.lease, timeout_s=10, what="lease written again")


def test_a_wildcard_needs_an_advertised_address(redis: RedisServer) -> None:
    relay = RelayProcess(redis, environment={"PBX_RELAY_BIND": "0.0.0.0"})
    with pytest.raises(AssertionError, match="PBX_RELAY_ADVERTISE is needed"):
        relay.start()
    assert relay.wait() == 2


async def test_killed_and_started_again_it_relays_the_same_calls(
    redis: RedisServer, phones: tuple[Phone, Phone]
) -> None:
    a, b = phones
    with relay_process(redis) as relay:
        async with instance(relay) as signaling:
            allocate = pb.AllocateRequest(call_id="c1", endpoints=[endpoint(A, a), endpoint(B, b)])
            allocated = (await signaling.ask(allocate=allocate)).allocate
        relay.send(signal.SIGKILL)
        relay.wait()
        await asyncio.to_thread(relay.start)
        async with instance(relay) as signaling:
            assert (await signaling.ask(allocate=allocate)).allocate == allocated
            a.rtp.send(rtp_packet(1), local(allocated, A))
            assert await b.rtp.receive() == (rtp_packet(1), local(allocated, B))


async def test_killed_in_mid_stream_native_is_back_and_the_gap_is_told(
    redis: RedisServer, phones: tuple[Phone, Phone]
) -> None:
    """A stream of 20 ms packets goes on while the relay is killed and started again: only its gap is missing."""
    a, b = phones
    with relay_process(redis, datapath="native") as relay:
        async with instance(relay) as signaling:
            allocate = pb.AllocateRequest(call_id="c1", endpoints=[endpoint(A, a), endpoint(B, b)])
            allocated = (await signaling.ask(allocate=allocate)).allocate
        talking = asyncio.create_task(_talk_on(a, local(allocated, A)))
        assert (await b.rtp.receive())[1] == local(allocated, B)
        relay.send(signal.SIGKILL)
        killed = time.monotonic()
        relay.wait()
        starting = asyncio.create_task(asyncio.to_thread(relay.start))
        try:
            before, after = await _gap(b, killed)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{relay.log}") from error
        print(f"back {time.monotonic() - killed:.2f} s after the kill, {after - before - 1} packets of 20 ms lost")
        await starting
        for sequence in range(after + 1, after + 11):
            packet, _ = await b.rtp.receive()
            assert header(packet).sequence == sequence
        talking.cancel()
        assert time.monotonic() - killed < RESTART_S, "back within seconds, on a busy machine too"


async def _talk_on(phone: Phone, to: Endpoint) -> None:
    sequence = 0
    while True:
        phone.rtp.send(rtp_packet(sequence := sequence + 1), to)
        await asyncio.sleep(0.02)


async def _gap(phone: Phone, killed: float) -> tuple[int, int]:
    """Sequence numbers of the last packet before the gap and of the first after it."""
    last = 0
    while True:
        try:
            packet, _ = await phone.rtp.receive()
        except TimeoutError:
            assert time.monotonic() - killed < RESTART_S, "it never came back"
            continue
        if header(packet).sequence > last + 5:
            return last, header(packet).sequence
        last = header(packet).sequence


async def test_the_shard_changes_without_touching_live_calls(
    redis: RedisServer, phones: tuple[Phone, Phone], tmp_path: Path
) -> None:
    a, b = phones
    file = tmp_path / "shard"
    with relay_process(redis, environment={"PBX_RELAY_SHARD_FILE": str(file)}) as relay:
        async with instance(relay) as signaling:
            allocate = pb.AllocateRequest(call_id="c1", endpoints=[endpoint(A, a), endpoint(B, b)])
            allocated = (await signaling.ask(allocate=allocate)).allocate
            file.write_text("61000-61799")
            until(lambda: _port_first(relay) == 61000, timeout_s=10, what="new shard")
            other = (await signaling.ask(allocate=pb.AllocateRequest(call_id="c2"))).allocate
            assert 61000 <= other.slot * 8 < 61800
            a.rtp.send(rtp_packet(1), local(allocated, A))
            assert await b.rtp.receive() == (rtp_packet(1), local(allocated, B))


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


async def test_readiness_is_an_echo_and_red_from_the_first_moment_of_a_drain(redis: RedisServer) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {"PBX_HTTP_LISTEN": f"127.0.0.1:{port}", "PBX_RELAY_PROBE_S": "1"}
    with relay_process(redis, environment=environment) as relay:
        until(lambda: _status(f"{url}/readyz") == 200, timeout_s=10, what="the echo is heard")
        async with instance(relay) as signaling:
            await signaling.ask(allocate=pb.AllocateRequest(call_id="kept"))
            await asyncio.to_thread(_drain, relay)
            until(lambda: _status(f"{url}/readyz") == 503, timeout_s=5, what="red while it drains")
            assert _status(f"{url}/healthz") == 200, "a call is up: nobody may kill it"
            await signaling.ask(release=pb.ReleaseRequest(call_id="kept"))


def _drain(relay: RelayProcess) -> None:
    lease = relay.lease()
    assert lease is not None
    with grpc.insecure_channel(lease.grpc_address) as channel:
        relay_pb2_grpc.RelayServiceStub(channel).Drain(pb.DrainRequest(deadline_s=30), timeout=5)
