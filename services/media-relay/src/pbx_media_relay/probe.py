"""Bind and echo: a call of the relay's own, whose packets must come out at the other side.

What a process answers over HTTP says little of its sockets. Once in a while a slot is taken for a call of two
sockets on this host, one RTP packet goes each way through the datapath that carries everybody's, and the slot is
given back. Not done while the relay drains or has no slot free: busy is not broken. With `ebpf` it proves the
user-space half only; packets over loopback do not pass the interface.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final

from pbx_media_relay.endpoint import Endpoint
from pbx_media_relay.errors import DatapathRefusedError, DrainingError, NoFreeSlotError
from pbx_media_relay.forward import PORTS_PER_SLOT, Medium, Side, rtp_port
from pbx_media_relay.order import Order
from pbx_media_relay.relay import Relay
from pbx_media_relay.rtp import Header, build
from pbx_media_relay.stream import PayloadType, Stream

CALL_ID: Final = "probe"
TRIES: Final = 3
"""Packets sent one way before it counts as broken: a full buffer may cost one."""
PATIENCE_S: Final = 0.5
"""How long one of them may take; a relay that works needs less than a millisecond."""
_PCMU: Final = PayloadType(0, "PCMU", 8000, 1, 20)
WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # what one sends to on this host instead


class EchoProbe:
    """The probe of one relay, over the address that it is bound to first."""

    def __init__(self, relay: Relay, bound: str, now_ns: Callable[[], int]) -> None:
        self._relay = relay
        self._host = WILDCARDS.get(bound, bound)
        self._now_ns = now_ns
        self.failures = 0

    async def look(self) -> str:
        """What is wrong, in a few words for people; empty where both packets came through."""
        trouble = await self._look()
        self.failures += bool(trouble)
        return trouble

    async def _look(self) -> str:
        self._relay.release(CALL_ID, self._now_ns())  # of a process that was killed while it looked
        try:
            with self._socket() as a, self._socket() as b:
                try:
                    return await self._both_ways(a, b)
                finally:
                    self._relay.release(CALL_ID, self._now_ns())
        except (DrainingError, NoFreeSlotError):
            return ""
        except (OSError, DatapathRefusedError) as error:
            return f"no echo: {error}"

    async def _both_ways(self, a: socket.socket, b: socket.socket) -> str:
        streams = tuple(
            Stream(side, Medium.AUDIO, Endpoint(self._host, sock.getsockname()[1]), payload_types=(_PCMU,))
            for side, sock in ((Side.A, a), (Side.B, b))
        )
        call = self._relay.allocate(Order(CALL_ID, CALL_ID, streams), self._now_ns())
        for side, sender, receiver in ((Side.A, a, b), (Side.B, b, a)):
            port = rtp_port(call.slot * PORTS_PER_SLOT, side, Medium.AUDIO)
            if not await self._passes(sender, receiver, (self._host, port)):
                return f"no echo: a packet to port {port} did not come out at the other side"
        return ""

    async def _passes(self, sender: socket.socket, receiver: socket.socket, to: tuple[str, int]) -> bool:
        loop = asyncio.get_running_loop()
        ssrc = int.from_bytes(os.urandom(4), "big")
        for sequence in range(TRIES):
            packet = build(Header(0, False, sequence, 160 * sequence, ssrc), bytes(160))
            sender.sendto(packet, to)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    while ssrc.to_bytes(4, "big") not in await loop.sock_recv(receiver, 2048):
                        pass
            except TimeoutError:
                continue
            return True
        return False

    def _socket(self) -> socket.socket:
        made = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            made.bind((self._host, 0))
        except OSError:
            made.close()
            raise
        return made
