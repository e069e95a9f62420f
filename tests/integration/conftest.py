"""Servers that several modules of tests need, one for each module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.redis_server import RedisServer, redis_server


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """An empty Redis."""
    with redis_server() as server:
        yield server
