"""docs/settings.md: every setting of the services, with its default and what it says, from their own classes."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from pbx_runtime.settings import ServiceSettings, variable_of

SERVICES: Final = ("registrar", "signaling", "media_relay", "events", "operator")


def page(made: str) -> str:
    """The document."""
    lines = [
        "# Settings\n",
        made,
        "Each is an environment variable; a secret may instead stand in a file that `<NAME>_FILE` names. What is wrong",
        "is told at the start, by the variable's name. [ARCHITECTURE.md](../ARCHITECTURE.md#settings) says how they",
        "belong together; the chart's values are in its `values.yaml`.\n",
    ]
    lines += _section("All services", ServiceSettings)
    for kind in _classes():
        lines += _section(kind.service, kind)
    return "\n".join(lines) + "\n"


def _section(title: str, kind: type[ServiceSettings]) -> list[str]:
    """What this class adds to those of all services, or has in another way."""
    rows, told = [], _texts(kind)
    for name, field in kind.model_fields.items():
        if name in kind.__annotations__:
            meaning = _by_variable(kind, " ".join(told.get(name, "").split()))
            rows.append(f"| `{variable_of(name, field)}` | {_shown(field)} | {meaning} |")
    return [f"\n## {title}\n", "| variable | default | meaning |", "|---|---|---|", *rows]


def _texts(kind: type[ServiceSettings]) -> dict[str, str]:
    """What each field says of itself; one that is given another default says what it said."""
    return _told(ServiceSettings) | _told(kind)


def _by_variable(kind: type[ServiceSettings], text: str) -> str:
    """A text that names fields, with their variables instead."""

    def named(found: re.Match[str]) -> str:
        field = kind.model_fields.get(found[1])
        return f"`{variable_of(found[1], field)}`" if field is not None else found[0]

    return re.sub(r"`(\w+)`", named, text)


def untold() -> list[str]:
    """Settings that say nothing of themselves."""
    kinds: list[type[ServiceSettings]] = [ServiceSettings, *_classes()]
    found = [f"{kind.__name__}.{name}" for kind in kinds for name in kind.model_fields if name not in _texts(kind)]
    return sorted(found)


def _classes() -> Iterator[type[ServiceSettings]]:
    for service in SERVICES:
        module = import_module(f"pbx_{service}.settings")
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, ServiceSettings) and kind.__module__ == module.__name__:
                yield kind


def _told(kind: type[ServiceSettings]) -> dict[str, str]:
    """The text below each field of a class."""
    source = Path(inspect.getsourcefile(kind) or "").read_text(encoding="utf-8")
    (node,) = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ClassDef) and n.name == kind.__name__]
    found = {}
    for field, below in itertools.pairwise(node.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and (text := _text(below)):
            found[field.target.id] = text
    return found


def _text(node: ast.stmt) -> str:
    """What a statement says that is a text; empty for any other."""
    value = node.value if isinstance(node, ast.Expr) else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def _shown(field: Any) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "random" if field.default_factory else "needed"
    if default in (None, "", ()) or isinstance(default, SecretStr):
        return "none"
    if isinstance(default, bool):
        return f"`{int(default)}`"
    return f"`{','.join(map(str, default)) if isinstance(default, tuple) else default}`"
