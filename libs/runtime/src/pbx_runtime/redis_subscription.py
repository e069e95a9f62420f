"""A subscription to channels of Redis over a connection of its own: each message one call, no task.

What is told while the connection is down is lost. So whoever listens is told when the subscription stands, and knows
from the end of `listen` that it does not any more. A connection that is silent is asked for a sign of life.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pbx_runtime import errors
from pbx_runtime.redis_link import open_link, pack
from pbx_runtime.redis_url import parse_redis_url

CONNECT_S: Final = 2.0
PING_S: Final = 1.0
"""How often the server is asked for a sign of life."""
PINGS_MAX: Final = 3
"""Asked in vain so often, the connection is ended. Fewer would end it at each stall of a busy disk."""

Receive = Callable[[str, bytes], None]
"""Called with the channel and the message."""


async def listen(url: str, channels: tuple[str, ...], receive: Receive, standing: Callable[[], None]) -> None:
    """Gives messages to `receive` until cancelled, from when `standing` is called on.

    Raises Unavailable where the connection cannot be made, or ends: from then on messages are lost.
    """
    try:
        async with asyncio.timeout(CONNECT_S):
            link = await open_link(parse_redis_url(url))
    except (OSError, TimeoutError) as error:
        raise errors.Unavailable(f"redis: {str(error) or 'no connection'}") from None
    missing = set(channels)
    unanswered = 0

    def take(reply: object) -> None:
        nonlocal unanswered
        unanswered = 0
        if not isinstance(reply, list):
            link.abort(f"not a message of a subscription: {reply}")
        elif reply[0] == b"message":
            receive(reply[1].decode(), reply[2])
        elif reply[0] == b"subscribe" and missing:
            missing.discard(reply[1].decode())
            if not missing:
                standing()

    link.receive = take
    link.write(pack(("SUBSCRIBE", *channels)))
    try:
        while unanswered < PINGS_MAX:
            unanswered += 1
            link.write(pack(("PING",)))
            await asyncio.wait({link.lost}, timeout=PING_S)
            if link.lost.done():
                raise errors.Unavailable(f"redis: {link.lost.result()}")
        raise errors.Unavailable(f"redis: silent for {PING_S * PINGS_MAX:g} s")
    finally:
        link.abort("no longer listened to")
