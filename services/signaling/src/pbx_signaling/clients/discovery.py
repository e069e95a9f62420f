"""Finds relays: those named in the settings, or those whose leases stand in Redis (ARCHITECTURE.md, relay:lease)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from google.protobuf.message import DecodeError

from pbx.relay.v1 import relay_pb2 as pb
from pbx_runtime import logs
from pbx_runtime.errors import ServiceError
from pbx_runtime.redis_pipe import PipelinedRedis

INDEX: Final = "relay:index"
LEASE: Final = "relay:lease:"
PERIOD_S: Final = 1.0
GONE_AFTER_S: Final = 60.0
"""A relay whose lease ended may hold live calls: its stream is kept this long."""
RELAYS_MAX: Final = 1_000

_log = logs.get_logger("discovery")


class Discovery:
    """Polls the leases; tells of addresses that came and that went."""

    def __init__(
        self, redis: PipelinedRedis, came: Callable[[str], None], went: Callable[[str], Awaitable[None]]
    ) -> None:
        self._redis = redis
        self._came = came
        self._went = went
        self._seen: dict[str, float] = {}

    async def run(self) -> None:
        """Polls until cancelled. Without Redis what is known stays."""
        while True:
            try:
                await self._look()
            except ServiceError as error:
                _log.debug("relay leases cannot be read", reason=str(error))
            await asyncio.sleep(PERIOD_S)

    async def _look(self) -> None:
        now = time.time()
        ids = await self._redis.submit("ZRANGEBYSCORE", INDEX, int(now * 1000), "+inf", "LIMIT", 0, RELAYS_MAX)
        for relay in ids:
            value = await self._redis.submit("GET", LEASE + relay.decode())
            if value is None:
                continue
            try:
                address = pb.RelayLease.FromString(value).grpc_address
            except DecodeError:
                _log.warning("a relay lease that cannot be read", relay=relay.decode(errors="replace"))
                continue
            if address not in self._seen:
                _log.info("relay found", relay=relay.decode(), address=address)
                self._came(address)
            self._seen[address] = now
        for address in [address for address, seen in self._seen.items() if now - seen > GONE_AFTER_S]:
            del self._seen[address]
            _log.info("relay gone", address=address)
            await self._went(address)
