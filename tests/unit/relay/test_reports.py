"""Media figures on their way to the outbox: each once, also where Redis is away or does not say what it did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pbx.events.v1 import events_pb2
from pbx.media.v1 import media_pb2
from pbx_media_relay import reports as module
from pbx_media_relay.civil import CivilTime
from pbx_media_relay.counters import StreamReport
from pbx_media_relay.datapath.base import ZEROS, Counters
from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.forward import Medium, Side
from pbx_media_relay.reports import Reports
from pbx_media_relay.session import Call, Terms
from pbx_media_relay.stream import Stream
from pbx_runtime.errors import ServiceError, Unavailable
from support.eventually import eventually

CIVIL = CivilTime(lambda: 0, lambda: 1_700_000_000_000_000_000)
MS = 1_000_000


class Stored:
    """A Redis that stores, refuses, or stores and does not say so."""

    def __init__(self) -> None:
        self.events: list[events_pb2.Event] = []
        self.writes: list[int] = []
        self.is_away = False
        self.is_silent = False

    def transaction(self, commands: Any, callback: Callable[[object, ServiceError | None], None]) -> None:
        loop = asyncio.get_running_loop()
        if self.is_away:
            loop.call_soon(callback, None, Unavailable("away"))
            return
        assert all(command[:3] == ("XADD", "evt:outbox", "*") for command in commands)
        self.events += [events_pb2.Event.FromString(command[4]) for command in commands]
        self.writes.append(len(commands))
        loop.call_soon(callback, [b"1-1"], Unavailable("no reply in time") if self.is_silent else None)

    @property
    def calls(self) -> list[str]:
        return [event.call_id for event in self.events]


def call(name: str) -> Call:
    return Call(name, 3750, "s1", Terms(0), 1_000 * MS)


async def test_a_report_says_what_flowed_and_where() -> None:
    redis = Stored()
    made = Reports(redis, "r1", "media-relay/r1", CIVIL)
    stream = Stream(Side.A, Medium.AUDIO, rtp=Endpoint("192.0.2.1", 4000))
    counters = Counters(packets=500, bytes=86_000, lost=3, payload_type=0, source=Endpoint("2001:db8::1", 4002))
    made.report(call("01CALL"), [StreamReport(stream, counters)], 13_500 * MS)
    await eventually(lambda: not len(made))
    (event,) = redis.events
    assert (event.call_id, event.sequence, event.source) == ("01CALL", 0, "media-relay/r1")
    media = event.media_reported
    assert (media.relay_id, media.held_ms) == ("r1", 12_500)
    (found,) = media.streams
    assert (found.side, found.media) == (media_pb2.SIDE_CALLER, media_pb2.MEDIUM_AUDIO)
    assert (found.packets, found.bytes, found.packets_lost, found.source) == (500, 86_000, 3, "[2001:db8::1]:4002")
    assert not found.HasField("mos"), "not measured"


async def test_a_call_without_endpoints_is_reported_too() -> None:
    redis = Stored()
    made = Reports(redis, "r1", "media-relay/r1", CIVIL)
    made.report(call("01EMPTY"), [], 0)
    await eventually(lambda: not len(made))
    assert redis.events[0].media_reported.relay_id == "r1"


async def test_reports_of_a_moment_are_one_write() -> None:
    redis = Stored()
    made = Reports(redis, "r1", "media-relay/r1", CIVIL)
    for number in range(50):
        made.report(call(str(number)), [StreamReport(Stream(Side.A, Medium.AUDIO), ZEROS)], 0)
    await eventually(lambda: not len(made))
    assert redis.writes == [50]
    assert redis.calls == [str(number) for number in range(50)]
    assert made.written == 50


async def test_what_redis_did_not_take_is_written_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    redis = Stored()
    redis.is_away = True
    made = Reports(redis, "r1", "media-relay/r1", CIVIL)
    made.report(call("first"), [], 0)
    await eventually(lambda: made._failing)
    made.report(call("second"), [], 0)
    redis.is_away = False
    await eventually(lambda: not len(made))
    assert redis.calls == ["first", "second"]
    assert (made.written, made.dropped) == (2, 0)


async def test_what_redis_took_without_saying_so_is_written_again_under_the_same_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    redis = Stored()
    redis.is_silent = True
    made = Reports(redis, "r1", "media-relay/r1", CIVIL)
    made.report(call("01CALL"), [], 0)
    await eventually(lambda: len(redis.events) >= 2)
    redis.is_silent = False
    await eventually(lambda: not len(made))
    assert len({event.id for event in redis.events}) == 1


async def test_the_oldest_go_where_redis_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_MAX", 3)
    redis = Stored()
    redis.is_away = True
    made = Reports(redis, "r1", "media-relay/r1", CIVIL)
    for number in range(5):
        made.report(call(str(number)), [], 0)
    await eventually(lambda: made._failing)
    assert (len(made), made.dropped) == (3, 2)
    redis.is_away = False
    assert await made.flush(5.0)
    assert redis.calls == ["2", "3", "4"]


async def test_the_end_waits_for_redis_and_not_for_ever() -> None:
    redis = Stored()
    made = Reports(redis, "r1", "media-relay/r1", CIVIL)
    assert await made.flush(1.0), "nothing to write"
    made.report(call("last"), [], 0)
    assert await made.flush(5.0)
    redis.is_away = True
    made.report(call("lost"), [], 0)
    assert not await made.flush(0.05)
    made.close()
