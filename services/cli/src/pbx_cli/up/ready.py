"""Is a process ready? HTTP `/readyz` for the services, PING for Redis. Small probes on plain sockets."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

PROBE_S = 2.0
POLL_S = 0.05
_READ_BYTES_MAX = 4096


async def is_ready(target: str) -> bool:
    """One probe; False for every reason not to be ready."""
    try:
        async with asyncio.timeout(PROBE_S):
            if target.startswith("http://"):
                return await _probe_http(target)
            return await _probe_redis(target)
    except (OSError, TimeoutError):
        return False


async def until_ready(target: str) -> None:
    """Return when it is ready; cancelled by whoever has a deadline."""
    while not await is_ready(target):  # noqa: ASYNC110 -- another process sets no event
        await asyncio.sleep(POLL_S)


async def _probe_http(url: str) -> bool:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
    answer = await _ask(reader, writer, request.encode())
    return answer.split(b" ", 2)[1:2] == [b"200"]


async def _probe_redis(path: str) -> bool:
    reader, writer = await asyncio.open_unix_connection(path)
    return (await _ask(reader, writer, b"PING\r\n")).startswith(b"+PONG")


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    try:
        writer.write(request)
        return await reader.read(_READ_BYTES_MAX)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
