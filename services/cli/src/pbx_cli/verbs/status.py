"""`sip-pbx status`: whether everything is ready, and what it does now. Exit code 1 where something is not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import typer

from pbx_cli.errors import CliError
from pbx_cli.verbs.api import Api, reason_of
from pbx_cli.verbs.places import DEFAULT_DATA, DataOption, HttpOption, JsonOption, Places
from pbx_cli.verbs.table import Column, show

TIMEOUT_S = 3.0
_COLUMNS = (
    Column("PROCESS", "name"),
    Column("PID", "pid"),
    Column("READY", "ready"),
    Column("WHAT IS WRONG", "detail"),
)


@dataclass(frozen=True, slots=True)
class State:
    """One process, or the API."""

    name: str
    pid: int | None
    ready: str
    """yes, no, or away"""
    detail: str | None


def status(http: HttpOption = "", data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Is everything ready? Each process, with the check that fails; exit code 1 where one is not ready."""
    places = Places(http, data)
    states = [state_of(each) for each in places.processes] or [_probe("events", None, places.api)]
    show([asdict(state) for state in states], _COLUMNS, as_json=json)
    if not json:
        typer.echo(_counts(places))
    raise typer.Exit(int(any(state.ready != "yes" for state in states)))


def state_of(process: dict[str, Any]) -> State:
    """What a process of `up` says of itself."""
    name, pid = str(process["name"]), int(process["pid"])
    at = process.get("addresses", {}).get("http")
    if not at:
        alive = Path(f"/proc/{pid}").exists()
        return State(name, pid, "yes" if alive else "away", None if alive else "there is no such process")
    return _probe(name, pid, at if "://" in at else f"http://{at}")


def _probe(name: str, pid: int | None, base: str) -> State:
    try:
        answer = httpx.get(f"{base}/readyz", timeout=TIMEOUT_S)
        checks = answer.json()["checks"]
    except httpx.HTTPError as error:
        return State(name, pid, "away", f"{base}: {reason_of(error)}")
    except (ValueError, KeyError, TypeError):
        return State(name, pid, "away", f"{base} does not speak as a service of sip-pbx")
    wrong = [f"{check}: {state['detail'] or 'not ok'}" for check, state in checks.items() if not state["ok"]]
    return State(name, pid, "no" if wrong or answer.status_code != httpx.codes.OK else "yes", "; ".join(wrong) or None)


def _counts(places: Places) -> str:
    try:
        with Api(places.api) as api:
            calls = sum(1 for _ in api.items("/v1/calls"))
            phones = sum(1 for _ in api.items("/v1/registrations"))
    except CliError as error:
        return f"calls and registrations are not known: {error}"
    return f"{calls} calls, {phones} registrations"
