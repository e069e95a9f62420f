"""Wrong requests, as a table: each is refused with its code and a sentence on what is right, and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pbx_events.api.errors import CODES
from pbx_events.api.http import make_app
from pbx_events.api.request_id import RequestIds
from pbx_events.api.values import Ports
from pbx_events.clients import Bindings, Calls
from pbx_events.instances import Given
from pbx_events.storage.store import Store
from pbx_events.storage.subscription import Webhook
from pbx_events.webhook.sender import Answer
from pbx_runtime.health import Health
from pbx_runtime.metrics import Registry

HOOK = "01KAR3W2K7X5J8C0V4R1H6N3PQ"
GOOD_URL = "https://crm.example/x"

# method, path with query, body, code, words of the detail
WRONG: list[tuple[str, str, Any, str, str]] = [
    (
        "GET",
        "/v1/cdrs?callers=1004",
        None,
        "unknown_parameter",
        "'callers' is no parameter of this route; did you mean caller?",
    ),
    ("GET", "/v1/cdrs?from=1004", None, "unknown_parameter", "known: limit, cursor, caller, callee, user, outcome"),
    ("GET", "/v1/cdrs?user_id=1004", None, "unknown_parameter", "user"),
    ("GET", "/v1/cdrs?Since=2026-01-01", None, "unknown_parameter", "did you mean since?"),
    ("GET", "/v1/cdrs?type=call.ended", None, "unknown_parameter", "'type' is no parameter of this route"),
    ("GET", "/v1/cdrs?limit=many", None, "invalid_parameter", "'many': input should be a valid integer"),
    ("GET", "/v1/cdrs?limit=0", None, "invalid_parameter", "greater than or equal to 1"),
    ("GET", "/v1/cdrs?limit=1001", None, "invalid_parameter", "less than or equal to 1000"),
    ("GET", "/v1/cdrs?limit=-1", None, "invalid_parameter", "greater than or equal to 1"),
    ("GET", "/v1/cdrs?limit=1.5", None, "invalid_parameter", "valid integer"),
    ("GET", "/v1/cdrs?limit=", None, "invalid_parameter", "valid integer"),
    ("GET", "/v1/cdrs?limit=1&limit=2", None, "repeated_parameter", "takes one value"),
    ("GET", "/v1/cdrs?cursor=2", None, "invalid_cursor", "'2' is no cursor of this list"),
    ("GET", "/v1/cdrs?cursor=", None, "invalid_cursor", "send `next` of the page before"),
    ("GET", f"/v1/cdrs?cursor={HOOK.lower()}", None, "invalid_cursor", "is no cursor of this list"),
    ("GET", f"/v1/cdrs?cursor={HOOK}X", None, "invalid_parameter", "at most 26 characters"),
    ("GET", "/v1/cdrs?outcome=busi", None, "unknown_value", "'busi': input should be 'answered', 'cancelled', 'busy'"),
    ("GET", "/v1/cdrs?outcome=", None, "unknown_value", "'answered'"),
    ("GET", "/v1/cdrs?outcome=Busy", None, "unknown_value", "'busy'"),
    ("GET", "/v1/cdrs?outcome=busy,failed", None, "unknown_value", "'busy,failed'"),
    ("GET", "/v1/cdrs?outcome=busy&outcome=lost", None, "unknown_value", "'lost'"),
    ("GET", "/v1/cdrs?caller=", None, "invalid_parameter", "at least 1 character"),
    ("GET", "/v1/cdrs?user=*", None, "invalid_parameter", "at least one character before the *"),
    ("GET", "/v1/cdrs?user=" + "9" * 257, None, "invalid_parameter", "at most 256 characters"),
    ("GET", "/v1/cdrs?callee=a%00b", None, "invalid_parameter", "pattern"),
    ("GET", "/v1/cdrs?" + "&".join("user=1" for _ in range(51)), None, "invalid_parameter", "at most 50 items"),
    (
        "GET",
        "/v1/cdrs?since=yesterday",
        None,
        "invalid_time",
        "'yesterday' is no time, for example 2026-01-31T12:00:00Z",
    ),
    ("GET", "/v1/cdrs?since=1700000000", None, "invalid_time", "is no time"),
    ("GET", "/v1/cdrs?since=", None, "invalid_time", "is no time"),
    ("GET", "/v1/cdrs?since=2026-13-01", None, "invalid_time", "'2026-13-01' is no time"),
    ("GET", "/v1/cdrs?since=20260101", None, "invalid_time", "is no time"),
    ("GET", "/v1/cdrs?since=2026-01-01T00:00:00+01:00", None, "invalid_time", "a + is written %2B"),
    ("GET", "/v1/cdrs?until=31.01.2026", None, "invalid_time", "'31.01.2026' is no time"),
    ("GET", "/v1/cdrs?since=2026-02-01&until=2026-01-01", None, "reversed_range", "must be later than since"),
    ("GET", "/v1/cdrs?since=2026-01-01&until=2026-01-01", None, "reversed_range", "must be later than since"),
    ("GET", "/v1/cdrs?since=2026-01-01T12:00:00Z&until=2026-01-01T12:30:00%2B01:00", None, "reversed_range", "later"),
    ("GET", "/v1/cdrs?talk_ms_min=-1", None, "invalid_parameter", "greater than or equal to 0"),
    ("GET", "/v1/cdrs?talk_ms_min=1s", None, "invalid_parameter", "valid integer"),
    ("GET", "/v1/cdrs?min_talk_ms=1", None, "unknown_parameter", "did you mean talk_ms_min?"),
    ("GET", "/v1/cdrs?limit=0&outcome=x", None, "invalid_request", "query.limit"),
    ("GET", "/v1/cdrs/none", None, "not_found", "no CDR none"),
    ("GET", "/v1/cdrs/none?full=1", None, "unknown_parameter", "known: none"),
    ("GET", "/v1/cdr", None, "unknown_route", "'/v1/cdr'"),
    ("GET", "/v2/cdrs", None, "unknown_route", "'/v2/cdrs'"),
    ("POST", "/v1/cdrs", {}, "method_not_allowed", "POST"),
    ("DELETE", "/v1/cdrs/x", None, "method_not_allowed", "DELETE"),
    ("GET", "/v1/events?type=call.finished", None, "unknown_event_type", "'call.finished' is no event type"),
    ("GET", "/v1/events?type=call.end", None, "unknown_event_type", "did you mean call.ended?"),
    ("GET", "/v1/events?type=calls.*", None, "unknown_event_type", "did you mean call.*?"),
    ("GET", "/v1/events?type=*", None, "unknown_event_type", "call.*"),
    ("GET", "/v1/events?type=io.pbx.call.end.v1", None, "unknown_event_type", "is no event type"),
    ("GET", "/v1/events?type=io.pbx.call.ended.v2", None, "unknown_event_type", "is no event type"),
    ("GET", "/v1/events?type=", None, "unknown_event_type", "registration.added"),
    ("GET", "/v1/events?types=call.ended", None, "unknown_parameter", "did you mean type?"),
    ("GET", "/v1/events?call=x", None, "unknown_parameter", "did you mean call_id?"),
    ("GET", "/v1/events?call_id=", None, "invalid_parameter", "at least 1 character"),
    ("GET", "/v1/events?after=x", None, "invalid_cursor", "is no cursor of this list"),
    ("GET", f"/v1/events?after={HOOK}&cursor={HOOK}", None, "invalid_parameter", "send one"),
    ("GET", "/v1/events?since=2026-02-01&until=2026-01-01", None, "reversed_range", "later than since"),
    ("GET", "/v1/events/none", None, "not_found", "no event none"),
    ("GET", "/v1/calls?callee=1008", None, "unknown_parameter", "known: limit, cursor, user"),
    ("GET", "/v1/calls?user=", None, "invalid_parameter", "at least 1 character"),
    ("GET", "/v1/calls?cursor=last", None, "invalid_cursor", "is no cursor"),
    ("GET", "/v1/calls/none", None, "not_found", "/v1/cdrs/none tells of one that is over"),
    ("DELETE", "/v1/calls/none", None, "not_found", "no live call none"),
    ("DELETE", "/v1/calls/none?because=x", None, "unknown_parameter", "known: reason"),
    ("DELETE", "/v1/calls/none?reason=" + "x" * 129, None, "invalid_parameter", "at most 128 characters"),
    ("DELETE", "/v1/calls", None, "method_not_allowed", "DELETE"),
    ("GET", "/v1/registrations?aor=1004", None, "invalid_parameter", "'1004'"),
    ("GET", "/v1/registrations?user=1004", None, "unknown_parameter", "known: limit, cursor, aor"),
    ("GET", "/v1/webhooks/none", None, "not_found", "no webhook none"),
    ("GET", "/v1/webhooks?enabled=false", None, "unknown_parameter", "known: none"),
    ("POST", "/v1/webhooks", None, "missing_field", "body: is missing"),
    ("POST", "/v1/webhooks", "text", "invalid_json", "a JSON object is needed"),
    ("POST", "/v1/webhooks", [], "invalid_json", "a JSON object is needed"),
    ("POST", "/v1/webhooks", {}, "missing_field", "body.url: is missing"),
    ("POST", "/v1/webhooks", {"uri": GOOD_URL}, "unknown_field", "did you mean url?"),
    ("POST", "/v1/webhooks", {"url": GOOD_URL, "type": ["call.*"]}, "unknown_field", "did you mean types?"),
    ("POST", "/v1/webhooks", {"url": GOOD_URL, "events": []}, "unknown_field", "known: url, types, user, direction"),
    ("POST", "/v1/webhooks", {"url": GOOD_URL, "secret": "x"}, "unknown_field", "'secret' is no field of this body"),
    ("POST", "/v1/webhooks", {"url": 7}, "invalid_field", "valid string"),
    ("POST", "/v1/webhooks", {"url": "crm.example"}, "invalid_argument", "https"),
    ("POST", "/v1/webhooks", {"url": "http://127.0.0.1/"}, "invalid_argument", "http"),
    (
        "POST",
        "/v1/webhooks",
        {"url": GOOD_URL, "types": ["call.endet"]},
        "unknown_event_type",
        "did you mean call.ended?",
    ),
    ("POST", "/v1/webhooks", {"url": GOOD_URL, "types": "call.*"}, "invalid_field", "valid list"),
    ("POST", "/v1/webhooks", {"url": GOOD_URL, "types": [""]}, "unknown_event_type", "call.initiated"),
    ("POST", "/v1/webhooks", {"url": GOOD_URL, "direction": "in"}, "unknown_value", "'from' or 'to'"),
    ("POST", "/v1/webhooks", {"url": GOOD_URL, "direction": "to"}, "invalid_field", "goes with a user"),
    ("POST", "/v1/webhooks", {"url": GOOD_URL, "user": ""}, "invalid_field", "at least 1 character"),
    ("PATCH", f"/v1/webhooks/{HOOK}", {}, "invalid_argument", "name what to change"),
    ("PATCH", f"/v1/webhooks/{HOOK}", {"enable": True}, "unknown_field", "did you mean enabled?"),
    ("PATCH", f"/v1/webhooks/{HOOK}", {"enabled": "yes"}, "invalid_field", "valid boolean"),
    ("PATCH", f"/v1/webhooks/{HOOK}", {"enabled": 1}, "invalid_field", "valid boolean"),
    ("PATCH", f"/v1/webhooks/{HOOK}", {"url": None}, "invalid_field", "valid string"),
    ("PATCH", f"/v1/webhooks/{HOOK}", {"types": ["*"]}, "unknown_event_type", "is no event type"),
    ("PATCH", f"/v1/webhooks/{HOOK}", {"direction": "to"}, "invalid_field", "goes with a user"),
    ("PATCH", "/v1/webhooks/none", {"enabled": True}, "not_found", "no webhook none"),
    ("PUT", f"/v1/webhooks/{HOOK}", {"url": GOOD_URL}, "method_not_allowed", "PUT"),
    ("DELETE", f"/v1/webhooks/{HOOK}?force=1", None, "unknown_parameter", "'force' is no parameter"),
    ("GET", f"/v1/webhooks/{HOOK}/attempts?cursor=x", None, "invalid_parameter", "valid integer"),
    ("GET", f"/v1/webhooks/{HOOK}/dead", None, "unknown_route", "dead"),
    ("POST", f"/v1/webhooks/{HOOK}/replay", {}, "invalid_argument", "name event_ids, since or until"),
    ("POST", f"/v1/webhooks/{HOOK}/replay", {"event_id": "x"}, "unknown_field", "did you mean event_ids?"),
    ("POST", f"/v1/webhooks/{HOOK}/replay", {"since": "monday"}, "invalid_time", "'monday' is no time"),
    ("POST", f"/v1/webhooks/{HOOK}/replay", {"since": 5}, "invalid_time", "is no time"),
    ("POST", f"/v1/webhooks/{HOOK}/replay", {"since": "2026-02-01", "until": "2026-01-01"}, "reversed_range", "later"),
]


async def _nothing() -> None:
    return


async def _post(hook: Webhook, message_id: str, body: bytes) -> Answer:
    raise AssertionError("nothing is sent")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(f"sqlite+aiosqlite:///{tmp_path}/e.sqlite")
    await made.migrate()
    await made.add_webhook(Webhook(HOOK, GOOD_URL, "whsec_x", ("call.*",), True, 1))
    yield made
    await made.close()


@pytest.fixture
async def api(store: Store) -> AsyncIterator[httpx.AsyncClient]:
    bindings, calls = Bindings("127.0.0.1:9"), Calls(Given(()))
    app = make_app(Ports(store, bindings, calls, _nothing, _post, lambda: None, asyncio.Event()), Health(), Registry())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(RequestIds(app)), base_url="http://x") as client:
        yield client
    await bindings.close()


async def test_wrong_requests_are_refused_with_what_is_right(api: httpx.AsyncClient, store: Store) -> None:
    before = await store.list_webhooks()
    for method, path, body, code, words in WRONG:
        answer = await api.request(method, path, json=body) if body is not None else await api.request(method, path)
        document = answer.json()
        assert (document["code"], answer.status_code) == (code, CODES[code].status), (path, body, document)
        assert answer.headers["content-type"] == "application/problem+json"
        assert words in document["detail"], (path, body, document["detail"])
        assert document["request_id"] == answer.headers["x-request-id"]
        page = await api.get(document["type"])
        assert (page.status_code, code in page.text) == (200, True)
    assert await store.list_webhooks() == before


async def test_what_several_things_are_wrong_with_lists_each(api: httpx.AsyncClient) -> None:
    document = (await api.get("/v1/cdrs?limit=0&outcome=x&since=y")).json()
    assert [(each["in"], each["code"]) for each in document["errors"]] == [
        ("query.limit", "invalid_parameter"),
        ("query.outcome.0", "unknown_value"),
        ("query.since", "invalid_time"),
    ]


async def test_a_long_wrong_value_is_not_repeated_whole(api: httpx.AsyncClient) -> None:
    document = (await api.get("/v1/cdrs", params={"since": "x" * 5000})).json()
    assert len(document["detail"]) < 300


async def test_the_sender_of_a_request_may_name_it_within_bounds(api: httpx.AsyncClient) -> None:
    for asked, taken in (("shop-42.a_b", True), ("x" * 65, False), ("a b", False), ("a\tb", False), ("", False)):
        found = (await api.get("/v1/cdrs", headers={"x-request-id": asked})).headers["x-request-id"]
        assert (found == asked) is taken, asked
        assert found


async def test_both_forms_of_a_type_mean_the_same(api: httpx.AsyncClient) -> None:
    asked = {"url": GOOD_URL, "types": ["io.pbx.call.ended.v1", "registration.*"]}
    made = (await api.post("/v1/webhooks", json=asked)).json()
    assert made["types"] == ["call.ended", "registration.*"]
    for kind in ("call.ended", "io.pbx.call.ended.v1", "call.*", "io.pbx.call.*"):
        assert (await api.get("/v1/events", params={"type": kind})).status_code == 200, kind


async def test_pages_for_people_need_nobody_else(api: httpx.AsyncClient) -> None:
    for path in ("/docs", "/errors", "/errors/not_found"):
        page = await api.get(path)
        assert page.status_code == 200
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        assert not any(word in page.text for word in ("<script", "<link", "<img", "src=", "url(", "@import"))
    docs = (await api.get("/docs")).text
    for path in (await api.get("/openapi.json")).json()["paths"]:
        assert f"<code>{path}</code>" in docs
    assert (await api.get("/errors/nonsense")).status_code == 404


async def test_a_generated_client_that_sends_defaults_destroys_no_webhook(api: httpx.AsyncClient) -> None:
    schemas = (await api.get("/openapi.json")).json()["components"]["schemas"]
    changed = schemas["ChangedWebhook"]
    assert "required" not in changed
    assert not [name for name, field in changed["properties"].items() if "default" in field]


async def test_operations_have_clean_names_and_one_tag(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    assert all(name.replace("_", "").isalpha() and not name.endswith(("get", "post", "delete")) for name in ids), ids
    assert all(len(operation["tags"]) == 1 for operation in operations)
    assert document["servers"] == [{"url": "/", "description": "Where this document came from"}]
