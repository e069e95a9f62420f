"""Which signaling instances live, and where each is reached: read from their leases in Redis (ARCHITECTURE.md)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, Protocol

from pbx_runtime.redis_pipe import PipelinedRedis

INDEX: Final = "sig:index"
"""Sorted set of instances by the end of their lease, Unix ms."""
LEASE: Final = "sig:inst:"
"""Beginning of the key that holds an instance's gRPC address."""


class Instances(Protocol):
    """Gives the gRPC addresses of signaling instances by their ids."""

    async def alive(self) -> Mapping[str, str]:
        """Those that live now. Raises ServiceError where nobody can say."""
        ...


class Given:
    """Instances that the settings name, by their addresses."""

    def __init__(self, addresses: tuple[str, ...]) -> None:
        self._addresses = {address: address for address in addresses}

    async def alive(self) -> Mapping[str, str]:
        """All of them."""
        return self._addresses


class Leases:
    """Instances that hold a lease."""

    def __init__(self, redis: PipelinedRedis) -> None:
        self._redis = redis

    async def alive(self) -> Mapping[str, str]:
        """Those whose lease has not ended."""
        names = await self._redis.submit("ZRANGEBYSCORE", INDEX, int(time.time() * 1000), "+inf")
        if not names:
            return {}
        addresses = await self._redis.submit("MGET", *(LEASE.encode() + name for name in names))
        return {
            name.decode(): address.decode()
            for name, address in zip(names, addresses, strict=True)
            if address is not None
        }
