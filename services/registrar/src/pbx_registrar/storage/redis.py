"""Bindings in Redis.

    reg:b:<aor>   8 octets of version, then the payload; lives a day longer than the last binding
    reg:due       sorted set: addresses-of-record by their first expiry, Unix milliseconds
    reg:aors      sorted set, all scores 0: addresses-of-record in order, for pages
    reg:revision  how many changes were told so far
    reg:changes   channel: changes as they happen, each with its revision, for watchers and followers

One script compares the version and writes record, indices and outbox; nothing of it can be seen half done.
"""

from __future__ import annotations

import os
from typing import Any, Final

from pbx_registrar.storage.base import Done, Record, Write
from pbx_runtime.errors import ServiceError
from pbx_runtime.redis_pipe import PipelinedRedis
from pbx_runtime.redis_script import Script

DUE_KEY: Final = "reg:due"
INDEX_KEY: Final = "reg:aors"
REVISION_KEY: Final = "reg:revision"
CHANGES_CHANNEL: Final = "reg:changes"
OUTBOX_KEY: Final = "evt:outbox"
VERSION_OCTETS: Final = 8
TIMEOUT_S: Final = 2.0
"""A Redis that takes longer hangs; signaling waits 3 s for an answer, and must get the error rather than silence."""
GRACE_MS: Final = 24 * 3600 * 1000
"""How long a record outlives its last binding: the expiry loop must find it to tell of the end, even after a night
without a registrar."""

WRITE: Final = Script("""
local old = redis.call('GET', KEYS[1])
local version = old and string.sub(old, 1, 8) or ''
if version ~= ARGV[1] then return old or '' end
local aor = ARGV[4]
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], aor)
  redis.call('ZREM', KEYS[3], aor)
else
  redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3])
  redis.call('ZADD', KEYS[2], ARGV[5], aor)
  if not old then redis.call('ZADD', KEYS[3], 0, aor) end
end
local last_event = 6 + tonumber(ARGV[6])
for i = 7, last_event do redis.call('XADD', KEYS[4], '*', 'e', ARGV[i]) end
for i = last_event + 1, #ARGV do
  local revision, field = redis.call('INCR', KEYS[6]), '\\24'
  while revision >= 128 do
    field = field .. string.char(revision % 128 + 128)
    revision = math.floor(revision / 128)
  end
  redis.call('PUBLISH', KEYS[5], ARGV[i] .. field .. string.char(revision))
end
return 1
""")
"""KEYS: record, due, index, outbox, channel, revision. ARGV: version expected, value, its end, aor, first expiry,
number of events, events, notices. Answers 1, or the record where its version is another one. To each notice (a
WatchResponse) it adds field 3, its revision, as a varint: it is known only here."""


class RedisBindings:
    """`BindingStore` over the pipelined connection."""

    def __init__(self, redis: PipelinedRedis) -> None:
        self._redis = redis
        redis.register(WRITE)

    def read(self, aor: str, done: Done[Record]) -> None:
        """See `BindingStore`."""

        def answer(reply: Any, error: ServiceError | None) -> None:
            done(None, error) if error is not None else done(_record(reply), None)

        self._redis.submit("GET", _key(aor), callback=answer, timeout_s=TIMEOUT_S)

    def write(self, write: Write, done: Done[Record]) -> None:
        """See `BindingStore`."""

        def answer(reply: Any, error: ServiceError | None) -> None:
            if error is not None:
                done(None, error)
            else:
                done(None if reply == 1 else _record(reply), None)

        value = os.urandom(VERSION_OCTETS) + write.payload if write.payload else b""
        self._redis.evaluate(
            WRITE,
            (_key(write.aor), DUE_KEY, INDEX_KEY, OUTBOX_KEY, CHANGES_CHANNEL, REVISION_KEY),
            (
                write.expected,
                value,
                write.last_expiry_ms + GRACE_MS,
                write.aor,
                write.first_expiry_ms,
                len(write.events),
                *write.events,
                *write.notices,
            ),
            callback=answer,
            timeout_s=TIMEOUT_S,
        )

    def due(self, now_ms: int, limit: int, done: Done[list[str]]) -> None:
        """See `BindingStore`."""

        def answer(reply: Any, error: ServiceError | None) -> None:
            done(None, error) if error is not None else done([aor.decode() for aor in reply], None)

        self._redis.submit(
            "ZRANGEBYSCORE", DUE_KEY, "-inf", now_ms, "LIMIT", 0, limit, callback=answer, timeout_s=TIMEOUT_S
        )

    def page(self, after: str, limit: int, done: Done[list[tuple[str, bytes]]]) -> None:
        """See `BindingStore`."""

        def answer(reply: Any, error: ServiceError | None) -> None:
            if error is not None or not reply:
                done(None if error is not None else [], error)
            else:
                self._payloads([aor.decode() for aor in reply], done)

        first = f"({after}" if after else "-"
        self._redis.submit(
            "ZRANGEBYLEX", INDEX_KEY, first, "+", "LIMIT", 0, limit, callback=answer, timeout_s=TIMEOUT_S
        )

    def _payloads(self, aors: list[str], done: Done[list[tuple[str, bytes]]]) -> None:
        def answer(reply: Any, error: ServiceError | None) -> None:
            if error is not None:
                done(None, error)
            else:
                done([(aor, _record(value).payload) for aor, value in zip(aors, reply, strict=True)], None)

        self._redis.submit("MGET", *(_key(aor) for aor in aors), callback=answer, timeout_s=TIMEOUT_S)

    def count(self, done: Done[int]) -> None:
        """See `BindingStore`."""
        self._redis.submit("ZCARD", INDEX_KEY, callback=done, timeout_s=TIMEOUT_S)


def _key(aor: str) -> str:
    return f"reg:b:{aor}"


def _record(value: bytes | None) -> Record:
    return Record(value[:VERSION_OCTETS], value[VERSION_OCTETS:]) if value else Record()
