"""The authentication ledger in Redis: nonces used, failures counted, refusals to be told. Shared by all replicas.

reg:n:<nonce's count>        used; lives as long as the nonce
reg:f:{p,s,a}:<digest>       failures in the window (pair of source and account, source, account)
reg:w:{p,s,a}:<digest>       until when to wait, Unix milliseconds
reg:r:<source>               hash: failures that were not told yet
reg:refused                  sorted set: sources by when they are to be told

Names that a peer wrote (users, accounts) stand in no key: a keyed digest of 32 digits does, however long they were.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from pbx_registrar.storage.base import Done, Failure, Proof, Refusals
from pbx_registrar.storage.redis import OUTBOX_KEY, TIMEOUT_S
from pbx_registrar.throttle import DRAWERS, REPORT_MS, SOURCES_MAX
from pbx_runtime.errors import ServiceError
from pbx_runtime.redis_pipe import PipelinedRedis
from pbx_runtime.redis_script import Script

REFUSED_KEY: Final = "reg:refused"
DIGEST_OCTETS: Final = 16
REFUSALS_TTL_MS: Final = 3_600_000
"""Untold failures outlive a registrar that is away for a while."""

FAIL: Final = Script("""
local now = tonumber(ARGV[1])
local source = ARGV[2]
if not redis.call('ZSCORE', KEYS[7], source) then
  if redis.call('ZCARD', KEYS[7]) >= tonumber(ARGV[6]) then source = '' end
  redis.call('ZADD', KEYS[7], 'NX', now + tonumber(ARGV[5]), source)
end
local report = 'reg:r:' .. source
redis.call('HINCRBY', report, 'count', 1)
redis.call('HSET', report, 'user', ARGV[3], 'method', ARGV[4])
redis.call('PEXPIRE', report, ARGV[7])
local wait = 0
for i = 1, 3 do
  local until_ms = tonumber(redis.call('GET', KEYS[i + 3]) or 0)
  if i < 3 or redis.call('EXISTS', KEYS[1]) == 1 then wait = math.max(wait, until_ms - now) end
end
if wait > 0 then return wait end
for i = 1, 3 do
  local at = 4 + i * 4
  local failures = redis.call('INCR', KEYS[i])
  if failures == 1 then redis.call('PEXPIRE', KEYS[i], ARGV[at + 1]) end
  local beyond = failures - tonumber(ARGV[at])
  if beyond > 0 then
    local pause = math.min(tonumber(ARGV[at + 2]) * 2 ^ math.min(beyond - 1, 20), tonumber(ARGV[at + 3]))
    redis.call('SET', KEYS[i + 3], string.format('%.0f', now + pause), 'PX', string.format('%.0f', pause))
  end
end
return 0
""")
"""KEYS: failures of pair, source, account; waits of the same; refused. ARGV: now, source, user, method, report period,
most sources, refusals' life; then free, window, first, most of each drawer. Answers the wait that stood before, ms."""

REPORT: Final = Script("""
if redis.call('HGET', KEYS[1], 'count') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('XADD', KEYS[3], '*', 'e', ARGV[3])
return 1
""")
"""KEYS: refusals, refused, outbox. ARGV: the count that the event tells, source, event."""


class RedisLedger:
    """`AuthLedger` over the pipelined connection."""

    def __init__(self, redis: PipelinedRedis, key: bytes) -> None:
        """`key`: a secret that all replicas share, so that a key's digest does not tell whose it is."""
        self._redis = redis
        self._key = key
        for script in (FAIL, REPORT):
            redis.register(script)
        self._drawers = [figure for d in DRAWERS for figure in (d.free, d.window_ms, d.first_ms, d.most_ms)]

    def admit(self, proof: Proof, done: Done[bool]) -> None:
        """See `AuthLedger`."""

        def answer(reply: Any, error: ServiceError | None) -> None:
            done(None if error is not None else reply is not None, error)

        self._redis.submit(
            *("SET", f"reg:n:{proof.nonce}", "", "NX", "PX", proof.lifetime_ms), callback=answer, timeout_s=TIMEOUT_S
        )

    def fail(self, failure: Failure, done: Done[int]) -> None:
        """See `AuthLedger`."""
        source, account = failure.source, failure.account
        names = (
            f"p:{self._digest(f'{source} {account}')}",
            f"s:{self._digest(source)}",
            f"a:{self._digest(account)}",
        )
        keys = [f"reg:{kind}:{name}" for kind in "fw" for name in names]
        args = (failure.now_ms, failure.source, failure.user, failure.method, REPORT_MS, SOURCES_MAX, REFUSALS_TTL_MS)
        self._redis.evaluate(FAIL, (*keys, REFUSED_KEY), (*args, *self._drawers), callback=done, timeout_s=TIMEOUT_S)

    def _digest(self, name: str) -> str:
        octets = name.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(octets, digest_size=DIGEST_OCTETS, key=self._key).hexdigest()

    def unreported(self, now_ms: int, limit: int, done: Done[list[Refusals]]) -> None:
        """See `AuthLedger`."""

        def answer(reply: Any, error: ServiceError | None) -> None:
            if error is not None or not reply:
                done(None if error is not None else [], error)
            else:
                self._refusals([source.decode() for source in reply], done)

        self._redis.submit(
            "ZRANGEBYSCORE", REFUSED_KEY, "-inf", now_ms, "LIMIT", 0, limit, callback=answer, timeout_s=TIMEOUT_S
        )

    def _refusals(self, sources: list[str], done: Done[list[Refusals]]) -> None:
        def answer(reply: Any, error: ServiceError | None) -> None:
            if error is not None:
                done(None, error)
            else:
                done([_refusals(source, fields) for source, fields in zip(sources, reply, strict=True)], None)

        commands = [("HMGET", f"reg:r:{source}", "count", "user", "method") for source in sources]
        self._redis.transaction(commands, answer, timeout_s=TIMEOUT_S)

    def report(self, refusals: Refusals, event: bytes, done: Done[bool]) -> None:
        """See `AuthLedger`."""

        def answer(reply: Any, error: ServiceError | None) -> None:
            done(None if error is not None else reply == 1, error)

        if not refusals.count:  # the counts are gone, the index is not
            self._redis.submit(
                "ZREM", REFUSED_KEY, refusals.source, callback=lambda _, error: done(False, error), timeout_s=TIMEOUT_S
            )
            return
        keys = (f"reg:r:{refusals.source}", REFUSED_KEY, OUTBOX_KEY)
        self._redis.evaluate(
            REPORT, keys, (refusals.count, refusals.source, event), callback=answer, timeout_s=TIMEOUT_S
        )


def _refusals(source: str, fields: list[bytes | None]) -> Refusals:
    count, user, method = fields
    return Refusals(source, int(count or 0), (user or b"").decode(), (method or b"").decode())
