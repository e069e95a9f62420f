"""A call of two baresip phones is recorded: each channel holds its leg's tone, and the call beside it is as before."""

from __future__ import annotations

import contextlib
import time
import wave
from array import array
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from pbx.relay.v1 import relay_pb2 as pb
from pbx.relay.v1 import relay_pb2_grpc
from support.baresip import Baresip, Line
from support.tone import Sound
from support.waiting import until

if TYPE_CHECKING:
    from support.pair import Pair
    from support.product import Product

pytestmark = pytest.mark.interop
CALLER_HZ, CALLEE_HZ, NEITHER_HZ = 440.0, 1000.0, 700.0
RECORD_S = 20.0
LENGTH_S = 0.05
"""How far the file's length may be from the recording's."""


@contextlib.contextmanager
def talking(pair: Pair, codec: str) -> Iterator[Baresip]:
    """A call that is up; what it ends with is the caller's `hangup`."""
    server, credentials = pair.product.server("udp"), pair.product.credentials
    lines = [
        Line(server, credentials(user), "pbx.local", tone_hz, RECORD_S + 20, codec=codec)
        for user, tone_hz in ((pair.callee, CALLEE_HZ), (pair.caller, CALLER_HZ))
    ]
    with Baresip(lines[0]) as callee, Baresip(lines[1]) as caller:
        pair.wait_registered(pair.callee)
        pair.wait_registered(pair.caller)
        caller.command("dial", f"sip:{pair.callee}@pbx.local")
        callee.wait_for("CALL_INCOMING")
        callee.command("accept")
        caller.wait_for("CALL_ESTABLISHED")
        yield caller
        caller.command("hangup")
        callee.wait_for("CALL_CLOSED")


def relay_of(product: Product) -> relay_pb2_grpc.RelayServiceStub:
    addresses = next(each.addresses for each in product.processes if each.name.startswith("media-relay"))
    return relay_pb2_grpc.RelayServiceStub(grpc.insecure_channel(addresses["grpc"]))


def channels(path: Path) -> tuple[Sound, Sound]:
    with wave.open(str(path)) as file:
        samples, rate = array("h", file.readframes(file.getnframes())), file.getframerate()
    return Sound(tuple(samples[0::2]), rate), Sound(tuple(samples[1::2]), rate)


def flowed(cdr: dict[str, Any]) -> list[dict[str, Any]]:
    return [stream for leg in cdr["legs"] for stream in leg["media"]]


@pytest.mark.parametrize("codec", ["PCMA", "opus/48000/2"])
def test_each_channel_holds_its_legs_tone(pair: Pair, other: Pair, codec: str) -> None:
    stub = relay_of(pair.product)
    with talking(other, "PCMU"), talking(pair, codec):
        (call_id,) = [call["call_id"] for call in pair.product.calls() if call["caller"].startswith(pair.caller)]
        asked = time.monotonic()
        path = Path(stub.StartRecording(pb.StartRecordingRequest(call_id=call_id)).path)
        started = time.monotonic()
        time.sleep(RECORD_S)  # real time passes: this is sound
        stopping = time.monotonic()
        stub.StopRecording(pb.StopRecordingRequest(call_id=call_id))
        stopped = time.monotonic()
        stored = {"type": "recording.stored", "call_id": call_id}
        until(lambda: pair.product.get("/v1/events", **stored)["items"], timeout_s=10, what="recording.stored")
    caller, callee = channels(path)
    assert stopping - started - LENGTH_S < caller.duration_s == callee.duration_s < stopped - asked + LENGTH_S
    for sound, tone_hz, others_hz in ((caller, CALLER_HZ, CALLEE_HZ), (callee, CALLEE_HZ, CALLER_HZ)):
        # In short parts: a phone that was late for a moment goes on in another phase.
        parts = [sound.cut(at / 2, at / 2 + 0.5) for at in range(2, int(RECORD_S) * 2 - 2)]
        assert quantiles([part.share_of(tone_hz) for part in parts], n=10)[0] > 0.9
        middle = sound.cut(1, RECORD_S - 1)
        assert max(middle.share_of(others_hz), middle.share_of(NEITHER_HZ)) < 0.001
    for each in (pair, other):
        streams = flowed(each.cdr(outcome="answered"))
        assert len(streams) == 2
        assert [stream["packets_lost"] for stream in streams] == [0, 0], streams
        each.released()
