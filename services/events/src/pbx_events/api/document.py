"""The OpenAPI document: what FastAPI gathers from the routes, with the errors and the tokens that every route has."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from pbx_events.api.models import Problem
from pbx_events.api.problem import PROBLEM_TYPE

COMMON: Final = {
    "400": "A value makes no sense",
    "401": "A token is needed, or is not known",
    "403": "The token may only read; or, without a token, a web page of another origin asks",
    "415": "A body is no application/json",
    "422": "A parameter or the body has the wrong form",
    "503": "The database, the registrar or signaling is away: try again",
}
NAMED: Final = {"404": "There is no such thing", "409": "Not in this state"}
"""Of routes that name one thing."""
TOKEN: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "PBX_API_TOKEN, or PBX_API_READ_TOKEN to read; none is needed on loopback where neither is set",
}


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
                get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            )
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # as FastAPI's documentation has it


def _complete(document: dict[str, Any]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = Problem.model_json_schema()
    components["securitySchemes"] = {"token": TOKEN}
    document["security"] = [{"token": []}, {}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            known = COMMON | (NAMED if "{" in path else {})
            operation["responses"] |= {status: _error(text) for status, text in known.items()}
    return document


def _error(text: str) -> dict[str, Any]:
    return {"description": text, "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
