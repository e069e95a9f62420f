"""`sip-pbx calls`, `sip-pbx hangup` and `sip-pbx registrations`: what is live now."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from pbx_cli.verbs.api import Api
from pbx_cli.verbs.places import DEFAULT_DATA, DataOption, HttpOption, JsonOption, Places
from pbx_cli.verbs.table import Column, show, when

_CALLS = (
    Column("CALL", "call_id"),
    Column("STATE", "state"),
    Column("CALLER", "caller"),
    Column("CALLEE", "callee"),
    Column("STARTED", "started_at", when),
    Column("ANSWERED", "answered_at", when),
    Column("RELAY", "relay_id"),
    Column("INSTANCE", "instance"),
)
_REGISTRATIONS = (
    Column("ADDRESS", "aor"),
    Column("CONTACT", "contact"),
    Column("TRANSPORT", "transport"),
    Column("ADDRESS OF PHONE", "remote_address"),
    Column("EXPIRES", "expires_at", when),
    Column("USER AGENT", "user_agent"),
)


def calls(
    user: Annotated[str | None, typer.Option(help="Only calls of this user.")] = None,
    http: HttpOption = "",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Live calls."""
    with Api(Places(http, data).api) as api:
        show(api.items("/v1/calls", {"user": user}), _CALLS, as_json=json, empty="no live calls")


def hangup(
    call: Annotated[str, typer.Argument(metavar="CALL", help="Call id, as `sip-pbx calls` shows it.")],
    reason: Annotated[str | None, typer.Option(help="Written into the CDR.")] = None,
    http: HttpOption = "",
    data: DataOption = DEFAULT_DATA,
) -> None:
    """End a call."""
    with Api(Places(http, data).api) as api:
        api.delete(f"/v1/calls/{quote(call, safe='')}", {"reason": reason})
    typer.echo(f"ending {call}")


def registrations(
    aor: Annotated[str | None, typer.Option(help="Only this address, user@domain.")] = None,
    http: HttpOption = "",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Registered phones."""
    with Api(Places(http, data).api) as api:
        show(api.items("/v1/registrations", {"aor": aor}), _REGISTRATIONS, as_json=json, empty="no registrations")
