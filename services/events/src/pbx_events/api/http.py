"""The HTTP API: CDRs, live calls, registrations, events and webhooks. OpenAPI at /docs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import FastAPI, Header, Response
from fastapi.responses import StreamingResponse

from pbx_events.api import document, problem
from pbx_events.api.document import answers
from pbx_events.api.export import csv_of
from pbx_events.api.feed import MEDIA_TYPE, Feeds, feed
from pbx_events.api.models import CallPage, Cdr, CdrPage, EventPage, HangUp, RegistrationPage
from pbx_events.api.values import NO_NUL, Accept, Cursor, Id, Limit, Page, Ports, Word, unix_ms
from pbx_events.api.webhooks import webhook_routes
from pbx_events.webhook.cloudevent import cloud_event
from pbx_runtime.health import Health
from pbx_runtime.http import system_routes
from pbx_runtime.metrics import Registry

CSV_TYPE: Final = "text/csv"


def make_app(ports: Ports, health: Health, registry: Registry) -> FastAPI:
    """The application."""
    app = FastAPI(title="sip-pbx", version="1", description="CDRs, calls, registrations, events and webhooks")
    problem.install(app)
    document.install(app)
    app.router.routes.extend(system_routes(health, registry))
    _records(app, ports)
    _live(app, ports)
    app.include_router(webhook_routes(ports))
    return app


def _page(items: list[dict[str, Any]], limit: int, key: str) -> Page:
    """A page of what was asked for with limit + 1."""
    more = len(items) > limit
    return Page(items=items[:limit], next=items[limit - 1][key] if more else None)


def _records(app: FastAPI, ports: Ports) -> None:
    store, feeds = ports.store, Feeds()

    @app.get(
        "/v1/cdrs",
        tags=["CDRs"],
        response_model=None,
        responses=answers(CdrPage, text_csv="The page as a table, with a line of names"),
    )
    async def list_cdrs(
        limit: Limit = 50,
        cursor: Cursor = "",
        caller: Word = "",
        callee: Word = "",
        outcome: Word = "",
        user: Word = "",
        since: datetime | None = None,
        until: datetime | None = None,
        accept: Accept = "",
    ) -> Any:
        """Call detail records that started in [since, until), newest first. A time without a zone is UTC.

        As CSV where `text/csv` is accepted; the next page's cursor then stands in the header `x-next-cursor`.
        """
        found = await store.list_cdrs(
            before=cursor,
            limit=limit + 1,
            caller=caller,
            callee=callee,
            outcome=outcome,
            user=user,
            since_ms=unix_ms(since),
            until_ms=unix_ms(until),
        )
        page = _page(found, limit, "id")
        if CSV_TYPE not in accept:
            return page
        return Response(csv_of(page.items), media_type=CSV_TYPE, headers={"x-next-cursor": page.next or ""})

    @app.get("/v1/cdrs/{call_id}", tags=["CDRs"], response_model=None, responses=answers(Cdr))
    async def get_cdr(call_id: Id) -> dict[str, Any]:
        """One call detail record."""
        return await store.cdr(call_id)

    @app.get(
        "/v1/events",
        tags=["Events"],
        response_model=None,
        responses=answers(EventPage, text_event_stream="Events as they come, each with its id"),
    )
    async def list_events(
        limit: Limit = 50,
        cursor: Cursor = "",
        after: Cursor = "",
        call_id: Word = "",
        type: Word = "",
        accept: Accept = "",
        last_event_id: Annotated[str, Header(max_length=64, pattern=NO_NUL)] = "",
    ) -> Any:
        """Events as CloudEvents: newest first, or oldest first behind `after`.

        As server-sent events where `text/event-stream` is accepted: from now on, or after `Last-Event-ID`.
        """
        if MEDIA_TYPE in accept:
            stream = feeds.counted(feed(store, last_event_id or after, call_id, type, ports.stopping))
            return StreamingResponse(stream, media_type=MEDIA_TYPE, headers={"cache-control": "no-store"})
        found = await store.list_events(after=after, before=cursor, limit=limit + 1, call_id=call_id, kind=type)
        return _page([cloud_event(event) for event in found], limit, "id")


def _live(app: FastAPI, ports: Ports) -> None:
    @app.get("/v1/calls", tags=["Calls"], response_model=None, responses=answers(CallPage))
    async def list_calls(limit: Limit = 50, cursor: Cursor = "", user: Word = "") -> Page:
        """Live calls, oldest first."""
        items, cursor = await ports.calls.page(user, limit, cursor)
        return Page(items=items, next=cursor or None)

    @app.delete(
        "/v1/calls/{call_id}", tags=["Calls"], status_code=202, response_model=None, responses=answers(HangUp, 202)
    )
    async def hang_up(call_id: Id, reason: Word = "") -> dict[str, Any]:
        """Ends a live call."""
        await ports.calls.hang_up(call_id, reason)
        return {"call_id": call_id}

    @app.get("/v1/registrations", tags=["Registrations"], response_model=None, responses=answers(RegistrationPage))
    async def list_registrations(limit: Limit = 50, cursor: Cursor = "", aor: Word = "") -> Page:
        """Bindings, in order of address-of-record."""
        items, cursor = await ports.bindings.page(aor, limit, cursor)
        return Page(items=items, next=cursor or None)
