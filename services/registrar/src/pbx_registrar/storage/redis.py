"""Bindings in Redis.

    reg:aor:<aor>      hash: "v" the version, any other field a binding's key, its value a serialised Binding
    reg:aors           sorted set, all scores 0: addresses-of-record with bindings, for listing in order
    reg:expiry         sorted set: "<aor> <key>" by expiry in Unix ms
    reg:nc:<nonce>     set of nonce counts that were used

A change is one Lua script: it compares the version, writes bindings, indexes and events, or does nothing. The rules
themselves are Python (`bindings`); a lost race reads and decides again.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from pbx.registrar.v1 import registrar_pb2 as pb
from pbx_registrar.bindings import Binding, FlowValue
from pbx_registrar.storage.base import Change, Stored
from pbx_runtime.redis_pipe import PipelinedRedis
from pbx_runtime.redis_script import Script

AORS: Final = "reg:aors"
EXPIRY: Final = "reg:expiry"
OUTBOX: Final = "evt:outbox"
SLACK_MS: Final = 60_000
"""A hash outlives its last binding this long, so that the expiry loop can tell of it."""

APPLY: Final = Script(
    """
local version = redis.call('HGET', KEYS[1], 'v') or ''
if version ~= ARGV[1] then return 0 end
local aor, puts, removes = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local at = 6
for _ = 1, removes do
  redis.call('HDEL', KEYS[1], ARGV[at])
  redis.call('ZREM', KEYS[3], aor .. ' ' .. ARGV[at])
  at = at + 1
end
local longest = 0
for _ = 1, puts do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  redis.call('ZADD', KEYS[3], ARGV[at + 2], aor .. ' ' .. ARGV[at])
  longest = math.max(longest, tonumber(ARGV[at + 2]))
  at = at + 3
end
for index = at, #ARGV do redis.call('XADD', KEYS[4], '*', 'e', ARGV[index]) end
redis.call('HSET', KEYS[1], 'v', ARGV[2])
if redis.call('HLEN', KEYS[1]) == 1 then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], aor)
else
  redis.call('ZADD', KEYS[2], 0, aor)
  if puts > 0 then
    local left = redis.call('PTTL', KEYS[1])
    local until_ms = longest + 60000 - tonumber(redis.call('TIME')[1]) * 1000
    if until_ms > left then redis.call('PEXPIRE', KEYS[1], until_ms) end
  end
end
return 1
"""
)


class RedisStore:
    """Bindings in Redis, through the pipelined connection."""

    def __init__(self, redis: PipelinedRedis) -> None:
        self._redis = redis
        redis.register(APPLY)

    async def read(self, aor: str) -> Stored:
        """All bindings: one HGETALL."""
        return stored(await self._redis.submit("HGETALL", key_of(aor)))

    async def apply(self, change: Change) -> bool:
        """Applies a change: one script."""
        arguments: list[bytes | str | int | float] = [
            change.version,
            secrets.token_hex(8),
            change.aor,
            len(change.put),
            len(change.remove),
            *change.remove,
        ]
        for key, binding in change.put.items():
            arguments += [key, message_of(binding).SerializeToString(), binding.expires_at_ms]
        arguments += change.events
        keys = (key_of(change.aor), AORS, EXPIRY, OUTBOX)
        return bool(await self._redis.evaluate(APPLY, keys, arguments))

    async def page(self, after: str, size: int) -> tuple[list[str], str]:
        """Addresses-of-record in order."""
        start = f"({after}" if after else "-"
        found = await self._redis.submit("ZRANGEBYLEX", AORS, start, "+", "LIMIT", 0, size + 1)
        names = [name.decode() for name in found]
        return names[:size], names[size - 1] if len(names) > size else ""

    async def expired(self, now_ms: int, limit: int) -> list[tuple[str, str]]:
        """Bindings whose time ran out."""
        found = await self._redis.submit("ZRANGEBYSCORE", EXPIRY, "-inf", now_ms, "LIMIT", 0, limit)
        pairs = [member.decode().partition(" ") for member in found]
        return [(aor, key) for aor, _, key in pairs]

    async def forget(self, aor: str, key: str) -> None:
        """Drops index entries of a binding that is not there any more."""
        self._redis.submit("ZREM", EXPIRY, f"{aor} {key}", callback=_ignore)
        self._redis.submit("ZREM", AORS, aor, callback=_ignore)

    async def first_use(self, nonce: str, count: str, lifetime_s: int) -> bool:
        """Notes a nonce with its count."""
        key = f"reg:nc:{nonce}"
        added, _ = await self._redis.transaction((("SADD", key, count), ("EXPIRE", key, 2 * lifetime_s)))
        return bool(added)


def _ignore(reply: object, error: object) -> None:
    """An index entry that stays is looked at again."""


def key_of(aor: str) -> str:
    """The key of an address-of-record."""
    return f"reg:aor:{aor}"


def stored(reply: list[bytes]) -> Stored:
    """What HGETALL answered, as values."""
    version, bindings = "", {}
    for index in range(0, len(reply), 2):
        field = reply[index].decode()
        if field == "v":
            version = reply[index + 1].decode()
        else:
            bindings[field] = binding_of(pb.Binding.FromString(reply[index + 1]))
    return Stored(version, bindings)


def message_of(binding: Binding) -> pb.Binding:
    """A binding as the contract has it."""
    flow = binding.flow
    return pb.Binding(
        aor=binding.aor,
        uri=binding.uri,
        q_thousandths=binding.q_thousandths,
        expires_at_ms=binding.expires_at_ms,
        flow=pb.Flow(
            transport=pb.Transport.ValueType(flow.transport),
            host=flow.host,
            port=flow.port,
            instance_id=flow.instance,
            connection_id=flow.connection,
            listener=flow.listener,
        ),
        path=binding.path,
        call_id=binding.call_id,
        cseq=binding.cseq,
        user_agent=binding.user_agent,
        sip_instance=binding.sip_instance,
        reg_id=binding.reg_id,
        registered_at_ms=binding.registered_at_ms,
    )


def flow_of(flow: pb.Flow) -> FlowValue:
    """A flow of the contract as a value."""
    return FlowValue(int(flow.transport), flow.host, flow.port, flow.instance_id, flow.connection_id, flow.listener)


def binding_of(message: pb.Binding) -> Binding:
    """A binding of the contract as a value."""
    fields: dict[str, Any] = {
        name: getattr(message, name) for name in Binding.__dataclass_fields__ if name not in ("flow", "path")
    }
    return Binding(flow=flow_of(message.flow), path=tuple(message.path), **fields)
