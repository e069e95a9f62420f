"""Registrar and signaling as the API sees them: live bindings and calls."""

from __future__ import annotations

from typing import Any

from pbx.registrar.v1 import registrar_pb2, registrar_pb2_grpc
from pbx.signaling.v1 import signaling_pb2, signaling_pb2_grpc
from pbx_events.cdr.builder import iso
from pbx_runtime.errors import NotFound, Unavailable
from pbx_runtime.grpc_channel import map_rpc_errors, open_channel
from pbx_runtime.grpc_credentials import GrpcCredentials

DEADLINE_S = 3.0
STATES = {number: name.removeprefix("CALL_STATE_").lower() for name, number in signaling_pb2.CallState.items()}
TRANSPORTS = {number: name.removeprefix("TRANSPORT_").lower() for name, number in registrar_pb2.Transport.items()}


class Bindings:
    """The registrar's bindings."""

    def __init__(self, address: str, credentials: GrpcCredentials | None = None) -> None:
        self._channel = open_channel(address, credentials)
        self._stub: Any = registrar_pb2_grpc.RegistrarServiceStub(self._channel)

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close(None)

    async def page(self, aor: str, limit: int, cursor: str) -> tuple[list[dict[str, Any]], str]:
        """One page of bindings."""
        request = registrar_pb2.ListBindingsRequest(aor=aor, page_size=limit, page_token=cursor)
        with map_rpc_errors():
            reply = await self._stub.ListBindings(request, timeout=DEADLINE_S)
        return [_binding(binding) for binding in reply.bindings], reply.next_page_token


class Calls:
    """The live calls of all signaling instances."""

    def __init__(self, addresses: tuple[str, ...], credentials: GrpcCredentials | None = None) -> None:
        self._channels = [open_channel(address, credentials) for address in addresses]
        self._stubs: list[Any] = [signaling_pb2_grpc.SignalingServiceStub(channel) for channel in self._channels]

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels:
            await channel.close(None)

    async def page(self, user: str, limit: int, cursor: str) -> tuple[list[dict[str, Any]], str]:
        """One page of calls, oldest first, over all instances."""
        found: list[Any] = []
        more = False
        request = signaling_pb2.ListCallsRequest(user=user, page_size=limit, page_token=cursor)
        for stub in self._stubs:
            with map_rpc_errors():
                reply = await stub.ListCalls(request, timeout=DEADLINE_S)
            found += reply.calls
            more = more or bool(reply.next_page_token)
        found.sort(key=lambda call: call.call_id)
        page = found[:limit]
        return [_call(call) for call in page], page[-1].call_id if more or len(found) > limit else ""

    async def one(self, call_id: str) -> dict[str, Any]:
        """A live call, wherever it lives. Raises NotFound."""
        away: Unavailable | None = None
        for stub in self._stubs:
            try:
                with map_rpc_errors():
                    reply = await stub.GetCall(signaling_pb2.GetCallRequest(call_id=call_id), timeout=DEADLINE_S)
            except NotFound:
                continue
            except Unavailable as error:
                away = error
                continue
            return _call(reply.call)
        if away is not None:
            raise away  # it may live there
        raise NotFound(f"no live call {call_id}; /v1/cdrs/{call_id} tells of one that is over")

    async def hang_up(self, call_id: str, reason: str) -> None:
        """Ends a call wherever it lives. Raises NotFound."""
        for stub in self._stubs:
            try:
                with map_rpc_errors():
                    request = signaling_pb2.HangUpRequest(call_id=call_id, reason=reason)
                    await stub.HangUp(request, timeout=DEADLINE_S)
                return
            except NotFound:
                continue
        raise NotFound(f"no live call {call_id}")


def _binding(binding: registrar_pb2.Binding) -> dict[str, Any]:
    flow = binding.flow
    host = f"[{flow.host}]" if ":" in flow.host else flow.host
    return {
        "aor": binding.aor,
        "user": binding.aor.partition("@")[0],
        "contact": binding.uri,
        "transport": TRANSPORTS[flow.transport],
        "remote_address": f"{host}:{flow.port}",
        "expires_at": iso(binding.expires_at_ms),
        "registered_at": iso(binding.registered_at_ms),
        "user_agent": binding.user_agent or None,
        "call_id": binding.call_id,
        "cseq": binding.cseq,
        "q": binding.q_thousandths / 1000,
    }


def _call(call: signaling_pb2.Call) -> dict[str, Any]:
    return {
        "call_id": call.call_id,
        "state": STATES[call.state],
        "caller": call.caller,
        "callee": call.callee,
        "started_at": iso(call.started_at_ms),
        "answered_at": iso(call.answered_at_ms) if call.HasField("answered_at_ms") else None,
        "relay_id": call.relay_id or None,
        "instance": call.instance_id,
        "legs": [
            _leg(side, leg)
            for side, leg in (("caller", call.caller_leg), ("callee", call.callee_leg))
            if leg.sip_call_id
        ],
    }


def _leg(side: str, leg: signaling_pb2.Leg) -> dict[str, Any]:
    transport, _, address = leg.remote_address.partition(":")
    return {
        "side": side,
        "sip_call_id": leg.sip_call_id or None,
        "local_tag": leg.local_tag or None,
        "remote_tag": leg.remote_tag or None,
        "transport": transport or None,
        "remote_address": address or None,
        "user_agent": leg.user_agent or None,
    }
