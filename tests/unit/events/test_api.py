"""The HTTP API over a real store: pages, CSV, the live feed, webhooks; and no input makes it fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pbx_events.api.feed import feed
from pbx_events.api.http import make_app
from pbx_events.api.values import Ports
from pbx_events.clients import Bindings, Calls
from pbx_events.envelope import decode
from pbx_events.storage.store import Store
from pbx_events.storage.subscription import Webhook
from pbx_events.webhook.sender import Answer
from pbx_runtime.health import Health
from pbx_runtime.metrics import Registry
from support.call_events import answered_call, cancelled_call


async def _nothing() -> None:
    return


async def _post(hook: Webhook, message_id: str, body: bytes) -> Answer:
    assert json.loads(body)["id"] == message_id
    return Answer(204, 0, f"{json.loads(body)['type']} for {hook.id}")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(f"sqlite+aiosqlite:///{tmp_path}/e.sqlite")
    await made.migrate()
    heard = [decode(event.SerializeToString()) for event in answered_call() + cancelled_call()]
    await made.take([event for event in heard if event is not None], [])
    yield made
    await made.close()


@pytest.fixture
async def api(store: Store) -> AsyncIterator[httpx.AsyncClient]:
    bindings, calls = Bindings("127.0.0.1:9"), Calls(())
    app = make_app(Ports(store, bindings, calls, _nothing, _post, lambda: None), Health(), Registry())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        yield client
    await bindings.close()


async def test_cdrs_by_page_and_as_csv(api: httpx.AsyncClient):
    first = (await api.get("/v1/cdrs?limit=1")).json()
    assert [cdr["call_id"] for cdr in first["items"]] == ["01GONE"]
    second = (await api.get("/v1/cdrs", params={"limit": 1, "cursor": first["next"]})).json()
    assert ([cdr["call_id"] for cdr in second["items"]], second["next"]) == (["01CALL"], None)
    since = (await api.get("/v1/cdrs", params={"since": "2023-11-14T22:13:20Z"})).json()
    assert len(since["items"]) == 2
    assert (await api.get("/v1/cdrs", params={"until": "2023-11-14T22:13:20"})).json()["items"] == []
    table = await api.get("/v1/cdrs?limit=1", headers={"accept": "text/csv"})
    head, row = table.text.splitlines()
    assert (head.split(",")[0], row.split(",")[0]) == ("id", "01GONE")
    assert table.headers["x-next-cursor"] == "01GONE"


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


async def test_the_feed_resumes_after_an_event(store: Store):
    known = await store.list_events(call_id="01CALL")
    stream = feed(store, known[2].id, "01CALL", "")
    async with asyncio.timeout(5):
        assert await anext(stream) == "retry: 2000\n\n"
        assert (await anext(stream)).startswith(f"id: {known[1].id}\nevent: {known[1].type}\ndata: {{")
        assert (await anext(stream)).startswith(f"id: {known[0].id}\n")


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
