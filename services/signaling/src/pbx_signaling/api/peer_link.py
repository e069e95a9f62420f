"""PeerLinkService: what other replicas carry here (pbx.signaling.v1)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from pbx.signaling.v1 import signaling_pb2 as pb
from pbx.signaling.v1 import signaling_pb2_grpc
from pbx_runtime import logs
from pbx_signaling.clients.peers import flow_of
from pbx_signaling.replicas.peering import Carriage
from pbx_sip.address import Flow

Handler = Callable[[str, Carriage, bytes, Flow], None]
"""Instance that sent it, what to do, message, flow."""

_log = logs.get_logger("peers")


class PeerLinkService(signaling_pb2_grpc.PeerLinkServiceServicer):
    """Hands what comes to `handler`, in order."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def Carry(  # the contract's name
        self, request_iterator: AsyncIterator[pb.CarryRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.CarryResponse:
        """Takes in until the peer ends the stream."""
        async for request in request_iterator:
            for item in request.items:
                try:
                    carriage, flow = Carriage(item.carriage), flow_of(item)
                except ValueError:  # of a later version
                    _log.warning("a carried item that cannot be read", peer=request.instance_id)
                    continue
                self._handler(request.instance_id, carriage, item.data, flow)
        return pb.CarryResponse()
