"""Recording by the running relay: two tones in, a stereo file out, and the event that tells of it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import wave
from array import array
from collections.abc import Iterator

import grpc
import psutil
import pytest
import redis

from pbx.events.v1 import events_pb2
from pbx.relay.v1 import relay_pb2 as pb
from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.recording.codec import RATE
from pbx_media_relay.rtp import Header, build
from support import procfs
from support.redis_server import RedisServer, redis_server
from support.relay_process import Instance, RelayProcess, endpoint, instance, local, relay_process
from support.relay_rig import Phone
from support.speech import pcmu, strength
from support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("relay")]
A, B = pb.SIDE_A, pb.SIDE_B


@pytest.fixture(scope="module")
def store() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def relay(store: RedisServer) -> Iterator[RelayProcess]:
    with relay_process(store) as process:
        yield process
        print(process.log)  # shown where the test failed


@pytest.fixture
def phones() -> Iterator[tuple[Phone, Phone]]:
    a, b = Phone("127.0.0.1"), Phone("127.0.0.1")
    yield a, b
    a.close()
    b.close()


async def play(phone: Phone, to: Endpoint, frequency: int, frames: int, lost: frozenset[int] = frozenset()) -> None:
    began = time.monotonic()
    for frame in range(frames):
        if frame not in lost:
            phone.rtp.send(build(Header(0, False, frame, frame * 160, frequency), pcmu(frequency, frame)), to)
        await asyncio.sleep(max(0.0, began + (frame + 1) * 0.02 - time.monotonic()))


async def begin(signaling: Instance, phones: tuple[Phone, Phone], call_id: str) -> tuple[Endpoint, Endpoint, str]:
    a, b = phones
    allocate = pb.AllocateRequest(call_id=call_id, endpoints=[endpoint(A, a), endpoint(B, b)])
    allocated = (await signaling.ask(allocate=allocate)).allocate
    path = (await signaling.stub.StartRecording(pb.StartRecordingRequest(call_id=call_id))).path
    assert (await signaling.stub.StartRecording(pb.StartRecordingRequest(call_id=call_id))).path == path
    return local(allocated, A), local(allocated, B), path


def stored_events(store: RedisServer, relay: RelayProcess) -> list[events_pb2.Event]:
    with redis.Redis(unix_socket_path=str(store.socket_path)) as client:
        entries = [events_pb2.Event.FromString(fields[b"e"]) for _, fields in client.xrange("evt:outbox")]
    return [each for each in entries if each.recording_stored.relay_id == relay.relay_id]


def size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


def read(path: str) -> tuple[array[int], array[int]]:
    with wave.open(path) as file:
        assert file.getframerate() == RATE
        samples = array("h", file.readframes(file.getnframes()))
    return samples[0::2], samples[1::2]


async def test_each_channel_holds_its_legs_tone(
    relay: RelayProcess, store: RedisServer, phones: tuple[Phone, Phone]
) -> None:
    a, b = phones
    async with instance(relay) as signaling:
        asked = time.monotonic()
        to_a, to_b, path = await begin(signaling, phones, "tones")
        began = time.monotonic()
        await asyncio.gather(play(a, to_a, 400, 150, lost=frozenset({40, 41, 90})), play(b, to_b, 1000, 150))
        released = (await signaling.ask(release=pb.ReleaseRequest(call_id="tones"))).release
        ended = time.monotonic()
        assert [stream.packets for stream in released.streams] == [147, 150]
        (event,) = until(lambda: stored_events(store, relay), timeout_s=5, what="recording.stored")
    assert (event.call_id, event.recording_stored.path) == ("tones", path)
    left, right = read(path)
    assert len(left) == len(right)
    assert ended - began - 0.05 <= len(left) / RATE <= ended - asked + 0.05
    assert event.recording_stored.duration_ms == pytest.approx(len(left) * 1000 / RATE, abs=1)
    assert event.recording_stored.bytes == size(path)
    assert strength(left[RATE // 2 : 2 * RATE], 400) > 0.8
    assert strength(right[RATE // 2 : 2 * RATE], 1000) > 0.9
    assert strength(left, 1000) < 0.05
    assert strength(right, 400) < 0.05


async def test_a_recording_may_end_before_its_call(
    relay: RelayProcess, store: RedisServer, phones: tuple[Phone, Phone]
) -> None:
    a, _ = phones
    async with instance(relay) as signaling:
        to_a, _, path = await begin(signaling, phones, "../../etc/passwd")
        assert path.startswith(f"{relay.directory}/recordings/")
        assert ".." not in path
        await play(a, to_a, 400, 25)
        await signaling.stub.StopRecording(pb.StopRecordingRequest(call_id="../../etc/passwd"))
        until(lambda: stored_events(store, relay), timeout_s=5, what="recording.stored")
        before = size(path)
        await play(a, to_a, 400, 10)
        assert size(path) == before
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await signaling.stub.StartRecording(pb.StartRecordingRequest(call_id="nope"))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_killed_worker_harms_no_call_and_another_one_comes(
    relay: RelayProcess, phones: tuple[Phone, Phone]
) -> None:
    a, b = phones
    async with instance(relay) as signaling:
        to_a, _, path = await begin(signaling, phones, "first")
        assert relay.process is not None
        (worker,) = psutil.Process(relay.process.pid).children()
        worker.send_signal(signal.SIGKILL)
        await asyncio.to_thread(until, lambda: not procfs.is_alive(worker.pid), timeout_s=10, what="the worker's end")
        await play(a, to_a, 400, 20)
        for _ in range(20):
            await b.rtp.receive()
        again = (await signaling.stub.StartRecording(pb.StartRecordingRequest(call_id="first"))).path
        assert again != path
        await play(a, to_a, 400, 20)
        await signaling.ask(release=pb.ReleaseRequest(call_id="first"))
        await asyncio.to_thread(until, lambda: size(again) > RATE, timeout_s=20, what="the second file")


async def test_the_end_of_the_relay_closes_its_files(relay: RelayProcess, phones: tuple[Phone, Phone]) -> None:
    a, _ = phones
    async with instance(relay) as signaling:
        to_a, _, path = await begin(signaling, phones, "cut")
        await play(a, to_a, 400, 50)
        relay.send(signal.SIGTERM)
        assert await asyncio.to_thread(relay.wait) == 0
    left, _ = read(path)
    assert len(left) >= RATE
    assert strength(left[1600 : RATE - 1600], 400) > 0.8
