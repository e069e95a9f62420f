"""The HTTP API: CDRs, live calls, registrations, events and webhooks. OpenAPI at /docs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import FastAPI, Query, Response
from pydantic import BaseModel, Field
from ulid import ULID

from pbx_events.api import problem
from pbx_events.clients import Bindings, Calls
from pbx_events.storage.store import Store, Webhook
from pbx_events.webhook.delivery import cloud_event
from pbx_events.webhook.signing import new_secret
from pbx_events.webhook.target import check_url
from pbx_runtime.health import Health
from pbx_runtime.http import system_routes
from pbx_runtime.metrics import Registry

Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many items")]
Cursor = Annotated[str, Query(max_length=256, description="`next` of the page before")]
Word = Annotated[str, Query(max_length=256)]


class Page(BaseModel):
    """A page of a list."""

    items: list[dict[str, Any]]
    next: str | None = Field(description="Cursor of the next page; null at the end")


class NewWebhook(BaseModel):
    """A subscription to make."""

    url: str = Field(max_length=2048, examples=["https://crm.example/hooks/pbx"])
    types: list[str] = Field(default=[], max_length=64, description='Event types, "call.*" for a prefix; empty for all')


@dataclass(frozen=True, slots=True)
class Ports:
    """What the API serves from."""

    store: Store
    bindings: Bindings
    calls: Calls
    hooks_changed: Callable[[], Awaitable[None]]
    allow_private: bool = False


def make_app(ports: Ports, health: Health, registry: Registry) -> FastAPI:
    """The application."""
    app = FastAPI(title="sip-pbx", version="1", description="CDRs, calls, registrations, events and webhooks")
    problem.install(app)
    app.router.routes.extend(system_routes(health, registry))
    _records(app, ports)
    _live(app, ports)
    _webhooks(app, ports)
    return app


def _page(items: list[dict[str, Any]], limit: int, key: str) -> Page:
    """A page of what was asked for with limit + 1."""
    more = len(items) > limit
    return Page(items=items[:limit], next=items[limit - 1][key] if more else None)


def _unix_ms(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    zoned = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (zoned - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _records(app: FastAPI, ports: Ports) -> None:
    store = ports.store

    @app.get("/v1/cdrs", tags=["CDRs"])
    async def list_cdrs(
        limit: Limit = 50,
        cursor: Cursor = "",
        caller: Word = "",
        callee: Word = "",
        outcome: Word = "",
        user: Word = "",
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Page:
        """Call detail records that started in [since, until), newest first. A time without a zone is UTC."""
        found = await store.list_cdrs(
            before=cursor,
            limit=limit + 1,
            caller=caller,
            callee=callee,
            outcome=outcome,
            user=user,
            since_ms=_unix_ms(since),
            until_ms=_unix_ms(until),
        )
        return _page(found, limit, "id")

    @app.get("/v1/cdrs/{call_id}", tags=["CDRs"])
    async def get_cdr(call_id: str) -> dict[str, Any]:
        """One call detail record."""
        return await store.cdr(call_id)

    @app.get("/v1/events", tags=["Events"])
    async def list_events(
        limit: Limit = 50, cursor: Cursor = "", after: Cursor = "", call_id: Word = "", type: Word = ""
    ) -> Page:
        """Events as CloudEvents: newest first, or oldest first behind `after`."""
        found = await store.list_events(after=after, before=cursor, limit=limit + 1, call_id=call_id, kind=type)
        return _page([cloud_event(event) for event in found], limit, "id")


def _live(app: FastAPI, ports: Ports) -> None:
    @app.get("/v1/calls", tags=["Calls"])
    async def list_calls(limit: Limit = 50, cursor: Cursor = "", user: Word = "") -> Page:
        """Live calls, oldest first."""
        items, cursor = await ports.calls.page(user, limit, cursor)
        return Page(items=items, next=cursor or None)

    @app.delete("/v1/calls/{call_id}", tags=["Calls"], status_code=202)
    async def hang_up(call_id: str, reason: Word = "") -> dict[str, Any]:
        """Ends a live call."""
        await ports.calls.hang_up(call_id, reason)
        return {"call_id": call_id}

    @app.get("/v1/registrations", tags=["Registrations"])
    async def list_registrations(limit: Limit = 50, cursor: Cursor = "", aor: Word = "") -> Page:
        """Bindings, in order of address-of-record."""
        items, cursor = await ports.bindings.page(aor, limit, cursor)
        return Page(items=items, next=cursor or None)


def _webhooks(app: FastAPI, ports: Ports) -> None:
    store = ports.store

    @app.post("/v1/webhooks", tags=["Webhooks"], status_code=201)
    async def add_webhook(new: NewWebhook) -> dict[str, Any]:
        """Makes a subscription. The secret is shown this once."""
        check_url(new.url, allow_private=ports.allow_private)
        hook = Webhook(str(ULID()), new.url, new_secret(), tuple(new.types), True, int(time.time() * 1000))
        await store.add_webhook(hook)
        await ports.hooks_changed()
        return _shown(hook) | {"secret": hook.secret}

    @app.get("/v1/webhooks", tags=["Webhooks"])
    async def list_webhooks() -> Page:
        """All subscriptions, with what is on its way."""
        backlog = await store.backlog()
        items = []
        for hook in await store.list_webhooks():
            counts = {state: backlog.get((hook.id, state), 0) for state in ("pending", "delivered", "dead")}
            items.append(_shown(hook) | {"deliveries": counts})
        return Page(items=items, next=None)

    @app.delete("/v1/webhooks/{hook_id}", tags=["Webhooks"], status_code=204)
    async def remove_webhook(hook_id: str) -> Response:
        """Ends a subscription and what is on its way."""
        await store.remove_webhook(hook_id)
        await ports.hooks_changed()
        return Response(status_code=204)


def _shown(hook: Webhook) -> dict[str, Any]:
    return {"id": hook.id, "url": hook.url, "types": list(hook.types), "enabled": hook.enabled}
