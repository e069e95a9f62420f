"""The event catalogue from proto/pbx/events and the tables of `pbx_events.webhook.shape`: a page and JSON Schemas."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Container, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import grpc_tools
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from pbx_events.envelope import TYPES
from pbx_events.webhook.shape import ADDED, CALL_FIELDS, DOCUMENTS, LEFT_OUT, RENAMED, ZERO_IS_NOTHING

PROTO: Final = Path(__file__).resolve().parent.parent / "proto"
FILE: Final = "pbx/events/v1/events.proto"
"""Its own messages, and those of the files that it imports."""
Field = descriptor_pb2.FieldDescriptorProto
REF: Final = "#/components/schemas/"
NAMES: Final = {"LegInfo": "EventLeg", "StreamStatistics": "EventMedia"}
"""Messages inside of events, by the names that their schemas have."""
INTEGERS: Final = (Field.TYPE_INT64, Field.TYPE_UINT64, Field.TYPE_INT32, Field.TYPE_UINT32)
MANY: Final = "|---|---|---|"


class Catalogue:
    """What the contract says, with its comments."""

    def __init__(self) -> None:
        with tempfile.NamedTemporaryFile() as made:
            well_known = Path(grpc_tools.__file__).parent / "_proto"
            options = ["protoc", f"-I{PROTO}", f"-I{well_known}", "--include_source_info", "--include_imports"]
            if protoc.main([*options, f"--descriptor_set_out={made.name}", FILE]):
                raise SystemExit("protoc refuses the contract")
            files = descriptor_pb2.FileDescriptorSet.FromString(Path(made.name).read_bytes()).file
        self._messages: dict[str, tuple[tuple[str, int], Any]] = {}
        self._comments: dict[tuple[tuple[str, int], tuple[int, ...]], str] = {}
        self._enums: dict[str, Any] = {}
        for file in files:
            self._read(file)

    def _read(self, file: Any) -> None:
        for found in file.source_code_info.location:
            path = tuple(found.path)
            if path[:1] == (4,) and len(path) == 4:  # a field of a message
                self._comments[(file.name, path[1]), path[2:]] = " ".join(found.leading_comments.split())
        for number, message in enumerate(file.message_type):
            self._messages[message.name] = ((file.name, number), message)
        self._enums |= {enum.name: enum for enum in file.enum_type}

    def events(self) -> Iterator[tuple[str, str, str]]:
        """Each event: its type, the message of its payload, what it means."""
        place, message = self._messages["Event"]
        for index, field in enumerate(message.field):
            name = field.name.replace("_", ".", 1)
            if field.HasField("oneof_index") and name in TYPES:
                yield name, field.type_name.rpartition(".")[2], self._comments.get((place, (2, index)), "")

    def fields(self, message_name: str, left_out: Container[str] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
        """The fields of a message as JSON Schemas."""
        place, message = self._messages[message_name]
        for index, field in enumerate(message.field):
            if field.name not in left_out:
                yield field.name, self._schema(field) | {"description": self._comments.get((place, (2, index)), "")}

    def _schema(self, field: Any) -> dict[str, Any]:
        kind = field.type_name.rpartition(".")[2]
        if kind.endswith("Entry"):  # of a map
            return {"type": "object", "additionalProperties": {"type": "integer"}}
        if field.type == Field.TYPE_MESSAGE:
            ref = {"$ref": REF + NAMES[kind]}
            is_list = field.label == Field.LABEL_REPEATED
            return {"type": "array", "items": ref} if is_list else {"anyOf": [ref, {"type": "null"}]}
        if field.type == Field.TYPE_ENUM:
            return {"type": ["string", "null"], "enum": [*self._words(kind), None]}
        if field.type in INTEGERS or field.type == Field.TYPE_DOUBLE:
            number = "number" if field.type == Field.TYPE_DOUBLE else "integer"
            may_lack = field.proto3_optional or field.name in ZERO_IS_NOTHING
            return {"type": [number, "null"] if may_lack else number}
        if field.type == Field.TYPE_BOOL:
            return {"type": "boolean"}
        return {"type": ["string", "null"]}

    def _words(self, enum_name: str) -> list[str]:
        prefix = "".join(f"_{char}" if char.isupper() else char.upper() for char in enum_name).lstrip("_") + "_"
        words = self._enums[enum_name].value
        return [value.name.removeprefix(prefix.upper()).lower() for value in words if value.number]


@cache
def _catalogue() -> Catalogue:
    return Catalogue()


def data_schema(kind: str, message: str) -> dict[str, Any]:
    """The schema of the data of a type of event."""
    properties: dict[str, Any] = {
        "call_id": {"type": ["string", "null"], "description": "The call; null for events of none"},
        "sequence": {"type": ["integer", "null"], "description": "Counts the events of one call from 1, without gaps"},
    }
    if kind.startswith(("call.", "recording.", "media.", "cdr.")):
        properties |= {name: _plain(form, text) for name, (form, text) in CALL_FIELDS.items()}
    left_out = {name for of, name in LEFT_OUT if of == kind}
    for name, schema in _catalogue().fields(message, left_out):
        if (kind, name) in DOCUMENTS:
            schema = {"$ref": REF + name.capitalize(), "description": schema["description"]}
        properties[RENAMED.get((kind, name), name)] = schema
    properties |= {name: _plain(form, text) for name, (form, text) in ADDED.get(kind, {}).items()}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _plain(form: str, text: str) -> dict[str, Any]:
    kind = {"date-time": "string"}.get(form, form)
    more = {"format": form} if form != kind else {}
    return {"type": [kind, "null"], "description": text} | more


def name_of(kind: str) -> str:
    """The name of a type's schema: call.media_timeout is CallMediaTimeoutEvent."""
    return "".join(part.capitalize() for part in kind.replace(".", "_").split("_")) + "Event"


def schemas() -> str:
    """services/events/src/pbx_events/api/event_schemas.json."""
    parts: dict[str, Any] = {}
    for message, name in NAMES.items():
        properties = dict(_catalogue().fields(message))
        parts[name] = {"type": "object", "properties": properties, "required": list(properties)}
    events = {
        kind: {"name": name_of(kind), "description": meaning, "data": data_schema(kind, message)}
        for kind, message, meaning in _catalogue().events()
    }
    return json.dumps({"parts": parts, "events": events}, indent=1) + "\n"


def page(made: str) -> str:
    """docs/event-catalogue.md."""
    lines = [
        "# Event catalogue\n",
        made,
        "Every event is a CloudEvent 1.0; this page lists the fields of its `data` by type. In the API and webhooks a",
        "type reads `io.pbx.call.ended.v1`; wherever you name one, `call.ended` means the same, and `call.*` its kind.",
        "`null` means: not known, or none. The JSON Schemas are in `/openapi.json`, each under the name given here.\n",
    ]
    for kind, message, meaning in _catalogue().events():
        lines += [f"## {kind}\n", f"{meaning} Schema `{name_of(kind)}`.\n"]
        lines += _table(data_schema(kind, message)["properties"])
    for message, name in NAMES.items():
        lines += [f"## {name}\n", *_table(dict(_catalogue().fields(message)))]
    return "\n".join(lines).rstrip() + "\n"


def _table(properties: dict[str, Any]) -> list[str]:
    rows = [f"| `{name}` | {_form(each)} | {each['description']} |" for name, each in properties.items()]
    return ["| field | form | meaning |", MANY, *rows, ""]


def _form(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"] if word) + " or null"
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2]) + ", as the API answers it"
    if "anyOf" in schema:
        return str(schema["anyOf"][0]["$ref"].rpartition("/")[2]) + " or null"
    if schema.get("type") == "array":
        return f"list of {schema['items']['$ref'].rpartition('/')[2]}"
    kind = schema["type"]
    if kind == "object":
        return "object of numbers"
    return f"{schema.get('format', kind[0])} or null" if isinstance(kind, list) else str(kind)
