"""The small values of the runtime: errors, trace context, back-off, clocks, Redis URLs, scripts."""

from __future__ import annotations

import hashlib

import pytest
from ulid import ULID

from pbx_runtime import errors
from pbx_runtime.backoff import Backoff
from pbx_runtime.clock import ManualClock, SystemClock
from pbx_runtime.redis_script import Script
from pbx_runtime.redis_url import RedisUrl, parse_redis_url
from pbx_runtime.trace import Traceparent, call_traceparent, new_traceparent, parse_traceparent

HEADER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_map_errors_takes_the_first_class_that_matches_and_keeps_the_cause() -> None:
    low = ConnectionRefusedError("no")
    with pytest.raises(errors.Unavailable, match="ConnectionRefusedError: no") as caught:  # noqa: SIM117
        with errors.map_errors({ConnectionError: errors.Unavailable, OSError: errors.Internal}):
            raise low
    assert caught.value.__cause__ is low


def test_map_errors_lets_the_rest_pass() -> None:
    with pytest.raises(KeyError), errors.map_errors({OSError: errors.Internal}):
        raise KeyError("x")


def test_an_error_without_a_detail_says_its_kind() -> None:
    assert str(errors.NotFound()) == "NotFound"
    assert errors.DeadlineExceeded("late").detail == "late"
    assert isinstance(errors.DeadlineExceeded(), errors.Unavailable)


def test_the_trace_of_a_call_is_its_ulid_and_the_span_that_of_the_event() -> None:
    call, event = ULID(), ULID()
    trace = parse_traceparent(call_traceparent(str(call), str(event)))
    assert trace == Traceparent(call.hex, event.hex[16:])


@pytest.mark.parametrize("call_id", ["", "tones", "8" + "Z" * 25, "0" * 25 + "U", "0" * 25 + "-"])
def test_what_is_no_ulid_has_no_trace(call_id: str) -> None:
    assert call_traceparent(call_id, str(ULID())) == ""
    assert call_id == "" or call_traceparent(str(ULID()), call_id[:25]) == ""


def test_traceparent_reads_what_it_writes() -> None:
    trace = parse_traceparent(HEADER)
    assert trace == Traceparent("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True)
    assert str(trace) == HEADER
    fresh = new_traceparent(sampled=False)
    assert parse_traceparent(str(fresh)) == fresh


def test_a_child_stays_in_its_trace() -> None:
    parent = new_traceparent()
    child = parent.child()
    assert child.trace_id == parent.trace_id
    assert child.span_id != parent.span_id


def test_a_later_version_is_read_by_its_first_four_fields() -> None:
    assert parse_traceparent("01" + HEADER[2:] + "-more") is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        HEADER.upper(),
        HEADER + "-more",
        "ff" + HEADER[2:],
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
        HEADER[:-1],
    ],
)
def test_what_is_no_traceparent(text: str) -> None:
    assert parse_traceparent(text) is None


def test_backoff_grows_to_its_limit_and_starts_again() -> None:
    backoff = Backoff(first_s=0.1, most_s=1.0, uniform=lambda low, high: 1.0)
    assert [round(backoff.next(), 3) for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    backoff.reset()
    assert backoff.next() == pytest.approx(0.1)


def test_backoff_after_very_many_failures_is_still_a_number() -> None:
    backoff = Backoff(uniform=lambda low, high: high)
    assert max(backoff.next() for _ in range(5000)) == pytest.approx(6.0)


def test_clocks() -> None:
    clock = ManualClock()
    before = (clock.now(), clock.epoch_ms())
    clock.advance(1.5)
    assert (clock.now() - before[0], clock.epoch_ms() - before[1]) == (1.5, 1500)
    system = SystemClock()
    assert system.now() <= system.now()
    assert system.epoch_ms() > 1_600_000_000_000


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("redis://h:1/2", RedisUrl("h", 1, db=2)),
        ("redis://h", RedisUrl("h", 6379)),
        ("rediss://u:p%40@h:7", RedisUrl("h", 7, tls=True, user="u", password="p@")),
        ("redis://:p@[::1]:7/0", RedisUrl("::1", 7, password="p")),
        ("redis://h?db=4", RedisUrl("h", 6379, db=4)),
        ("unix:///run/r.sock", RedisUrl("", 0, path="/run/r.sock")),
        ("unix://:p@/run/r.sock?db=3", RedisUrl("", 0, path="/run/r.sock", db=3, password="p")),
        ("redis+sentinel://a,b:7/pbx", RedisUrl("", 0, sentinels=(("a", 26379), ("b", 7)), name="pbx")),
        (
            "redis+sentinel://u:p%40@[::1]:7,[fd00::1]/pbx/2?sentinel_password=s",
            RedisUrl(
                *("", 0, "", 2, False, "u", "p@"),
                sentinels=(("::1", 7), ("fd00::1", 26379)),
                name="pbx",
                sentinel_password="s",
            ),
        ),
    ],
)
def test_redis_urls(url: str, parsed: RedisUrl) -> None:
    assert parse_redis_url(url) == parsed


@pytest.mark.parametrize(
    "url",
    [
        *("", "http://h", "redis://", "unix://", "redis://h:x/0", "redis://h/zero", "unix:///p?db=x"),
        *("redis+sentinel://h/", "redis+sentinel:///pbx", "redis+sentinel://h:x/pbx", "redis+sentinel://h/pbx/zero"),
    ],
)
def test_what_is_no_redis_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="Redis URL"):
        parse_redis_url(url)


def test_a_redis_url_never_shows_its_password() -> None:
    parsed = parse_redis_url("redis://user:hunter2@h:1/0")
    assert "hunter2" not in repr(parsed) + str(parsed)


def test_a_script_is_named_by_its_hash() -> None:
    script = Script("return 1")
    assert script.sha == hashlib.sha1(b"return 1").hexdigest()
    assert script.command(["k"], [1, b"a"]) == ("EVALSHA", script.sha, 1, "k", 1, b"a")
