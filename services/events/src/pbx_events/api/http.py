"""The HTTP API: CDRs, live calls, registrations, events and webhooks. OpenAPI at /openapi.json, a page at /docs."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, FastAPI, Header, Path, Query, Response
from fastapi.responses import StreamingResponse

from pbx_events.api import document, pages, problem
from pbx_events.api.accounts import account_routes
from pbx_events.api.document import answers
from pbx_events.api.export import csv_of
from pbx_events.api.feed import MEDIA_TYPE, Feeds, feed
from pbx_events.api.models import (
    CallPage,
    Cdr,
    CdrPage,
    CloudEvent,
    EventPage,
    HangUp,
    LiveCall,
    RegistrationPage,
)
from pbx_events.api.problem import wrong
from pbx_events.api.strict import StrictRoute
from pbx_events.api.tokens import token_routes
from pbx_events.api.values import (
    NO_NUL,
    Accept,
    CallsPage,
    Cursor,
    EventTypes,
    Id,
    Limit,
    Moment,
    Outcome,
    Page,
    Ports,
    Token,
    Users,
    Word,
    Words,
    period,
)
from pbx_events.api.webhooks import webhook_routes
from pbx_events.storage.archive import CdrFilter, EventFilter
from pbx_events.webhook.cloudevent import cloud_event
from pbx_runtime.health import Health
from pbx_runtime.http import system_routes
from pbx_runtime.metrics import Registry

CSV_TYPE: Final = "text/csv"
DURATION_MAX: Final = 2**53
"""Milliseconds: what JSON's readers take exactly."""
Outcomes = Annotated[list[Outcome] | None, Query(description="Several: name it again")]
Least = Annotated[int | None, Query(ge=0, le=DURATION_MAX, description="Milliseconds")]
Aor = Annotated[str | None, Query(max_length=256, pattern=r"^[^@\x00]+@[^@\x00]+$", description="user@domain")]
DESCRIPTION: Final = """CDRs, live calls, registrations, events, accounts and webhooks of a sip-pbx.

Every error is a problem document with a `code` whose page is at `/errors/{code}`. Fields may be added to answers;
what is there keeps its meaning within `/v1`."""


def make_app(ports: Ports, health: Health, registry: Registry) -> FastAPI:
    """The application."""
    app = FastAPI(
        title="sip-pbx",
        version="1",
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.answered = ports.store
    problem.install(app)
    document.install(app)
    app.router.routes.extend(system_routes(health, registry))
    app.router.routes.extend(pages.routes(app))
    app.include_router(_cdrs(ports))
    app.include_router(_events(ports))
    app.include_router(_calls(ports))
    app.include_router(_registrations(ports))
    app.include_router(account_routes(ports.bindings.accounts))
    app.include_router(webhook_routes(ports))
    app.include_router(token_routes(ports.store, ports.tokens_changed))
    return app


def _page(items: list[dict[str, Any]], limit: int, key: str) -> Page:
    """A page of what was asked for with limit + 1."""
    more = len(items) > limit
    return Page(items=items[:limit], next=items[limit - 1][key] if more else None)


def _cdrs(ports: Ports) -> APIRouter:
    router, store = APIRouter(tags=["cdrs"], route_class=StrictRoute), ports.store

    @router.get(
        "/v1/cdrs",
        response_model=None,
        responses=answers(CdrPage, text_csv="The page as a table, with a line of names"),
    )
    async def list_cdrs(
        limit: Limit = 50,
        cursor: Cursor = None,
        caller: Users = None,
        callee: Users = None,
        user: Users = None,
        outcome: Outcomes = None,
        since: Moment = None,
        until: Moment = None,
        duration_ms_min: Least = None,
        talk_ms_min: Least = None,
        accept: Accept = "",
    ) -> Any:
        """Call detail records that started in [since, until), newest first. A time without a zone is UTC.

        As CSV where `text/csv` is accepted; the next page's cursor then stands in the header `x-next-cursor`.
        """
        since_ms, until_ms = period(since, until)
        found = await store.list_cdrs(
            CdrFilter(
                before=cursor or "",
                limit=limit + 1,
                caller=tuple(caller or ()),
                callee=tuple(callee or ()),
                user=tuple(user or ()),
                outcome=tuple(outcome or ()),
                since_ms=since_ms,
                until_ms=until_ms,
                duration_ms_min=duration_ms_min,
                talk_ms_min=talk_ms_min,
            )
        )
        page = _page(found, limit, "id")
        if CSV_TYPE not in accept:
            return page
        return Response(csv_of(page.items), media_type=CSV_TYPE, headers={"x-next-cursor": page.next or ""})

    @router.get("/v1/cdrs/{call_id}", response_model=None, responses=answers(Cdr))
    async def get_cdr(call_id: Id) -> dict[str, Any]:
        """One call detail record."""
        return await store.cdr(call_id)

    return router


def _events(ports: Ports) -> APIRouter:
    router, store, feeds = APIRouter(tags=["events"], route_class=StrictRoute), ports.store, Feeds()

    @router.get(
        "/v1/events",
        response_model=None,
        responses=answers(EventPage, text_event_stream="Events as they come, each with its id"),
    )
    async def list_events(
        limit: Limit = 50,
        cursor: Cursor = None,
        after: Cursor = None,
        call_id: Words = None,
        type: EventTypes = None,
        since: Moment = None,
        until: Moment = None,
        accept: Accept = "",
        last_event_id: Annotated[str, Header(max_length=64, pattern=NO_NUL)] = "",
    ) -> Any:
        """Events as CloudEvents: newest first, or oldest first behind `after`.

        As server-sent events where `text/event-stream` is accepted: from now on, or after `Last-Event-ID`.
        """
        since_ms, until_ms = period(since, until)
        asked = EventFilter(
            before=cursor or "",
            after=after or "",
            limit=limit + 1,
            call_id=tuple(call_id or ()),
            kind=tuple(type or ()),
            since_ms=since_ms,
            until_ms=until_ms,
        )
        if MEDIA_TYPE in accept:
            if until is not None or since is not None or cursor is not None:
                name = "until" if until is not None else "since" if since is not None else "cursor"
                raise wrong(
                    "invalid_parameter", ("query", name), "does not go with the live feed: it begins at `after`"
                )
            stream = feeds.counted(feed(store, last_event_id or after or "", asked, ports.stopping))
            return StreamingResponse(stream, media_type=MEDIA_TYPE, headers={"cache-control": "no-store"})
        if after is not None and cursor is not None:
            raise wrong(
                "invalid_parameter", ("query", "cursor"), "goes to older events, `after` to newer ones: send one"
            )
        found = await store.list_events(asked)
        return _page([cloud_event(event) for event in await store.in_context(found)], limit, "id")

    @router.get("/v1/events/{event_id}", response_model=None, responses=answers(CloudEvent))
    async def get_event(event_id: Annotated[str, Path(min_length=1, max_length=64, pattern=NO_NUL)]) -> dict[str, Any]:
        """One event."""
        event = await store.event(event_id)
        return cloud_event((await store.in_context([event]))[0])

    return router


def _calls(ports: Ports) -> APIRouter:
    router = APIRouter(tags=["calls"], route_class=StrictRoute)

    @router.get("/v1/calls", response_model=None, responses=answers(CallPage))
    async def list_calls(limit: Limit = 50, cursor: Cursor = None, user: Word = None) -> Page:
        """Live calls, oldest first, of the signaling instances that answer in a second."""
        items, next_cursor, unreachable = await ports.calls.page(user or "", limit, cursor or "")
        return CallsPage(items, next_cursor or None, unreachable)

    @router.get("/v1/calls/{call_id}", response_model=None, responses=answers(LiveCall))
    async def get_call(call_id: Id) -> dict[str, Any]:
        """One live call. One that is over is a CDR."""
        return await ports.calls.one(call_id)

    @router.delete("/v1/calls/{call_id}", status_code=202, response_model=None, responses=answers(HangUp, 202))
    async def hang_up(call_id: Id, reason: Annotated[Word, Query(max_length=128)] = None) -> dict[str, Any]:
        """Ends a live call."""
        await ports.calls.hang_up(call_id, reason or "")
        return {"call_id": call_id}

    return router


def _registrations(ports: Ports) -> APIRouter:
    router = APIRouter(tags=["registrations"], route_class=StrictRoute)

    @router.get("/v1/registrations", response_model=None, responses=answers(RegistrationPage))
    async def list_registrations(limit: Limit = 50, cursor: Token = None, aor: Aor = None) -> Page:
        """Bindings, in order of address-of-record."""
        items, next_cursor = await ports.bindings.page(aor or "", limit, cursor or "")
        return Page(items=items, next=next_cursor or None)

    return router
