"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from pbx_runtime import errors

PROBLEM_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 5
"""What a client is asked to wait where something is away: about as long as a restart takes."""
STATUS_OF: dict[type[errors.ServiceError], int] = {
    errors.InvalidArgument: 400,
    errors.NotFound: 404,
    errors.PermissionDenied: 403,
    errors.FailedPrecondition: 409,
    errors.Unavailable: 503,
}


def problem(status: int, title: str, detail: str = "") -> JSONResponse:
    """One problem document."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(body, status_code=status, media_type=PROBLEM_TYPE)


def install(app: FastAPI) -> None:
    """Lets every error come out as a problem document."""

    async def service_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, errors.ServiceError)
        status = next((code for kind, code in STATUS_OF.items() if isinstance(error, kind)), 500)
        answer = problem(status, type(error).__name__, error.detail)
        if status == 503:
            answer.headers["retry-after"] = str(RETRY_AFTER_S)
        return answer

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return problem(error.status_code, str(error.detail))

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        places = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return problem(422, "the request does not fit", places)

    app.add_exception_handler(errors.ServiceError, service_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)
