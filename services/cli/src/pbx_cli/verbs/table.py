"""Tables for people and JSON for scripts. Pure but for the one `echo` at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import typer

from pbx_runtime.text import escaped_json, printable

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its title, and where its text comes from."""

    title: str
    key: str
    show: Callable[[Any], str] = lambda value: text_of(value)


def text_of(value: object) -> str:
    """A cell: nothing for None, lists joined. Control characters never reach the terminal."""
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return printable(str(value))


def as_json_text(value: object, indent: int | None = None) -> str:
    """JSON for a script or a person: letters as they are, what a terminal would obey as escapes."""
    return escaped_json(json.dumps(value, indent=indent, ensure_ascii=False))


def when(value: object) -> str:
    """A time of the API (RFC 3339 text, or milliseconds since the epoch) in local time."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        moment = datetime.fromtimestamp(value / 1000, UTC)
    else:
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            return text_of(value)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def seconds(value: object) -> str:
    """Milliseconds as seconds with one digit."""
    return f"{value / 1000:.1f}" if isinstance(value, int | float) else text_of(value)


def value_at(row: Row, key: str) -> Any:
    """The value under a dotted key; None where a part is missing. `a|b` takes the first that is there."""
    for alternative in key.split("|"):
        value: Any = row
        for part in alternative.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            return value
    return None


def render(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """An aligned table with a header line."""
    cells = [[column.title for column in columns]]
    for row in rows:
        values = [value_at(row, column.key) for column in columns]
        cells.append(
            ["-" if v is None or v == "" else text_of(c.show(v)) for c, v in zip(columns, values, strict=True)]
        )
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells)
    return "\n".join(lines)


def show(rows: Iterable[Row], columns: Sequence[Column], *, as_json: bool, empty: str = "nothing") -> None:
    """Print rows as a table, or as a JSON list."""
    found = list(rows)
    if as_json:
        typer.echo(as_json_text(found, indent=1))
    else:
        typer.echo(render(found, columns) if found else empty)


def show_one(row: Row, *, as_json: bool) -> None:
    """Print one object: its fields one a line, or JSON."""
    if as_json:
        typer.echo(as_json_text(row, indent=1))
        return
    flat = dict(_flatten(row))
    width = max(map(len, flat), default=0)
    for key, value in flat.items():
        typer.echo(f"{text_of(key).ljust(width)}  {text_of(value)}")


def _flatten(row: Row, prefix: str = "") -> Iterable[tuple[str, object]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for index, item in enumerate(value):
                yield from _flatten(item, f"{prefix}{key}.{index}.")
        else:
            yield f"{prefix}{key}", value
