"""The relay's RPCs as the command line uses them: rows out, no generated type beyond this file."""

from __future__ import annotations

from typing import Any

from grpc.aio import Channel

from pbx.relay.v1 import relay_pb2, relay_pb2_grpc
from pbx_cli.verbs import grpc
from pbx_runtime.grpc_channel import UNARY_DEADLINE_S


def drain(address: str, deadline_s: int) -> int:
    """Ask a relay to drain; the calls that it still holds. Raises CliError."""

    async def ask(channel: Channel) -> relay_pb2.DrainResponse:
        stub = relay_pb2_grpc.RelayServiceStub(channel)
        answer: relay_pb2.DrainResponse = await stub.Drain(
            relay_pb2.DrainRequest(deadline_s=deadline_s), timeout=UNARY_DEADLINE_S
        )
        return answer

    return int(grpc.call(address, "relay", ask).calls)


def status_of(address: str) -> dict[str, Any]:
    """State and slots of one relay, as a row. Raises CliError."""

    async def ask(channel: Channel) -> relay_pb2.GetStatusResponse:
        stub = relay_pb2_grpc.RelayServiceStub(channel)
        answer: relay_pb2.GetStatusResponse = await stub.GetStatus(
            relay_pb2.GetStatusRequest(), timeout=UNARY_DEADLINE_S
        )
        return answer

    answer = grpc.call(address, "relay", ask)
    state = answer.status
    return {
        "relay_id": state.relay_id,
        "state": relay_pb2.RelayState.Name(state.state).removeprefix("RELAY_STATE_").lower(),
        "calls": answer.calls,
        "slots_free": state.slots_free,
        "slots_quarantined": state.slots_quarantined,
        "slots_broken": state.slots_broken,
        "slots_total": state.slots_total,
        "datapath": state.datapath,
        "ports": f"{state.port_first}-{state.port_last}",
        "hosts": list(state.hosts),
        "grpc": address,
    }


def start_recording(address: str, call_id: str) -> str:
    """Begin to record a call; the path of the file at the relay. Raises CliError, NoSuchThing."""

    async def ask(channel: Channel) -> relay_pb2.StartRecordingResponse:
        stub = relay_pb2_grpc.RelayServiceStub(channel)
        request = relay_pb2.StartRecordingRequest(call_id=call_id)
        answer: relay_pb2.StartRecordingResponse = await stub.StartRecording(request, timeout=UNARY_DEADLINE_S)
        return answer

    return str(grpc.call(address, "relay", ask).path)


def stop_recording(address: str, call_id: str) -> bool:
    """End the recording of a call; whether it was recorded there. Raises CliError."""

    async def ask(channel: Channel) -> relay_pb2.StopRecordingResponse:
        stub = relay_pb2_grpc.RelayServiceStub(channel)
        request = relay_pb2.StopRecordingRequest(call_id=call_id)
        answer: relay_pb2.StopRecordingResponse = await stub.StopRecording(request, timeout=UNARY_DEADLINE_S)
        return answer

    return bool(grpc.call(address, "relay", ask).stopped)
