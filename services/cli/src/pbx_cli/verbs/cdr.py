"""`sip-pbx cdr list|show|export`: the records of all call attempts."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from itertools import chain
from typing import IO, Annotated, Any
from urllib.parse import quote

import typer

from pbx_cli.errors import EXIT_USAGE, CliError
from pbx_cli.verbs.api import Api
from pbx_cli.verbs.places import DEFAULT_DATA, DataOption, HttpOption, JsonOption, Places
from pbx_cli.verbs.table import Column, as_json_text, seconds, show, show_one, when
from pbx_runtime.text import cell

app = typer.Typer(help="Call detail records.", no_args_is_help=True, rich_markup_mode=None)

_COLUMNS = (
    Column("CALL", "call_id"),
    Column("STARTED", "started_at", when),
    Column("CALLER", "caller"),
    Column("DIALLED", "dialled"),
    Column("OUTCOME", "outcome"),
    Column("STATUS", "sip_status"),
    Column("TALK S", "talk_ms", seconds),
    Column("CAUSE", "cause"),
)
UserOption = Annotated[str | None, typer.Option(help="Only calls from or to this user.")]
OutcomeOption = Annotated[str | None, typer.Option(help="Only this outcome: answered, busy, cancelled, ...")]
SinceOption = Annotated[str | None, typer.Option(help="Only calls since then, RFC 3339.")]
UntilOption = Annotated[str | None, typer.Option(help="Only calls before then, RFC 3339.")]


class Format(StrEnum):
    """Formats of `export`."""

    JSONL = "jsonl"
    CSV = "csv"


@app.command("list")
def list_(
    user: UserOption = None,
    outcome: OutcomeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    http: HttpOption = "",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """The latest records."""
    with Api(Places(http, data).api) as api:
        query = {"user": user, "outcome": outcome} | period(since, until)
        show(api.items("/v1/cdrs", query, limit=limit), _COLUMNS, as_json=json, empty="no records")


@app.command("show")
def show_record(
    call: Annotated[str, typer.Argument(metavar="CALL", help="Call id.")],
    http: HttpOption = "",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """One record in full."""
    with Api(Places(http, data).api) as api:
        show_one(api.get(f"/v1/cdrs/{quote(call, safe='')}"), as_json=json)


@app.command()
def export(
    form: Annotated[Format, typer.Option("--format", help="jsonl or csv.")] = Format.JSONL,
    user: UserOption = None,
    outcome: OutcomeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    http: HttpOption = "",
    data: DataOption = DEFAULT_DATA,
) -> None:
    """All matching records to stdout, one a line."""
    with Api(Places(http, data).api) as api:
        items = api.items("/v1/cdrs", {"user": user, "outcome": outcome} | period(since, until))
        if form is Format.CSV:
            write_csv(items, sys.stdout)
        else:
            for item in items:
                sys.stdout.write(as_json_text(item) + "\n")


def period(since: str | None, until: str | None) -> dict[str, str | None]:
    """The query for records that started in [since, until); a time without an offset is local. Raises CliError."""
    return {"since": _moment("--since", since), "until": _moment("--until", until)}


def _moment(option: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat()
    except ValueError:
        raise CliError(f"{option}: {text!r} is no time (for example 2026-01-31T12:00:00Z)", EXIT_USAGE) from None


def write_csv(items: Iterable[Mapping[str, Any]], file: IO[str]) -> None:
    """Records as CSV: the scalar fields of the first record are the columns; nested ones stay in JSON lines."""
    rows = iter(items)
    first = next(rows, None)
    if first is None:
        return
    names = [name for name, value in first.items() if not isinstance(value, list | dict)]
    writer = csv.DictWriter(file, names, extrasaction="ignore")
    writer.writeheader()
    for row in chain([first], rows):
        writer.writerow({name: cell(row.get(name)) for name in names})
