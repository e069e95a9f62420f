"""Links to other replicas (pbx.signaling.v1.PeerLinkService): a bounded queue and one stream each, made when needed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import grpc.aio

from pbx.signaling.v1 import signaling_pb2 as pb
from pbx.signaling.v1 import signaling_pb2_grpc
from pbx_runtime import logs
from pbx_runtime.errors import ServiceError
from pbx_runtime.grpc_channel import open_channel
from pbx_runtime.grpc_credentials import GrpcCredentials
from pbx_runtime.redis_pipe import PipelinedRedis
from pbx_signaling.clients.siblings import Siblings
from pbx_signaling.replicas.peering import Carriage, at
from pbx_sip.address import Flow, HostPort, Transport

QUEUE_MAX: Final = 10_000
"""Messages that wait for a peer: a second of its full load. Beyond, they are dropped; SIP repeats what matters."""
BATCH_MAX: Final = 256
IDLE_S: Final = 60.0
"""A link that carries nothing for so long is closed."""
CONNECT_S: Final = 2.0

LOST: Final = (ServiceError, grpc.RpcError, grpc.aio.BaseError, asyncio.InvalidStateError, TimeoutError)
"""What a peer that went shows itself as: grpc says InvalidStateError where its stream has ended meanwhile."""

_log = logs.get_logger("peers")


class Peers:
    """Implements `peering.Carrier`."""

    def __init__(
        self,
        instance: str,
        redis: PipelinedRedis,
        broken: Callable[[Flow], None],
        start: Callable[[Any, str], Any],
        credentials: GrpcCredentials | None = None,
        siblings: Siblings | None = None,
    ) -> None:
        """`broken`: told of flows of a peer that cannot be reached; `start`: runs a coroutine by name; `siblings`: a
        shorter way to the processes that share our addresses."""
        self._dropped = self._carried = 0
        self._siblings = siblings
        self._near = frozenset[str]() if siblings is None else siblings.names
        self._instance = instance
        self._redis = redis
        self._broken = broken
        self._start = start
        self._credentials = credentials
        self._links: dict[str, _Link] = {}

    @property
    def carried(self) -> int:
        """Messages for another instance."""
        return self._carried + (0 if self._siblings is None else self._siblings.carried)

    @property
    def dropped(self) -> int:
        """Messages that reached nobody."""
        return self._dropped + (0 if self._siblings is None else self._siblings.dropped)

    def carry(self, instance: str, carriage: Carriage, data: bytes, flow: Flow) -> None:
        """See Carrier."""
        if instance in self._near:
            assert self._siblings is not None
            self._siblings.carry(instance, carriage, data, flow)
            return
        link = self._links.get(instance)
        if link is None:
            link = self._links[instance] = _Link(self._instance, instance)
            self._start(self._run(link), f"peer {instance}")
        if len(link.queue) >= QUEUE_MAX:
            self._dropped += 1
            return
        self._carried += 1
        link.queue.append(to_carried(carriage, data, flow))
        link.wake.set()

    async def _run(self, link: _Link) -> None:
        try:
            address = await self._redis.submit("GET", f"sig:inst:{link.peer}")
            if address is None:
                _log.info("peer has no lease", peer=link.peer)
            else:
                await link.run(open_channel(address.decode(), self._credentials))
        except LOST as error:
            _log.warning("link to peer lost", peer=link.peer, reason=str(error)[:200])
        finally:
            del self._links[link.peer]
            self._give_up(link)

    def _give_up(self, link: _Link) -> None:
        """What could not be carried: the flows that it was for are broken, as far as this instance can tell."""
        for item in (*link.under_way, *link.queue):
            self._dropped += 1
            if item.carriage == pb.CARRIAGE_SEND:
                self._broken(at(link.peer, flow_of(item)))


class _Link:
    """One stream and what waits for it."""

    def __init__(self, instance: str, peer: str) -> None:
        self.peer = peer
        self.queue: deque[pb.Carried] = deque()
        self.under_way: list[pb.Carried] = []
        self.wake = asyncio.Event()
        self._instance = instance

    async def run(self, channel: grpc.aio.Channel) -> None:
        """Carries until there is nothing to carry for a while, then closes it. Raises RpcError, TimeoutError."""
        try:
            async with asyncio.timeout(CONNECT_S):
                await channel.channel_ready()
            open_stream: Any = signaling_pb2_grpc.PeerLinkServiceStub(channel).Carry
            stream = open_stream()
            while await self._wait():
                while self.queue:
                    self.under_way = [self.queue.popleft() for _ in range(min(len(self.queue), BATCH_MAX))]
                    await stream.write(pb.CarryRequest(instance_id=self._instance, items=self.under_way))
                    self.under_way = []
            await stream.done_writing()
        finally:
            await channel.close(None)

    async def _wait(self) -> bool:
        """Until there is something to carry; False where nothing came for a while."""
        if self.queue:
            return True
        self.wake.clear()
        try:
            async with asyncio.timeout(IDLE_S):
                await self.wake.wait()
        except TimeoutError:
            return bool(self.queue)
        return True


def to_carried(carriage: Carriage, data: bytes, flow: Flow) -> pb.Carried:
    """As the contract has it."""
    return pb.Carried(
        carriage=pb.Carriage.ValueType(carriage),
        data=data,
        transport=flow.transport,
        host=flow.remote.host,
        port=flow.remote.port,
        connection_id=flow.connection,
        listener=flow.listener,
    )


def flow_of(item: pb.Carried) -> Flow:
    """The flow of what was carried, as the instance that has it names it. Raises ValueError for no transport."""
    return Flow(Transport(item.transport), HostPort(item.host, item.port), item.listener, item.connection_id)
