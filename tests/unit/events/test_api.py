"""The HTTP API over a real store: pages, CSV, the live feed, webhooks; and no input makes it fail."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pbx.events.v1 import events_pb2
from pbx_events.api.feed import Feeds, feed
from pbx_events.api.http import make_app
from pbx_events.api.values import Ports
from pbx_events.clients import Bindings, Calls
from pbx_events.envelope import decode
from pbx_events.instances import Given
from pbx_events.storage import hooks
from pbx_events.storage.archive import EventFilter
from pbx_events.storage.store import Store
from pbx_events.storage.subscription import Webhook
from pbx_events.webhook.sender import Answer
from pbx_runtime.errors import Unavailable
from pbx_runtime.health import Health
from pbx_runtime.metrics import Registry
from support.call_events import answered_call, cancelled_call

CALL, GONE = "01HF7YAT00CA11000000000000", "01HF7YAT00G0NE000000000000"
"""Call ids of the time at which the calls begin."""


async def _nothing() -> None:
    return


async def _post(hook: Webhook, message_id: str, body: bytes) -> Answer:
    assert json.loads(body)["id"] == message_id
    return Answer(204, 0, f"{json.loads(body)['type']} for {hook.id}")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(f"sqlite+aiosqlite:///{tmp_path}/e.sqlite")
    await made.migrate()
    heard = [decode(event.SerializeToString()) for event in answered_call(CALL) + cancelled_call(GONE)]
    await made.take([event for event in heard if event is not None], [])
    yield made
    await made.close()


@pytest.fixture
async def api(store: Store) -> AsyncIterator[httpx.AsyncClient]:
    bindings, calls = Bindings("127.0.0.1:9"), Calls(Given(()))
    app = make_app(Ports(store, bindings, calls, _nothing, _post, lambda: None, asyncio.Event()), Health(), Registry())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        yield client
    await bindings.close()


async def test_cdrs_by_page_and_as_csv(api: httpx.AsyncClient):
    first = (await api.get("/v1/cdrs?limit=1")).json()
    assert [cdr["call_id"] for cdr in first["items"]] == [GONE]
    second = (await api.get("/v1/cdrs", params={"limit": 1, "cursor": first["next"]})).json()
    assert ([cdr["call_id"] for cdr in second["items"]], second["next"]) == ([CALL], None)
    since = (await api.get("/v1/cdrs", params={"since": "2023-11-14T22:13:20Z"})).json()
    assert len(since["items"]) == 2
    assert (await api.get("/v1/cdrs", params={"until": "2023-11-14T22:13:20"})).json()["items"] == []
    table = await api.get("/v1/cdrs?limit=1", headers={"accept": "text/csv"})
    head, row = table.text.splitlines()
    assert (head.split(",")[0], row.split(",")[0]) == ("id", GONE)
    assert table.headers["x-next-cursor"] == GONE


async def test_a_webhook_from_making_to_removing(api: httpx.AsyncClient):
    refused = await api.post("/v1/webhooks", json={"url": "http://127.0.0.1/x"})
    assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")
    made = (await api.post("/v1/webhooks", json={"url": "https://crm.example/x", "types": ["call.*"]})).json()
    path = f"/v1/webhooks/{made['id']}"
    assert (await api.post(f"{path}/replay", json={})).status_code == 400
    assert (await api.post(f"{path}/replay", json={"since": "2023-01-01T00:00:00Z"})).json()["events"] == 9
    (shown,) = (await api.get("/v1/webhooks")).json()["items"]
    assert (shown["deliveries"]["pending"], "secret" in shown) == (9, False)
    assert (await api.post(f"{path}/test")).json()["excerpt"] == f"io.pbx.webhook.test.v1 for {made['id']}"
    rotated = (await api.post(f"{path}/rotate-secret")).json()
    assert rotated["secret"] != made["secret"]
    assert (await api.get(f"{path}/attempts")).json() == {"items": [], "next": None}
    assert (await api.delete(path)).status_code == 204
    for method, end in (("GET", "/attempts"), ("POST", "/test"), ("POST", "/rotate-secret"), ("DELETE", "")):
        assert (await api.request(method, path + end)).status_code == 404


async def test_a_webhook_is_changed_where_named_and_disabled_and_enabled(api: httpx.AsyncClient, store: Store):
    made = (await api.post("/v1/webhooks", json={"url": "https://crm.example/x", "user": "1004"})).json()
    path = f"/v1/webhooks/{made['id']}"
    changed = await api.patch(path, json={"url": "https://crm.example/y", "types": ["call.ended"], "user": None})
    assert changed.status_code == 200, changed.text
    expected = {"url": "https://crm.example/y", "types": ["call.ended"], "user": None, "enabled": True}
    assert changed.json().items() >= expected.items()
    assert (await api.patch(path, json={"enabled": False})).json()["enabled"] is False
    assert (await store.webhook(made["id"])).secret == made["secret"]
    assert (await api.patch(path, json={"enabled": True})).json() == (await api.get(path)).json() == changed.json()
    for wrong, status in (
        ({}, 400),
        ({"url": "http://127.0.0.1/"}, 400),
        ({"types": None}, 422),
        ({"direction": "up"}, 422),
    ):
        refused = await api.patch(path, json=wrong)
        assert (refused.status_code, refused.headers["content-type"]) == (status, "application/problem+json"), wrong
    assert (await api.get(path)).json() == changed.json()
    assert (await api.patch("/v1/webhooks/none", json={"enabled": True})).status_code == 404
    assert (await api.get("/v1/webhooks/none")).status_code == 404


async def test_there_are_no_more_webhooks_than_the_limit(api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hooks, "HOOKS_MAX", 2)
    made = [await api.post("/v1/webhooks", json={"url": "https://crm.example/x"}) for _ in range(3)]
    assert [answer.status_code for answer in made] == [201, 201, 409]
    assert "remove one" in made[2].json()["detail"]
    assert (await api.delete(f"/v1/webhooks/{made[0].json()['id']}")).status_code == 204
    assert (await api.post("/v1/webhooks", json={"url": "https://crm.example/x"})).status_code == 201


async def test_feeds_are_limited_and_one_that_ends_makes_room(store: Store):
    feeds = Feeds(most=1)
    first = feeds.counted(feed(store, "", EventFilter(), asyncio.Event()))
    assert await anext(first) == "retry: 2000\n\n"
    with pytest.raises(Unavailable, match="1 clients follow"):
        feeds.counted(feed(store, "", EventFilter(), asyncio.Event()))
    await first.aclose()
    assert feeds.open == 0
    assert await anext(feeds.counted(feed(store, "", EventFilter(), asyncio.Event()))) == "retry: 2000\n\n"


async def test_the_document_for_people_names_every_route_and_filter(api: httpx.AsyncClient):
    paths = (await api.get("/openapi.json")).json()["paths"]
    routes = {(method.upper(), path): route for path, routes in paths.items() for method, route in routes.items()}
    text = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
    assert set(re.findall(r"^\| `([A-Z]+) (\S+)` \|", text, re.MULTILINE)) == set(routes)
    parameters = {each["name"].lower() for route in routes.values() for each in route.get("parameters", ())}
    untold = {name for name in parameters - {"hook_id", "event_id", "token_id", "reason"} if name not in text.lower()}
    assert not untold, "parameters of which docs/api.md says nothing"
    outcomes = {name.removeprefix("OUTCOME_").lower() for name in events_pb2.Outcome.keys()[1:]}
    assert all(f"`{outcome}`" in text for outcome in outcomes), outcomes


async def test_what_is_away_asks_to_come_again(api: httpx.AsyncClient):
    answer = await api.get("/v1/registrations")
    assert (answer.status_code, answer.headers.get("retry-after")) == (503, "5")


async def test_the_feed_resumes_after_an_event(store: Store):
    known = await store.list_events(EventFilter(call_id=(CALL,)))
    stream = feed(store, known[2].id, EventFilter(call_id=(CALL,)), asyncio.Event())
    async with asyncio.timeout(5):
        assert await anext(stream) == "retry: 2000\n\n"
        assert (await anext(stream)).startswith(f"id: {known[1].id}\nevent: {known[1].type}\ndata: {{")
        assert (await anext(stream)).startswith(f"id: {known[0].id}\n")


async def test_a_feed_ends_when_the_process_stops(store: Store):
    stopping = asyncio.Event()
    stream = feed(store, "", EventFilter(), stopping)
    assert await anext(stream) == "retry: 2000\n\n"
    asyncio.get_running_loop().call_soon(stopping.set)
    async with asyncio.timeout(0.4):
        assert [text async for text in stream] == []


NASTY: list[Any] = ["", "\x00", "\ufffd", "'; DROP TABLE cdrs; --", "9" * 300, "-1", "1e400", "null", "9999-99-99"]


@pytest.mark.parametrize("value", NASTY)
async def test_no_input_makes_it_fail(api: httpx.AsyncClient, value: str):
    for name in ("limit", "cursor", "caller", "user", "outcome", "since", "until"):
        assert (await api.get("/v1/cdrs", params={name: value})).status_code < 500, name
    for name in ("after", "cursor", "call_id", "type"):
        assert (await api.get("/v1/events", params={name: value})).status_code < 500, name
    for body in (
        {"url": value},
        {"url": f"https://{value}/"},
        {"types": value},
        {"url": value, "types": [value]},
        value,
    ):
        assert (await api.post("/v1/webhooks", json=body)).status_code < 500, body
