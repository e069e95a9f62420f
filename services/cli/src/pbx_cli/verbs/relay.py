"""`sip-pbx relay status|drain`: the relays' own RPCs."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from grpc.aio import Channel

from pbx.relay.v1 import relay_pb2, relay_pb2_grpc
from pbx_cli.errors import CliError
from pbx_cli.verbs import grpc
from pbx_cli.verbs.places import DEFAULT_DATA, DataOption, JsonOption, Places
from pbx_cli.verbs.table import Column, show
from pbx_runtime.grpc_channel import UNARY_DEADLINE_S

app = typer.Typer(help="Media relays.", no_args_is_help=True, rich_markup_mode=None)

_COLUMNS = (
    Column("RELAY", "relay_id"),
    Column("STATE", "state"),
    Column("CALLS", "calls"),
    Column("FREE", "slots_free"),
    Column("RESTING", "slots_quarantined"),
    Column("BROKEN", "slots_broken"),
    Column("SLOTS", "slots_total"),
    Column("DATAPATH", "datapath"),
    Column("PORTS", "ports"),
    Column("HOSTS", "hosts"),
    Column("GRPC", "grpc"),
)


@app.command()
def status(data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """State and slots of every relay."""
    show([_status(address) for address in Places("", data).relays], _COLUMNS, as_json=json, empty="no relay")


@app.command()
def drain(
    relay_id: Annotated[str, typer.Argument(help="As `sip-pbx relay status` shows it.")],
    deadline: Annotated[int, typer.Option(min=0, help="Seconds until it ends at the latest; 0: its default.")] = 0,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Let a relay take no new calls; it ends when its last call is over."""
    for address in Places("", data).relays:
        if _status(address)["relay_id"] == relay_id:
            typer.echo(f"{relay_id} drains; calls left: {_drain(address, deadline)}")
            return
    raise CliError(f"no relay {relay_id}: `sip-pbx relay status` shows them")


def _drain(address: str, deadline_s: int) -> int:
    async def ask(channel: Channel) -> relay_pb2.DrainResponse:
        stub = relay_pb2_grpc.RelayServiceStub(channel)
        answer: relay_pb2.DrainResponse = await stub.Drain(
            relay_pb2.DrainRequest(deadline_s=deadline_s), timeout=UNARY_DEADLINE_S
        )
        return answer

    return int(grpc.call(address, "relay", ask).calls)


def _status(address: str) -> dict[str, Any]:
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
