"""Requests that name what does not exist are refused, and told what does.

A query name that a route does not know would be passed over by FastAPI: the filter that was mistyped would filter
nothing, and a script would delete or export everything.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, get_origin

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from pbx_events.api.idempotency import once
from pbx_events.api.problem import unknown, wrong


class StrictRoute(APIRoute):
    """A route that knows its query names, takes a name twice only where it is a list, and does a repeated POST once."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind the check."""
        handler = super().get_route_handler()
        known = {param.alias: _is_list(param.field_info.annotation) for param in self.dependant.query_params}

        async def strict(request: Request) -> Response:
            names = [name for name, _ in request.query_params.multi_items()]
            for name in names:
                if name not in known:
                    raise wrong("unknown_parameter", ("query",), unknown("parameter of this route", name, known))
                if names.count(name) > 1 and not known[name]:
                    raise wrong("repeated_parameter", ("query", name), "takes one value")
            if request.method == "POST":
                return await once(request.app.state.answered, request, handler)
            return await handler(request)

        return strict


def _is_list(annotation: object) -> bool:
    return any(get_origin(part) is list for part in (annotation, *getattr(annotation, "__args__", ())))


class Body(BaseModel):
    """A body whose fields are all known; a field that is not is refused with the names of those that are."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _fields_are_known(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name in value:
                if name not in cls.model_fields:
                    message = unknown("field of this body", str(name), cls.model_fields)
                    raise PydanticCustomError("unknown_field", "{message}", {"message": message})
        return value


def left_out(**more: Any) -> Any:
    """A field of a PATCH: what is not named stays, and the schema has no default that a generated client would send."""

    def without_default(schema: dict[str, Any]) -> None:
        schema.pop("default", None)

    return Field(default=None, json_schema_extra=without_default, **more)
