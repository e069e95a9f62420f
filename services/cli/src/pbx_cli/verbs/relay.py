"""`sip-pbx relay status|drain` and `sip-pbx record`: the relays' own RPCs."""

from __future__ import annotations

from typing import Annotated

import typer

from pbx_cli.errors import CliError, NoSuchThing
from pbx_cli.verbs.places import DEFAULT_DATA, DataOption, JsonOption, Places
from pbx_cli.verbs.table import Column, show, text_of

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
    from pbx_cli.verbs.relays import status_of

    show([status_of(address) for address in Places("", data).relays], _COLUMNS, as_json=json, empty="no relay")


@app.command()
def drain(
    relay_id: Annotated[str, typer.Argument(help="As `sip-pbx relay status` shows it.")],
    deadline: Annotated[int, typer.Option(min=0, help="Seconds until it ends at the latest; 0: its default.")] = 0,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Let a relay take no new calls; it ends when its last call is over."""
    from pbx_cli.verbs import relays

    for address in Places("", data).relays:
        if relays.status_of(address)["relay_id"] == relay_id:
            typer.echo(f"{text_of(relay_id)} drains; calls left: {relays.drain(address, deadline)}")
            return
    raise CliError(f"no relay {relay_id}: `sip-pbx relay status` shows them")


def record(
    call: Annotated[str, typer.Argument(metavar="CALL", help="Call id, as `sip-pbx calls` shows it.")],
    stop: Annotated[bool, typer.Option("--stop", help="End the recording instead.")] = False,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """Record a live call into a stereo WAV file at its relay: the caller left, the callee right."""
    from pbx_cli.verbs import relays

    # Which relay holds a call only the relays know for sure: it may move.
    places = Places("", data).relays
    if stop:
        if not any(relays.stop_recording(address, call) for address in places):
            raise CliError(f"call {call} is not recorded: nothing was stopped")
        typer.echo(f"the recording of {call} ends")
        return
    for address in places:
        try:
            typer.echo(text_of(relays.start_recording(address, call)))
        except NoSuchThing:
            continue
        return
    raise CliError(f"no relay holds call {call}: `sip-pbx calls` shows live calls")
