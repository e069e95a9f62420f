"""One connection to Redis: bytes out, replies in, by hiredis. No state beyond the socket's.

`ask` is for the handshake; afterwards the owner sets `receive` and every reply goes there in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from pbx_runtime import errors
from pbx_runtime.redis_script import Argument
from pbx_runtime.redis_url import RedisUrl

pack: Callable[[tuple[Argument, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]
"""One command as bytes, by hiredis. (Its stub takes tuples of one element only.)"""
ReplyError = hiredis.ReplyError
SENTINEL_S = 1.0
"""How long one Sentinel may take before the next is asked."""
_NOTHING: Any = object()
Receive = Callable[[Any], None]


class RedisLink(asyncio.Protocol):
    """The protocol of one connection."""

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's own class

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._end(str(exc) if exc else "connection closed")

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        reader = self._reader
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _NOTHING:
                self.receive(reply)
        except hiredis.ProtocolError as error:
            self.abort(f"not a Redis reply: {error}")

    def write(self, data: bytes) -> None:
        """Send packed commands."""
        if self._transport is not None and not self.lost.done():
            self._transport.write(data)

    def abort(self, reason: str) -> None:
        """End the connection at once."""
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    def _end(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)

    async def ask(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """Send commands and collect their replies; for the handshake, before `receive` is set anew.

        Raises Unavailable where the connection ends first.
        """
        replies: list[Any] = []
        done = asyncio.get_running_loop().create_future()

        def collect(reply: Any) -> None:
            replies.append(reply)
            if len(replies) == len(commands) and not done.done():
                done.set_result(None)

        self.receive = collect
        self.write(b"".join(map(pack, commands)))
        await asyncio.wait({done, self.lost}, return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise errors.Unavailable(self.lost.result())
        return replies


async def open_link(url: RedisUrl) -> RedisLink:
    """Connect and identify; where Sentinels are named, to the server that they call the primary now.

    Raises OSError or Unavailable.
    """
    if url.sentinels:
        url = await ask_sentinels(url)
    loop = asyncio.get_running_loop()
    link = RedisLink(lambda _: None)
    if url.path:
        await loop.create_unix_connection(lambda: link, url.path)
    else:
        await loop.create_connection(lambda: link, url.host, url.port, ssl=True if url.tls else None)
    try:
        await _identify(link, url)
    except BaseException:
        link.abort("handshake failed")
        raise
    return link


async def ask_sentinels(url: RedisUrl) -> RedisUrl:
    """The URL of the primary, of the first Sentinel that answers. Raises Unavailable with what each of them said."""
    failures = []
    for host, port in url.sentinels:
        at = RedisUrl(host, port, password=url.sentinel_password)
        try:
            async with asyncio.timeout(SENTINEL_S):
                link = await open_link(at)
                try:
                    (reply,) = await link.ask([("SENTINEL", "GET-MASTER-ADDR-BY-NAME", url.name)])
                finally:
                    link.abort("answered")
        except (OSError, errors.Unavailable) as error:  # TimeoutError is an OSError
            failures.append(f"{host}:{port}: {str(error) or type(error).__name__}")
            continue
        if isinstance(reply, list) and len(reply) == 2:
            primary, primary_port = bytes(reply[0]).decode(), int(reply[1])
            return RedisUrl(primary, primary_port, db=url.db, user=url.user, password=url.password)
        failures.append(f"{host}:{port}: {reply if isinstance(reply, ReplyError) else f'knows no {url.name}'}")
    raise errors.Unavailable("no Sentinel tells the primary: " + "; ".join(failures))


async def _identify(link: RedisLink, url: RedisUrl) -> None:
    commands: list[tuple[Argument, ...]] = []
    if url.password:
        commands.append(("AUTH", url.user, url.password) if url.user else ("AUTH", url.password))
    if url.db:
        commands.append(("SELECT", url.db))
    commands.append(("PING",))
    for reply in await link.ask(commands):
        if isinstance(reply, hiredis.ReplyError):
            # LOADING, NOAUTH, WRONGPASS, ...: the text names no secret.
            raise errors.Unavailable(str(reply))
