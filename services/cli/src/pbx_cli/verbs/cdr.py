"""`sip-pbx cdr list|show|export`: the records of all call attempts."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any, Final
from urllib.parse import quote

import typer

from pbx_cli.errors import EXIT_USAGE, CliError
from pbx_cli.verbs.api import Api, Query
from pbx_cli.verbs.places import DEFAULT_DATA, DataOption, HttpOption, JsonOption, Places
from pbx_cli.verbs.table import Column, as_json_text, seconds, show, show_one, when
from pbx_events.api.export import csv_of, csv_rows

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
    Column("INSTANCE", "instance"),
)
UserOption = Annotated[
    list[str] | None, typer.Option(help="Only calls from or to this user, or `10*`; may be repeated.")
]
CallerOption = Annotated[list[str] | None, typer.Option(help="Only calls from this user, or `10*`; may be repeated.")]
CalleeOption = Annotated[list[str] | None, typer.Option(help="Only calls to this user, or `10*`; may be repeated.")]
OutcomeOption = Annotated[
    list[str] | None, typer.Option(help="Only this outcome: answered, busy, cancelled, ...; may be repeated.")
]
TalkOption = Annotated[float | None, typer.Option("--talk-min", min=0, help="Only calls of so many seconds of talk.")]
SinceOption = Annotated[str | None, typer.Option(help="Only calls since then, RFC 3339; UTC without a zone.")]
UntilOption = Annotated[str | None, typer.Option(help="Only calls before then, RFC 3339; UTC without a zone.")]
PROGRESS_EVERY: Final = 10_000
"""Records between two lines of progress."""


class Format(StrEnum):
    """Formats of `export`."""

    JSONL = "jsonl"
    CSV = "csv"


@app.command("list")
def list_(
    user: UserOption = None,
    caller: CallerOption = None,
    callee: CalleeOption = None,
    outcome: OutcomeOption = None,
    talk_min: TalkOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    http: HttpOption = "",
    data: DataOption = DEFAULT_DATA,
    json: JsonOption = False,
) -> None:
    """The latest records."""
    query = _query(user, caller, callee, outcome, talk_min) | period(since, until)
    with Api(Places(http, data).api) as api:
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
    caller: CallerOption = None,
    callee: CalleeOption = None,
    outcome: OutcomeOption = None,
    talk_min: TalkOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of stdout.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an export to that file was broken off.")
    ] = False,
    http: HttpOption = "",
    data: DataOption = DEFAULT_DATA,
) -> None:
    """All matching records, one a line, newest first. What has come stands in the file if it is broken off."""
    query = _query(user, caller, callee, outcome, talk_min) | period(since, until)
    if resume and output is None:
        raise CliError("--resume: name the file with --output", EXIT_USAGE)
    with Api(Places(http, data).api) as api:
        if output is None:
            _copy(api, query, form, sys.stdout, None, lambda cursor, count: None)
        else:
            Export(output, form, query).run(api, resume=resume)


class Export:
    """An export to a file, with a mark beside it that says how far it came: `FILE.resume`."""

    def __init__(self, path: Path, form: Format, query: Query) -> None:
        self._path, self._form, self._query = path, form, query
        self._mark = path.with_name(f"{path.name}.resume")

    def run(self, api: Api, *, resume: bool) -> None:
        """Writes it. Raises CliError."""
        asked = {"format": self._form.value, "query": {k: v for k, v in self._query.items() if v is not None}}
        cursor, size = (self._read(asked)) if resume else (None, 0)
        if not resume and self._mark.exists():
            raise CliError(
                f"{self._path} is of an export that was broken off: --resume goes on, or remove {self._mark}"
            )
        with self._path.open("r+" if resume else "w", encoding="utf-8", newline="") as file:
            file.seek(size)
            file.truncate()

            def passed(next_cursor: str | None, count: int) -> None:
                file.flush()
                if next_cursor is None:
                    self._mark.unlink(missing_ok=True)
                else:
                    # Behind the page that it tells of: what a crash leaves half written is cut off by `resume`.
                    self._mark.write_text(json_module.dumps(asked | {"cursor": next_cursor, "size": file.tell()}))
                _progress(count, done=next_cursor is None)

            try:
                _copy(api, self._query, self._form, file, cursor, passed)
            except (KeyboardInterrupt, CliError, OSError):
                if self._mark.exists():
                    typer.echo(f"broken off; `--output {self._path} --resume` goes on there", err=True)
                raise

    def _read(self, asked: dict[str, Any]) -> tuple[str, int]:
        try:
            mark = json_module.loads(self._mark.read_text(encoding="utf-8"))
            cursor, size = str(mark["cursor"]), int(mark["size"])
        except FileNotFoundError:
            raise CliError(f"nothing to resume: there is no {self._mark}", EXIT_USAGE) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CliError(f"cannot read {self._mark}: {error}; begin anew without --resume") from None
        if any(mark.get(name) != value for name, value in asked.items()):
            raise CliError("--resume: the export that was broken off had other options; give the same", EXIT_USAGE)
        return cursor, size


def _copy(
    api: Api, query: Query, form: Format, file: IO[str], cursor: str | None, passed: Callable[[str | None, int], None]
) -> None:
    """Page after page; `passed` hears of each with the cursor of the next and how many records there were."""
    count, begins = 0, cursor is None
    for items, next_cursor in api.pages("/v1/cdrs", query, cursor):
        if form is Format.CSV:
            file.write(csv_of(items) if begins else csv_rows(items))
        else:
            file.writelines(as_json_text(item) + "\n" for item in items)
        begins = False
        count += len(items)
        passed(next_cursor, count)


def _progress(count: int, *, done: bool) -> None:
    if done:
        typer.echo(f"{count} records", err=True)
    elif count % PROGRESS_EVERY == 0:
        typer.echo(f"{count} records so far", err=True)


def _query(
    user: list[str] | None,
    caller: list[str] | None,
    callee: list[str] | None,
    outcome: list[str] | None,
    talk_min: float | None,
) -> dict[str, Any]:
    talk_ms = None if talk_min is None else round(talk_min * 1000)
    return {"user": user, "caller": caller, "callee": callee, "outcome": outcome, "talk_ms_min": talk_ms}


def period(since: str | None, until: str | None) -> dict[str, str | None]:
    """The query for records that started in [since, until); a time without an offset is UTC. Raises CliError."""
    begin, end = _moment("--since", since), _moment("--until", until)
    if begin is not None and end is not None and begin >= end:
        raise CliError("--until must be later than --since", EXIT_USAGE)
    return {name: at.isoformat() if at else None for name, at in (("since", begin), ("until", end))}


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise CliError(f"{option}: {text!r} is no time (for example 2026-01-31T12:00:00Z)", EXIT_USAGE) from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).astimezone(UTC)
