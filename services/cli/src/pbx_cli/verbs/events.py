"""`sip-pbx events tail`: events as they happen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from pbx_cli.verbs.api import Api
from pbx_cli.verbs.places import DEFAULT_DATA, DataOption, HttpOption, JsonOption, Places
from pbx_cli.verbs.table import as_json_text, text_of, value_at, when

app = typer.Typer(help="Events of the PBX.", no_args_is_help=True, rich_markup_mode=None)

POLL_S = 1.0
PAGE_MAX = 100
FIRST_ID = "0" * 26
"""Before every ULID."""


@app.command()
def tail(
    type_: Annotated[str | None, typer.Option("--type", help="Only this event type.")] = None,
    call: Annotated[str | None, typer.Option(help="Only this call.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=PAGE_MAX, help="Past events to begin with.")] = 10,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for more.")] = True,
    http: HttpOption = "",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """Show the latest events, then those that come; Ctrl-C ends it."""
    with Api(Places(http, data).api) as api:
        for event in events(api, {"type": type_, "call_id": call}, lines=lines, follow=follow):
            typer.echo(as_json_text(event) if json else line_of(event))


def events(api: Api, query: dict[str, str | None], *, lines: int, follow: bool) -> Iterator[dict[str, Any]]:
    """The last `lines` events, oldest first, then what follows them for as long as the caller reads."""
    # The newest event is always asked for: what comes after it is what is new.
    latest = list(api.items("/v1/events", query | {"limit": str(max(lines, 1))}, limit=max(lines, 1)))
    last = latest[0]["id"] if latest else FIRST_ID
    yield from reversed(latest[:lines])
    while follow:
        page = api.get("/v1/events", query | {"after": last, "limit": str(PAGE_MAX)})["items"]
        yield from page
        if page:
            last = page[-1]["id"]
        else:
            time.sleep(POLL_S)


def line_of(event: dict[str, Any]) -> str:
    """One event as one line: when, what, which call, and its data."""
    moment = when(value_at(event, "time|at|at_ms"))
    subject = text_of(value_at(event, "subject|call_id"))
    details = value_at(event, "data") or {}
    words = " ".join(
        f"{text_of(key)}={text_of(value)}" for key, value in details.items() if not isinstance(value, dict | list)
    )
    return f"{moment}  {text_of(event.get('type')):24}  {subject}  {words}".rstrip()
