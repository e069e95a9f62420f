"""`sip-pbx webhook add|list|remove|test|replay`."""

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
    Column("LAST ERROR", "last_error"),
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
    user: Annotated[str, typer.Option(help="Only events of this user.")] = "",
    direction: Annotated[str, typer.Option(help="Only calls from or to that user: from, to.")] = "",
    http: HttpOption = "",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Subscribe a URL. The signing secret is shown once."""
    with Api(Places(http, data).api) as api:
        filters = {"types": types, "user": user, "direction": direction}
        wanted = {name: value for name, value in filters.items() if value}
        show_one(api.post("/v1/webhooks", {"url": url} | wanted), as_json=json)


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


@app.command("test")
def send_test(
    webhook: IdArgument, http: HttpOption = "", data: DataOption = DEFAULT_DATA, json: JsonOption = False
) -> None:
    """Send a test event now, once, and show the answer."""
    with Api(Places(http, data).api) as api:
        show_one(api.post(_path(webhook, "test"), {}), as_json=json)


@app.command()
def replay(
    webhook: IdArgument,
    events: Annotated[list[str] | None, typer.Option("--event", help="Event id; may be repeated.")] = None,
    since: Annotated[str | None, typer.Option(help="Events since then, RFC 3339.")] = None,
    until: Annotated[str | None, typer.Option(help="Events before then, RFC 3339.")] = None,
    http: HttpOption = "",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Send events again: those named, or those of a time; at most 10000 in one go."""
    asked = {"event_ids": events, "since": since, "until": until}
    with Api(Places(http, data).api) as api:
        show_one(api.post(_path(webhook, "replay"), {k: v for k, v in asked.items() if v}), as_json=json)
