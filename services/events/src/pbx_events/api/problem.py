"""Errors as RFC 9457 problem documents: each with a code (`errors.CODES`), whose page `type` leads to."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from pbx_events.api.errors import CODES
from pbx_runtime import errors, logs

PROBLEM_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 5
"""What a client is asked to wait where something is away: about as long as a restart takes."""
SHOWN_MAX: Final = 80
"""Characters of a wrong value that an error repeats."""
ERRORS_MAX: Final = 20
"""Wrong things that one answer names: somebody who sends a thousand needs no thousand sentences."""
CODE_OF: Final[Mapping[type[errors.ServiceError], str]] = {
    errors.InvalidArgument: "invalid_argument",
    errors.NotFound: "not_found",
    errors.AlreadyExists: "already_exists",
    errors.PermissionDenied: "not_allowed",
    errors.FailedPrecondition: "conflict",
    errors.ResourceExhausted: "rate_limited",
    errors.Unavailable: "unavailable",
}
_CODE_OF_STATUS: Final = {404: "unknown_route", 405: "method_not_allowed", 413: "too_large"}
_CODE_OF_PYDANTIC: Final = {
    "missing": "missing_field",
    "extra_forbidden": "unknown_field",
    "json_invalid": "invalid_json",
    "model_attributes_type": "invalid_json",
    "dict_type": "invalid_json",
    "literal_error": "unknown_value",
    "enum": "unknown_value",
}

_log = logs.get_logger("api")


def problem(code: str, detail: str = "", **more: Any) -> JSONResponse:
    """One problem document."""
    known = CODES[code]
    body = {"type": f"/errors/{code}", "title": known.title, "status": known.status, "code": code, "detail": detail}
    answer = JSONResponse(body | more, status_code=known.status, media_type=PROBLEM_TYPE)
    if known.status in (429, 503):
        answer.headers["retry-after"] = str(RETRY_AFTER_S)
    return answer


def wrong(code: str, place: Sequence[str | int], message: str) -> RequestValidationError:
    """An error of one parameter or field, as the routes raise it where pydantic cannot see it."""
    return RequestValidationError([{"type": code, "loc": tuple(place), "msg": message}])


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence on a name or value that does not exist: which do, and which was probably meant."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"{shown(name)} is no {what}{meant} (known: {', '.join(names) or 'none'})"


def shown(value: object) -> str:
    """A wrong value as an error repeats it: quoted, and not longer than it need be."""
    text = str(value)
    return repr(text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…")


def install(app: FastAPI) -> None:
    """Lets every error come out as a problem document."""

    async def service_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, errors.ServiceError)
        code = next((code for kind, code in CODE_OF.items() if isinstance(error, kind)), "internal")
        return problem(code, error.detail, **request_id_of(request.scope))

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = _CODE_OF_STATUS.get(error.status_code, "invalid_argument")
        answer = problem(
            code, f"{request.method} {shown(request.url.path)}: {error.detail}", **request_id_of(request.scope)
        )
        answer.headers.update(error.headers or {})
        return answer

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        found = [_item(each) for each in error.errors()[:ERRORS_MAX]]
        codes = {item["code"] for item in found}
        detail = "; ".join(f"{item['in']}: {item['detail']}" for item in found)
        code = codes.pop() if len(codes) == 1 else "invalid_request"
        return problem(code, detail, errors=found, **request_id_of(request.scope))

    async def fault(request: Request, error: Exception) -> JSONResponse:
        _log.error("a request failed", path=request.url.path, exc_info=error, **request_id_of(request.scope))
        return problem("internal", "see the log of events for this request id", **request_id_of(request.scope))

    app.add_exception_handler(errors.ServiceError, service_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, fault)


def request_id_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """The id of a request, as a member of a problem document; nothing where it has none."""
    found = scope.get("request_id")
    return {"request_id": found} if isinstance(found, str) else {}


def _item(error: Mapping[str, Any]) -> dict[str, str]:
    """One wrong thing: where, which code, and a sentence."""
    place = [str(part) for part in error["loc"]]
    kind, message = error["type"], str(error["msg"]).removeprefix("Value error, ")
    if kind in CODES:
        return {"in": ".".join(place), "code": kind, "detail": message}
    code = _CODE_OF_PYDANTIC.get(kind) or ("invalid_field" if place[:1] == ["body"] else "invalid_parameter")
    if code == "invalid_json":
        message = "a JSON object is needed, with Content-Type: application/json"
    elif kind == "missing":
        message = "is missing"
    elif "input" in error and isinstance(error["input"], str | int | float):
        message = f"{shown(error['input'])}: {message[:1].lower()}{message[1:]}"
    return {"in": ".".join(place), "code": code, "detail": message}
