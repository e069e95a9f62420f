"""`sip-pbx events tail`: events as they happen."""

from __future__ import annotations

import json as json_module
import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from pbx_cli.verbs.api import Api
from pbx_cli.verbs.places import DEFAULT_DATA, DataOption, HttpOption, JsonOption, Places
from pbx_cli.verbs.table import text_of, value_at, when

app = typer.Typer(help="Events of the PBX.", no_args_is_help=True, rich_markup_mode=None)

POLL_S = 1.0


@app.command()
def tail(
    type_: Annotated[str | None, typer.Option("--type", help="Only this event type.")] = None,
    call: Annotated[str | None, typer.Option(help="Only this call.")] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", "-f", help="Wait for more.")] = True,
    http: HttpOption = "",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Show events, then go on with those that come; Ctrl-C ends it."""
    with Api(Places(http, data).api) as api:
        for event in _events(api, {"type": type_, "call_id": call}, follow=follow):
            typer.echo(json_module.dumps(event, ensure_ascii=False) if json else line_of(event))


def _events(api: Api, query: dict[str, str | None], *, follow: bool) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    while True:
        page = api.get("/v1/events", query | {"cursor": cursor})
        yield from page["items"]
        if page.get("next"):
            cursor = page["next"]
        if not page["items"]:
            if not follow:
                return
            time.sleep(POLL_S)


def line_of(event: dict[str, Any]) -> str:
    """One event as one line: when, what, which call, and its data."""
    moment = when(value_at(event, "time|at|at_ms"))
    subject = text_of(value_at(event, "subject|call_id"))
    details = value_at(event, "data") or {}
    words = " ".join(f"{key}={text_of(value)}" for key, value in details.items() if not isinstance(value, dict | list))
    return f"{moment}  {text_of(event.get('type')):24}  {subject}  {words}".rstrip()
