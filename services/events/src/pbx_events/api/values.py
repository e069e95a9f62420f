"""What the routes share: pages, parameters, and the ports that they are served from."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import Header, Path, Query

from pbx_events.clients import Bindings, Calls
from pbx_events.storage.store import Store
from pbx_events.storage.subscription import Webhook
from pbx_events.webhook.sender import Answer

Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many items")]
NO_NUL: Final = r"^[^\x00]*$"
"""PostgreSQL stores every character but this one."""
Cursor = Annotated[str, Query(max_length=256, pattern=NO_NUL, description="`next` of the page before")]
Word = Annotated[str, Query(max_length=256, pattern=NO_NUL)]
Id = Annotated[str, Path(max_length=256, pattern=NO_NUL)]
Number = Annotated[int | None, Query(ge=0, le=2**62, description="`next` of the page before")]
Accept = Annotated[str, Header(include_in_schema=False)]


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list."""

    items: list[dict[str, Any]]
    next: str | None


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


def unix_ms(moment: datetime | None) -> int | None:
    """A time as milliseconds since the Unix epoch; one without a zone is UTC."""
    if moment is None:
        return None
    zoned = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (zoned - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
