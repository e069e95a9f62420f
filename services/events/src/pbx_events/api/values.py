"""What the routes share: pages, parameters, and the ports that they are served from."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import Header, Path, Query
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from pbx_events.api.problem import shown, unknown, wrong
from pbx_events.clients import Bindings, Calls
from pbx_events.envelope import TYPES
from pbx_events.storage.store import Store
from pbx_events.storage.subscription import Webhook
from pbx_events.webhook.sender import Answer

NO_NUL: Final = r"^[^\x00]*$"
"""PostgreSQL stores every character but this one."""
ULID_PATTERN: Final = r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$"
VALUES_MAX: Final = 50
"""Values of one filter: each is a term of the statement."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
TYPE_PREFIX, TYPE_SUFFIX = "io.pbx.", ".v1"


def _refusal(code: str, message: str) -> PydanticCustomError:
    return PydanticCustomError(code, "{message}", {"message": message})


def event_type(text: str) -> str:
    """A type of event as it is stored; both of its forms are taken, and `call.*` for a kind."""
    name = text.removeprefix(TYPE_PREFIX)
    name = name.removesuffix(TYPE_SUFFIX) if name != text else name
    if name in TYPES or (name.endswith(".*") and any(known.startswith(name[:-1]) for known in TYPES)):
        return name
    kinds = sorted({f"{known.partition('.')[0]}.*" for known in TYPES})
    raise _refusal("unknown_event_type", unknown("event type", text, [*TYPES, *kinds]))


def moment(value: object) -> object:
    """A time as people write it; one without a zone is UTC."""
    if not isinstance(value, str):
        return value if isinstance(value, datetime) else _no_time(value)
    try:
        if not re.match(r"\d{4}-\d\d-\d\d", value):
            raise ValueError
        found = datetime.fromisoformat(value)
    except ValueError:
        return _no_time(value)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _no_time(value: object) -> object:
    plus = "; in a URL a + is written %2B" if " " in str(value) else ""
    raise _refusal("invalid_time", f"{shown(value)} is no time, for example 2026-01-31T12:00:00Z{plus}")


def _cursor(text: str) -> str:
    if not re.match(ULID_PATTERN, text):
        raise _refusal("invalid_cursor", f"{shown(text)} is no cursor of this list: send `next` of the page before")
    return text


def _pattern(text: str) -> str:
    # Elsewhere it is a character like others: `*97` is dialled.
    if text == "*":
        raise _refusal("invalid_parameter", "'*': name at least one character before the *, or leave the filter out")
    return text


Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many items")]
Cursor = Annotated[
    str | None,
    Query(max_length=26, description="`next` of the page before", json_schema_extra={"pattern": ULID_PATTERN}),
    AfterValidator(lambda text: text if text is None else _cursor(text)),
]
Token = Annotated[
    str | None, Query(min_length=1, max_length=256, pattern=NO_NUL, description="`next` of the page before")
]
"""A cursor of a list that another service keeps; that service knows whether it is one."""
Word = Annotated[str | None, Query(min_length=1, max_length=256, pattern=NO_NUL)]
Value = Annotated[str, Field(min_length=1, max_length=256, pattern=NO_NUL)]
Words = Annotated[list[Value] | None, Query(max_length=VALUES_MAX, description="Several: name it again")]
Users = Annotated[
    list[Annotated[Value, AfterValidator(_pattern)]] | None,
    Query(max_length=VALUES_MAX, description="A user, or `10*` for all that begin so; several: name it again"),
]
EventType = Annotated[str, AfterValidator(event_type), Field(max_length=128)]
EventTypes = Annotated[
    list[EventType] | None,
    Query(max_length=VALUES_MAX, description="`call.ended`, or `call.*` for a kind; several: name it again"),
]
Moment = Annotated[datetime | None, BeforeValidator(lambda value: None if value is None else moment(value))]
Id = Annotated[str, Path(min_length=1, max_length=256, pattern=NO_NUL)]
Number = Annotated[int | None, Query(ge=0, le=2**62, description="`next` of the page before")]
Accept = Annotated[str, Header(include_in_schema=False)]
Outcome = Literal["answered", "cancelled", "busy", "rejected", "no_answer", "unreachable", "forbidden", "failed"]


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list."""

    items: list[dict[str, Any]]
    next: str | None


@dataclass(frozen=True, slots=True)
class CallsPage(Page):
    """A page of live calls, and whose calls are not in it."""

    unreachable: list[str]


@dataclass(frozen=True, slots=True)
class Ports:
    """What the API serves from."""

    store: Store
    bindings: Bindings
    calls: Calls
    hooks_changed: Callable[[], Awaitable[None]]
    post: Callable[[Webhook, str, bytes], Awaitable[Answer]]
    """One attempt to deliver a body under a message id."""
    wake: Callable[[], None]
    """There may be something to deliver."""
    stopping: asyncio.Event
    """Set when the process ends: feeds do then."""
    allow_private: bool = False
    tokens_changed: Callable[[], None] = lambda: None
    """A named token was made, rotated or removed here."""


def unix_ms(at: datetime | None) -> int | None:
    """A time as milliseconds since the Unix epoch; one without a zone is UTC."""
    if at is None:
        return None
    zoned = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return (zoned - EPOCH) // timedelta(milliseconds=1)


def period(since: datetime | None, until: datetime | None, place: str = "query") -> tuple[int | None, int | None]:
    """Both ends in milliseconds. Raises where the range ends before it begins."""
    since_ms, until_ms = unix_ms(since), unix_ms(until)
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise wrong("reversed_range", (place, "until"), "must be later than since")
    return since_ms, until_ms
