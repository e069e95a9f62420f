"""From a pydantic model to a structural OpenAPI schema, as a CustomResourceDefinition wants it. Pure."""

from __future__ import annotations

import copy
from typing import Any, Final

from pydantic import BaseModel

DROPPED: Final = frozenset({"title", "additionalProperties", "$defs"})
"""What pydantic writes and a structural schema refuses."""
INT_OR_STRING: Final = "x-kubernetes-int-or-string"
"""Marks the one kind of value that may have two types."""


def openapi(model: type[BaseModel], rules: dict[str, list[dict[str, str]]]) -> dict[str, Any]:
    """The schema of a model with references resolved, and with its CEL rules."""
    raw = model.model_json_schema(by_alias=True)
    schema = _structural(raw, raw.get("$defs", {}))
    for path, entries in rules.items():
        _at(schema, path)["x-kubernetes-validations"] = copy.deepcopy(entries)
    return schema


def _at(schema: dict[str, Any], path: str) -> dict[str, Any]:
    for key in path.split(".") if path else ():
        schema = schema["properties"][key]
    return schema


def _structural(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    node = _resolved(node, definitions)
    # Copied: a definition used twice would be written as a YAML alias.
    out = {key: copy.deepcopy(value) for key, value in node.items() if key not in DROPPED}
    if "properties" in out:
        out["properties"] = {k: _structural(v, definitions) for k, v in out["properties"].items()}
    if "items" in out:
        out["items"] = _structural(out["items"], definitions)
    extra = node.get("additionalProperties")
    if isinstance(extra, dict):
        out["additionalProperties"] = _structural(extra, definitions)
    if "const" in out:
        out["enum"] = [out.pop("const")]
    if out.get("type") == "integer":
        out["format"] = "int64"
    return out


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A node without $ref, and with `X | None` as X, nullable and without a default."""
    if "anyOf" in node and INT_OR_STRING not in node:
        options = [option for option in node["anyOf"] if option.get("type") != "null"]
        rest = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        return {**_resolved(options[0], definitions), **rest, "nullable": True}
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return {**_resolved(target, definitions), **rest}
    return node
