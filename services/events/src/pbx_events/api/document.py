"""The OpenAPI document: what FastAPI gathers from the routes, with the errors and the tokens that every route has."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from pbx_events.api.models import Problem, WrongThing
from pbx_events.api.problem import PROBLEM_TYPE

COMMON: Final = {
    "400": "A value makes no sense",
    "401": "A token is needed, or is not known",
    "403": "The token may not do this; or, without a token, a web page of another origin asks",
    "415": "A body is no application/json",
    "422": "A parameter or the body has the wrong form, or a name or value that does not exist",
    "429": "Too many requests: wait for Retry-After seconds",
    "500": "A fault of ours",
    "503": "The database, the registrar or signaling is away: try again",
}
NAMED: Final = {"404": "There is no such thing", "409": "Not in this state"}
"""Of routes that name one thing, or make one."""
TOKEN: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token of /v1/tokens, PBX_API_TOKEN, or PBX_API_READ_TOKEN to read; none is needed on loopback "
    "where neither of those two is set",
}
SERVERS: Final = [{"url": "/", "description": "Where this document came from"}]


def answers(model: type[BaseModel], status: int = 200, **others: str) -> dict[int | str, dict[str, Any]]:
    """What a route answers: a shape, and other media types by name with a sentence each."""
    documented: dict[str, Any] = {"model": model, "description": (model.__doc__ or "").splitlines()[0]}
    if others:
        documented["content"] = {
            media_type.replace("_", "/", 1).replace("_", "-"): {"schema": {"type": "string", "description": text}}
            for media_type, text in others.items()
        }
    return {status: documented}


def install(app: FastAPI) -> None:
    """Lets `/openapi.json` tell of errors and tokens too."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(
                get_openapi(
                    title=app.title,
                    version=app.version,
                    description=app.description,
                    routes=app.routes,
                    servers=SERVERS,
                    license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
                )
            )
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # as FastAPI's documentation has it


def _events(schemas: dict[str, Any]) -> dict[str, Any]:
    """Adds a schema for every type of event, and `Event`, which is any of them. Returns the section `webhooks`."""
    text = resources.files("pbx_events.api").joinpath("event_schemas.json").read_text(encoding="utf-8")
    catalogue = json.loads(text)
    schemas |= catalogue["parts"]
    webhooks, names = {}, []
    for kind, event in catalogue["events"].items():
        head = schemas["CloudEvent"]["properties"]
        typed = {"type": {"type": "string", "const": f"io.pbx.{kind}.v1"}, "data": event["data"]}
        schemas[event["name"]] = {
            "type": "object",
            "description": event["description"],
            "properties": {**head, **typed},
            "required": schemas["CloudEvent"]["required"],
        }
        names.append(event["name"])
        webhooks[kind] = {"post": _delivery(kind, event)}
    # The last is for types that a newer version sends.
    schemas["Event"] = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in (*names, "CloudEvent")]}
    return webhooks


def _delivery(kind: str, event: dict[str, Any]) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{event['name']}"}
    return {
        "operationId": f"on_{kind.replace('.', '_')}",
        "tags": ["deliveries"],
        "summary": event["description"],
        "requestBody": {"required": True, "content": {"application/cloudevents+json": {"schema": schema}}},
        "responses": {"2XX": {"description": "Taken; anything else is tried again"}},
    }


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    document["webhooks"] = _events(schemas)
    schemas["EventPage"]["properties"]["items"]["items"] = {"$ref": "#/components/schemas/Event"}
    one = document["paths"]["/v1/events/{event_id}"]["get"]["responses"]["200"]
    one["content"]["application/json"]["schema"] = {"$ref": "#/components/schemas/Event"}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for model in (WrongThing, Problem):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schema.pop("$defs", None)
        schemas[model.__name__] = schema
    components["securitySchemes"] = {"token": TOKEN}
    document["security"] = [{"token": []}, {}]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            known = COMMON | (NAMED if "{" in path or method == "post" else {})
            operation["responses"] |= {status: _error(text) for status, text in known.items()}
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
    return document


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that need not be sent: there is no null in a URL."""
    kinds = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {**{name: value for name, value in schema.items() if name != "anyOf"}, **kinds[0]}


def _error(text: str) -> dict[str, Any]:
    return {"description": text, "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
