"""`sip-pbx webhook add|list|show|change|enable|disable|remove|test|replay|attempts|dead|rotate`."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from pbx_cli.verbs.api import Api
from pbx_cli.verbs.places import DEFAULT_DATA, DataOption, HttpOption, JsonOption, Places
from pbx_cli.verbs.table import Column, show, show_one, when

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
_ATTEMPTS = (
    Column("AT", "at", when),
    Column("EVENT", "event_id"),
    Column("STATUS", "status"),
    Column("MS", "duration_ms"),
    Column("ANSWER", "excerpt"),
)
_DEAD = (
    Column("EVENT", "event_id"),
    Column("CALL", "call_id"),
    Column("ATTEMPTS", "attempts"),
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
        show(api.whole("/v1/webhooks"), _COLUMNS, as_json=json, empty="no webhooks")


@app.command("show")
def show_webhook(
    webhook: IdArgument, http: HttpOption = "", data: DataOption = DEFAULT_DATA, json: JsonOption = False
) -> None:
    """One webhook, with what is on its way."""
    with Api(Places(http, data).api) as api:
        show_one(api.get(_path(webhook)), as_json=json)


@app.command()
def change(
    webhook: IdArgument,
    url: Annotated[str | None, typer.Option(help="Where events are POSTed from now on.")] = None,
    types: Annotated[list[str] | None, typer.Option("--type", help="Event type; may be repeated.")] = None,
    user: Annotated[str | None, typer.Option(help="Only events of this user; empty for everybody.")] = None,
    direction: Annotated[str | None, typer.Option(help="from, to, or empty for both.")] = None,
    http: HttpOption = "",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Change what is given, and leave the rest."""
    asked = {"url": url, "types": types or None, "user": user, "direction": direction}
    # An empty text takes a filter away: the API says null for "everybody" and for "both".
    named: dict[str, object] = {name: value or None for name, value in asked.items() if value is not None}
    _change(webhook, named, Places(http, data), json)


@app.command()
def enable(
    webhook: IdArgument, http: HttpOption = "", data: DataOption = DEFAULT_DATA, json: JsonOption = False
) -> None:
    """Take up a webhook that was disabled, by hand or by its answer 410; `replay --since` sends what it missed."""
    _change(webhook, {"enabled": True}, Places(http, data), json)


@app.command()
def disable(
    webhook: IdArgument, http: HttpOption = "", data: DataOption = DEFAULT_DATA, json: JsonOption = False
) -> None:
    """Send nothing to a webhook, and queue nothing for it, until it is enabled."""
    _change(webhook, {"enabled": False}, Places(http, data), json)


def _change(webhook: str, body: dict[str, object], places: Places, json: bool) -> None:
    with Api(places.api) as api:
        show_one(api.patch(_path(webhook), body), as_json=json)


@app.command()
def attempts(
    webhook: IdArgument,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = 50,
    http: HttpOption = "",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """The log of attempts, newest first."""
    with Api(Places(http, data).api) as api:
        show(api.items(_path(webhook, "attempts"), limit=limit), _ATTEMPTS, as_json=json, empty="no attempts")


@app.command()
def dead(
    webhook: IdArgument,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1)] = 50,
    http: HttpOption = "",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Deliveries that were given up, newest first; `replay --event` sends them again."""
    with Api(Places(http, data).api) as api:
        show(api.items(_path(webhook, "dead-letters"), limit=limit), _DEAD, as_json=json, empty="no dead letters")


@app.command()
def rotate(
    webhook: IdArgument, http: HttpOption = "", data: DataOption = DEFAULT_DATA, json: JsonOption = False
) -> None:
    """Make a new signing secret, shown once; for a day both sign."""
    with Api(Places(http, data).api) as api:
        show_one(api.post(_path(webhook, "rotate-secret"), {}), as_json=json)


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
