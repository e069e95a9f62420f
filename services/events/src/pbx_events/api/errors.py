"""Every error of the API by its code: what it means and what to do.

The pages /errors/{code} and docs/errors.md are this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of error. A code never changes its meaning; new ones may come."""

    code: str
    status: int
    title: str
    remedy: str


_ALL: Final = (
    Code(
        "invalid_argument",
        400,
        "A value makes no sense",
        "The detail says which value and why: it has the right form, and still cannot be done.",
    ),
    Code("token_needed", 401, "A token is needed", "Send `Authorization: Bearer` and a token."),
    Code(
        "unknown_token", 401, "The token is not known", "It was removed, or rotated away, or mistyped: ask for another."
    ),
    Code("expired_token", 401, "The token has expired", "Ask an administrator for another, or to rotate it in time."),
    Code("scope_missing", 403, "The token may not do this", "The detail names the scope that is missing."),
    Code(
        "foreign_page",
        403,
        "A web page of somebody else may be asking",
        "Without a token this machine alone is answered, under its own name: send a token, or ask from no browser.",
    ),
    Code("not_allowed", 403, "Not allowed", "The detail says why."),
    Code("not_found", 404, "There is no such thing", "Look at the list for its id: it may have ended or been removed."),
    Code("unknown_route", 404, "There is no such route", "Compare the path with /docs."),
    Code("method_not_allowed", 405, "The route has no such method", "The header Allow names those that it has."),
    Code("already_exists", 409, "It is there already", "Change the one that is there, or take another name."),
    Code("conflict", 409, "Not in this state", "The detail says which state or limit stands against it."),
    Code(
        "idempotency_in_progress",
        409,
        "The first request with this key is still under way",
        "Ask again after a moment: the answer of the first then comes.",
    ),
    Code("too_large", 413, "The request is too large", "The detail names the limit."),
    Code("not_json", 415, "The body is no JSON", "Send it with `Content-Type: application/json`."),
    Code(
        "unknown_parameter",
        422,
        "The route has no such parameter",
        "The detail names the right ones. Nothing was done: a mistyped filter must not filter nothing.",
    ),
    Code(
        "repeated_parameter", 422, "A parameter stands there twice", "This one takes one value: leave the others out."
    ),
    Code("invalid_parameter", 422, "A parameter has the wrong form", "The detail says which form it must have."),
    Code("unknown_value", 422, "A parameter or field has no such value", "The detail names the right ones."),
    Code(
        "unknown_event_type",
        422,
        "There is no such event type",
        "docs/event-catalogue.md lists all; `call.*` takes a kind.",
    ),
    Code(
        "invalid_cursor",
        422,
        "The cursor is not one of this list",
        "Send what `next` of the page before said, unchanged.",
    ),
    Code(
        "invalid_time",
        422,
        "The time cannot be read",
        "RFC 3339, for example 2026-01-31T12:00:00Z; in a URL a + is written %2B.",
    ),
    Code("reversed_range", 422, "The range ends before it begins", "`since` must be earlier than `until`."),
    Code(
        "unknown_field",
        422,
        "The body has a field that is not known",
        "The detail names the right ones. Nothing was changed.",
    ),
    Code("missing_field", 422, "A field or parameter is missing", "The detail names it."),
    Code("invalid_field", 422, "A field of the body has the wrong form", "The detail says which form it must have."),
    Code(
        "invalid_json",
        422,
        "The body is not the JSON of this route",
        "Send JSON with `Content-Type: application/json`.",
    ),
    Code("invalid_request", 422, "Several things are wrong with the request", "`errors` lists each with its own code."),
    Code(
        "idempotency_key_reused",
        422,
        "The key was used for another request",
        "A key belongs to one request for 24 hours: make a new one for a new request.",
    ),
    Code(
        "rate_limited",
        429,
        "Too many requests",
        "Wait for `Retry-After` seconds; the headers RateLimit-* tell the rest.",
    ),
    Code("internal", 500, "A fault of ours", "Report it with the request id, which also stands in the log of events."),
    Code(
        "unavailable",
        503,
        "What is asked is away",
        "The detail names the database, the registrar, signaling or a limit: ask again after `Retry-After` seconds.",
    ),
)
CODES: Final[Mapping[str, Code]] = MappingProxyType({each.code: each for each in _ALL})
