"""`sip-pbx webhook add|list|remove`."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from pbx_cli.verbs.api import Api
from pbx_cli.verbs.places import DEFAULT_DATA, DataOption, HttpOption, JsonOption, Places
from pbx_cli.verbs.table import Column, show, show_one

app = typer.Typer(help="Webhooks: who is told of events.", no_args_is_help=True, rich_markup_mode=None)

_COLUMNS = (
    Column("WEBHOOK", "id"),
    Column("URL", "url"),
    Column("TYPES", "types"),
    Column("ENABLED", "enabled"),
    Column("PENDING", "deliveries.pending"),
    Column("DELIVERED", "deliveries.delivered"),
    Column("DEAD", "deliveries.dead"),
)
IdArgument = Annotated[str, typer.Argument(metavar="WEBHOOK", help="Id, as `sip-pbx webhook list` shows it.")]


def _path(webhook: str, *more: str) -> str:
    return "/".join(("/v1/webhooks", quote(webhook, safe=""), *more))


@app.command()
def add(
    url: Annotated[str, typer.Argument(help="Where events are POSTed.")],
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Event type; may be repeated; default: all.")
    ] = None,
    http: HttpOption = "",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Subscribe a URL. The signing secret is shown once."""
    with Api(Places(http, data).api) as api:
        show_one(api.post("/v1/webhooks", {"url": url} | ({"types": types} if types else {})), as_json=json)


@app.command("list")
def list_(http: HttpOption = "", data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """All webhooks."""
    with Api(Places(http, data).api) as api:
        show(api.items("/v1/webhooks"), _COLUMNS, as_json=json, empty="no webhooks")


@app.command()
def remove(webhook: IdArgument, http: HttpOption = "", data: DataOption = DEFAULT_DATA) -> None:
    """Remove a webhook; what it was not told yet is dropped."""
    with Api(Places(http, data).api) as api:
        api.delete(_path(webhook))
    typer.echo(f"removed {webhook}")
