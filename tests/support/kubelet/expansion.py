"""What a kubelet makes of `$(NAME)` in a container's text (kubernetes third_party/forked/golang/expansion). Pure.

Three rules that are easily taken for one: a variable's value may name variables declared before it, whatever their
source; `command` and `args` know all variables; the command of an exec probe knows only those with a plain `value`, as
they are written, and every other one as the empty string. Commands of lifecycle hooks are not expanded at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Container = dict[str, Any]


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` becomes its value where it is known and stays where it is not; `$$` is a `$`."""
    out: list[str] = []
    at = 0
    while at < len(text):
        if text[at] != "$" or at + 1 == len(text):
            out.append(text[at])
            at += 1
            continue
        piece, length = _after_dollar(text[at + 1 :], values)
        out.append(piece)
        at += 1 + length
    return "".join(out)


def _after_dollar(rest: str, values: Mapping[str, str]) -> tuple[str, int]:
    if rest[0] == "$":
        return "$", 1
    if rest[0] != "(":
        return "$" + rest[0], 1
    name, closed, _ = rest[1:].partition(")")
    if not closed:
        return "$(", 1
    return values.get(name, f"$({name})"), len(name) + 2


def environment_of(container: Container, source: Callable[[dict[str, Any]], str | None]) -> dict[str, str]:
    """A container's environment; `source` reads a `valueFrom`, None: an optional one that is missing."""
    known: dict[str, str] = {}
    for entry in container.get("env") or ():
        if entry.get("value"):
            known[entry["name"]] = expand(entry["value"], known)
        elif "valueFrom" in entry:
            value = source(entry["valueFrom"])
            if value is not None:
                known[entry["name"]] = value
        else:
            known[entry["name"]] = ""
    return known


def command_of(container: Container, environment: Mapping[str, str]) -> list[str]:
    """What the container runs."""
    parts = [*(container.get("command") or ()), *(container.get("args") or ())]
    return [expand(part, environment) for part in parts]


def probe_command(container: Container, command: Sequence[str]) -> list[str]:
    """What an exec probe of the container runs."""
    plain = {entry["name"]: entry.get("value", "") for entry in container.get("env") or ()}
    return [expand(part, plain) for part in command]
