"""What the operator asks of relays, over gRPC: how many calls they hold, and to drain."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

import grpc.aio

from pbx.relay.v1 import relay_pb2 as pb
from pbx.relay.v1 import relay_pb2_grpc
from pbx_operator.observed import RelayReport
from pbx_runtime.errors import ServiceError
from pbx_runtime.grpc_channel import map_rpc_errors, open_channel
from pbx_runtime.grpc_credentials import GrpcCredentials

DEADLINE_S: Final = 2.0
"""A relay that does not answer in this time counts as silent for one pass."""


class RelayControl(Protocol):
    """Speaks to relays by address."""

    async def report(self, address: str) -> RelayReport | None:
        """What it says of itself; None: it does not answer."""
        ...

    async def drain(self, address: str, deadline_s: int) -> bool:
        """Ask it to take no more calls; whether it heard."""
        ...


class FakeRelayControl:
    """Answers from a dictionary that a test fills."""

    def __init__(self) -> None:
        self.reports: dict[str, RelayReport] = {}
        self.drained: dict[str, int] = {}

    async def report(self, address: str) -> RelayReport | None:
        """As filled in."""
        return self.reports.get(address)

    async def drain(self, address: str, deadline_s: int) -> bool:
        """Noted."""
        known = self.reports.get(address)
        if known is None:
            return False
        self.drained[address] = deadline_s
        self.reports[address] = RelayReport(known.calls, 0, known.slots_total, True, known.oldest_call_s)
        return True


class GrpcRelayControl:
    """Over gRPC; channels are kept open per address, and closed when it has not been asked for."""

    def __init__(self, credentials: GrpcCredentials | None = None) -> None:
        self._credentials = credentials
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def report(self, address: str) -> RelayReport | None:
        """Status; for a relay that drains also its oldest call."""
        stub = self._stub(address)
        try:
            with map_rpc_errors():
                status = await stub.GetStatus(pb.GetStatusRequest(), timeout=DEADLINE_S)
                is_draining = status.status.state == pb.RELAY_STATE_DRAINING
                oldest = await self._oldest(stub) if is_draining and status.calls else None
        except ServiceError:
            return None
        # What is granted ahead carries no call yet.
        free = status.status.slots_free + status.status.slots_granted
        return RelayReport(status.calls, free, status.status.slots_total, is_draining, oldest)

    async def drain(self, address: str, deadline_s: int) -> bool:
        """Drain."""
        try:
            with map_rpc_errors():
                await self._stub(address).Drain(pb.DrainRequest(deadline_s=deadline_s), timeout=DEADLINE_S)
        except ServiceError:
            return False
        return True

    async def forget(self, keep: set[str]) -> None:
        """Close the channels of relays that are no more."""
        gone = [address for address in self._channels if address not in keep]
        await asyncio.gather(*(self._channels.pop(address).close(None) for address in gone))

    async def close(self) -> None:
        """Close all."""
        await self.forget(set())

    def _stub(self, address: str) -> relay_pb2_grpc.RelayServiceAsyncStub:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = open_channel(address, self._credentials)
        return relay_pb2_grpc.RelayServiceStub(channel)

    @staticmethod
    async def _oldest(stub: relay_pb2_grpc.RelayServiceAsyncStub) -> float | None:
        answer = await stub.Query(pb.QueryRequest(), timeout=DEADLINE_S)
        begun = [call.allocated_at_ms for call in answer.calls if call.allocated_at_ms]
        return max(0.0, time.time() - min(begun) / 1000) if begun else None
