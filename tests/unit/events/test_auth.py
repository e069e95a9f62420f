"""Who may use the API: configured tokens, named ones with scopes and an end, limits, and answers that come twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from pbx_events.api.auth import Authentication, Configured, Named, body_refusal, forgery_refusal, scope_of
from pbx_events.api.http import make_app
from pbx_events.api.limit import ASKERS_MAX, Limits
from pbx_events.api.values import Ports
from pbx_events.clients import Bindings, Calls
from pbx_events.storage.answered import ABANDONED_MS, KEPT_MS
from pbx_events.storage.store import Store
from pbx_events.storage.subscription import Webhook
from pbx_events.storage.tables import answered, tokens
from pbx_events.webhook.sender import Answer
from pbx_runtime.health import Health
from pbx_runtime.metrics import Registry

BOTH = Configured(admin="a-token", read="r-token")
ADMIN = {"authorization": "Bearer a-token"}


@pytest.mark.parametrize(
    ("configured", "method", "host", "presented", "code"),
    [
        (Configured(), "DELETE", "127.0.0.1", "", ""),
        (Configured(), "GET", "::1", "", ""),
        (Configured(), "GET", "::ffff:127.0.0.1", "", ""),
        (Configured(), "GET", "192.0.2.1", "", "token_needed"),
        (Configured(), "GET", "", "", "token_needed"),
        (Configured(), "GET", "127.0.0.1", "anything", "unknown_token"),
        (BOTH, "GET", "127.0.0.1", "", "token_needed"),
        (BOTH, "DELETE", "192.0.2.1", "a-token", ""),
        (BOTH, "GET", "192.0.2.1", "r-token", ""),
        (BOTH, "POST", "192.0.2.1", "r-token", "scope_missing"),
        (BOTH, "GET", "127.0.0.1", "wrong", "unknown_token"),
        (BOTH, "GET", "127.0.0.1", "tökén", "unknown_token"),
        (Configured(read="r-token"), "POST", "127.0.0.1", "", "token_needed"),
    ],
)
def test_configured_tokens(configured: Configured, method: str, host: str, presented: str, code: str):
    assert configured.judge(method, "/v1/cdrs", host, presented).refused == code


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v1/cdrs", "read"),
        ("GET", "/v1/webhooks/x/attempts", "read"),
        ("GET", "/v1/tokens", "admin"),
        ("POST", "/v1/tokens/x/rotate", "admin"),
        ("DELETE", "/v1/calls/x", "calls"),
        ("POST", "/v1/webhooks", "webhooks"),
        ("PATCH", "/v1/accounts/1004", "accounts"),
        ("POST", "/v1/admin", "admin"),
        ("POST", "/v1/read", "read"),
        ("POST", "/v1/", "admin"),
        ("DELETE", "/v1/cdrs", "admin"),
    ],
)
def test_what_a_request_needs(method: str, path: str, scope: str):
    assert scope_of(method, path) == scope


async def test_the_layer_refuses_as_problem_json_and_leaves_health_open():
    async def answer(request: object) -> PlainTextResponse:
        return PlainTextResponse("ok")

    app = Authentication(Starlette(routes=[Route("/v1/cdrs", answer), Route("/healthz", answer)]), BOTH)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        assert (await client.get("/healthz")).status_code == 200
        refused = await client.get("/v1/cdrs")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert refused.headers["content-type"] == "application/problem+json"
        allowed = await client.get("/v1/cdrs", headers={"authorization": "bearer r-token"})
        assert allowed.text == "ok"


HOST = {"host": "127.0.0.1:8080"}


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", HOST, 0),
        ("POST", {"host": "localhost:8080", "origin": "http://localhost:8080", "sec-fetch-site": "same-origin"}, 0),
        ("POST", {"host": "[::1]:8080", "origin": "http://[::1]:8080"}, 0),
        ("GET", {"host": "pbx.localhost"}, 0),
        ("GET", {"host": "LOCALHOST."}, 0),
        ("GET", {"host": "127.8.9.1"}, 0),
        # DNS rebinding: the page's own name, which resolves to loopback
        ("GET", {"host": "rebind.example:8080"}, 403),
        ("GET", {"host": "127.0.0.1.nip.io"}, 403),
        ("GET", {"host": "localhost.evil.example"}, 403),
        ("GET", {"host": "notlocalhost"}, 403),
        ("GET", {"host": "192.0.2.1:8080"}, 403),
        ("GET", {"host": "0.0.0.0:8080"}, 403),
        ("GET", {"host": "[::]:8080"}, 403),
        ("GET", {"host": ""}, 403),
        ("GET", {}, 403),
        # cross-origin requests, which a browser sends and only hides the answer of
        ("POST", HOST | {"origin": "https://web.example"}, 403),
        ("DELETE", HOST | {"origin": "null"}, 403),
        ("POST", HOST | {"origin": "http://127.0.0.1:3000"}, 403),
        ("POST", HOST | {"origin": "http://evil127.0.0.1:8080"}, 403),
        ("GET", HOST | {"origin": "https://web.example"}, 403),
        ("POST", HOST | {"sec-fetch-site": "cross-site"}, 403),
        ("POST", HOST | {"sec-fetch-site": "same-site"}, 403),
        ("GET", HOST | {"sec-fetch-site": "cross-site"}, 0),  # a link that somebody clicked
    ],
)
def test_a_web_page_of_somebody_else_gets_nothing(method: str, headers: dict[str, str], status: int):
    assert forgery_refusal(method, Headers(headers))[0] == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 0),
        ({"content-length": "0"}, 0),
        ({"content-length": "2", "content-type": "application/json"}, 0),
        ({"content-length": "2", "content-type": "Application/JSON; charset=utf-8"}, 0),
        ({"content-length": "2"}, 415),
        ({"content-length": "2", "content-type": ""}, 415),
        ({"content-length": "2", "content-type": "text/plain"}, 415),
        ({"content-length": "2", "content-type": "text/plain;application/json"}, 415),
        ({"content-length": "2", "content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-length": "2", "content-type": "multipart/form-data; boundary=x"}, 415),
        ({"transfer-encoding": "chunked"}, 415),
    ],
)
def test_a_body_says_that_it_is_json(headers: dict[str, str], status: int):
    assert body_refusal(Headers(headers))[0] == status


async def test_a_token_serves_any_name_and_the_layer_asks_all_of_it():
    async def answer(request: object) -> PlainTextResponse:
        return PlainTextResponse("ok")

    inner = Starlette(routes=[Route("/v1/webhooks", answer, methods=["GET", "POST"])])
    for configured, headers, status in [
        (BOTH, {"authorization": "Bearer a-token", "origin": "https://console.example"}, 200),
        (Configured(), {}, 403),
        (Configured(), {"host": "localhost"}, 200),
        (BOTH, {"authorization": "Bearer a-token", "content-type": "text/plain", "content-length": "1"}, 415),
    ]:
        transport = httpx.ASGITransport(Authentication(inner, configured), client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://pbx.example") as client:
            assert (await client.post("/v1/webhooks", headers=headers)).status_code == status


def test_no_token_is_shown():
    assert "a-token" not in repr(BOTH)


# --- named tokens and idempotency keys, over a real store


async def _nothing() -> None:
    return


async def _post(hook: Webhook, message_id: str, body: bytes) -> Answer:
    return Answer(204, 0, "")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


Client = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(f"sqlite+aiosqlite:///{tmp_path}/e.sqlite")
    await made.migrate()
    yield made
    await made.close()


@pytest.fixture
async def client(store: Store) -> AsyncIterator[Client]:
    bindings, calls = Bindings("127.0.0.1:9"), Calls(())

    @asynccontextmanager
    async def open_client(
        clock: Callable[[], float] | None = None, rate: float = 0
    ) -> AsyncIterator[httpx.AsyncClient]:
        named = Named(store, clock) if clock else Named(store)
        ports = Ports(
            store, bindings, calls, _nothing, _post, lambda: None, asyncio.Event(), tokens_changed=named.forget
        )
        app = Authentication(make_app(ports, Health(), Registry()), BOTH, named, Limits(rate))
        transport = httpx.ASGITransport(app, client=("192.0.2.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as made:
            yield made

    yield open_client
    await bindings.close()


async def made(api: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await api.post("/v1/tokens", json=body, headers=ADMIN)
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_a_named_token_may_what_its_scopes_say(client: Client, store: Store):
    async with client() as api:
        token = await made(api, name="hooks", scopes=["read", "webhooks"])
        mine = bearer(token["token"])
        assert (await api.get("/v1/cdrs", headers=mine)).status_code == 200
        assert (await api.post("/v1/webhooks", json={"url": "https://crm.example/"}, headers=mine)).status_code == 201
        for method, path in (("DELETE", "/v1/calls/x"), ("GET", "/v1/tokens"), ("POST", "/v1/tokens")):
            refused = await api.request(method, path, headers=mine)
            assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing"), path
            assert "read, webhooks" in refused.json()["detail"]
        (listed,) = (await api.get("/v1/tokens", headers=ADMIN)).json()["items"]
        assert (listed["name"], "token" in listed) == ("hooks", False)
        writing_alone = await made(api, name="ender", scopes=["calls"])
        assert (await api.get("/v1/cdrs", headers=bearer(writing_alone["token"]))).status_code == 403
    rows = await store.rows(sa.select(tokens))
    assert all(token["token"] not in str(row) for row in rows), "its digest alone is kept"


async def test_a_token_ends_is_rotated_and_removed(client: Client):
    clock = Clock()
    async with client(clock) as api:
        token = await made(api, name="short", scopes=["read"], expires_at="2027-01-15T08:00:10Z")
        clock.now_s = 1_800_000_009.0  # 2027-01-15T08:00:09Z
        assert (await api.get("/v1/cdrs", headers=bearer(token["token"]))).status_code == 200
        clock.now_s += 2
        over = await api.get("/v1/cdrs", headers=bearer(token["token"]))
        assert (over.status_code, over.json()["code"]) == (401, "expired_token")
    async with client() as api:
        token = await made(api, name="long", scopes=["read"])
        path = f"/v1/tokens/{token['id']}"
        again = (await api.post(f"{path}/rotate", headers=ADMIN, json={"old_valid_s": 3600})).json()
        for each in (token, again):
            assert (await api.get("/v1/cdrs", headers=bearer(each["token"]))).status_code == 200
        last = (await api.post(f"{path}/rotate", headers=ADMIN, json={"old_valid_s": 0})).json()
        for each, status in ((token, 401), (again, 401), (last, 200)):
            assert (await api.get("/v1/cdrs", headers=bearer(each["token"]))).status_code == status
        assert (await api.delete(path, headers=ADMIN)).status_code == 204
        assert (await api.get("/v1/cdrs", headers=bearer(last["token"]))).json()["code"] == "unknown_token"
        for method, end in (("DELETE", ""), ("POST", "/rotate")):
            assert (await api.request(method, path + end, headers=ADMIN)).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        ({}, 422, "missing_field", "body.name: is missing"),
        ({"name": "x", "scopes": []}, 422, "invalid_field", "at least 1 item"),
        (
            {"name": "x", "scopes": ["write"]},
            422,
            "unknown_value",
            "'read', 'calls', 'accounts', 'webhooks' or 'admin'",
        ),
        ({"name": "a b", "scopes": ["read"]}, 422, "invalid_field", "pattern"),
        ({"name": "x", "scopes": ["read"], "expires": "2030-01-01"}, 422, "unknown_field", "did you mean expires_at?"),
        ({"name": "x", "scopes": ["read"], "expires_at": "2020-01-01"}, 422, "invalid_field", "is over already"),
        ({"name": "taken", "scopes": ["read"]}, 409, "already_exists", "rotate it, or take another name"),
    ],
)
async def test_wrong_tokens_are_not_made(client: Client, body: dict[str, Any], status: int, code: str, words: str):
    async with client() as api:
        await made(api, name="taken", scopes=["read"])
        answer = await api.post("/v1/tokens", json=body, headers=ADMIN)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    "presented", ["pbx_", "pbx_x_y", "pbx_01KAR3W2K7X5J8C0V4R1H6N3PQ_x", "pbx_\x00_", "pbx_" + "9" * 5000]
)
async def test_what_only_looks_like_a_token_is_none(client: Client, presented: str):
    async with client() as api:
        refused = await api.get("/v1/cdrs", headers={"authorization": f"Bearer {presented}".encode()})
        assert (refused.status_code, refused.json()["code"]) == (401, "unknown_token")


def test_a_bucket_fills_again_and_is_each_ones_own():
    clock = Clock()
    limits = Limits(10, clock)
    taken = [limits.take("a") for _ in range(21)]
    assert [each.allowed for each in taken] == [True] * 20 + [False]
    assert (taken[0].limit, taken[0].remaining, taken[20].wait_s) == (20, 19, 1)
    assert limits.take("b").allowed
    clock.now_s += 0.11
    assert [limits.take("a").allowed for _ in range(2)] == [True, False]
    clock.now_s += 3600
    assert limits.take("a").remaining == 19


def test_there_are_no_more_buckets_than_the_limit():
    limits = Limits(10, Clock())
    for number in range(ASKERS_MAX + 10):
        limits.take(str(number))
    assert len(limits._buckets) == ASKERS_MAX


async def test_who_asks_too_much_is_told_how_long_to_wait(client: Client):
    async with client(rate=1) as api:
        answers = [await api.get("/v1/cdrs", headers=ADMIN) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]
        assert (answers[2].headers["retry-after"], answers[2].json()["code"]) == ("1", "rate_limited")
        assert (await api.get("/v1/cdrs")).status_code == 401, "another bucket"


async def test_a_post_with_a_key_is_done_once(client: Client, store: Store):
    async with client() as api:
        key = ADMIN | {"idempotency-key": "order-4711-of-the-shop"}
        body = {"url": "https://crm.example/x"}
        first, second = [await api.post("/v1/webhooks", json=body, headers=key) for _ in range(2)]
        assert (first.status_code, second.status_code) == (201, 201)
        assert first.json() == second.json()
        assert (second.headers.get("idempotency-replayed"), first.headers.get("idempotency-replayed")) == ("true", None)
        other = await api.post("/v1/webhooks", json={"url": "https://crm.example/y"}, headers=key)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert len(await store.list_webhooks()) == 1
        (row,) = await store.rows(sa.select(answered))
        assert first.json()["secret"].encode() not in row.answer, "a secret is not kept in the clear"
        wrong = ADMIN | {"idempotency-key": "short"}
        assert (await api.post("/v1/webhooks", json=body, headers=wrong)).json()["code"] == "invalid_parameter"


async def test_a_key_of_a_request_that_failed_or_died_is_free_again(client: Client, store: Store):
    async with client() as api:
        key = ADMIN | {"idempotency-key": "order-4712-of-the-shop"}
        assert (await api.post("/v1/webhooks", json={"url": "ftp://x"}, headers=key)).status_code == 400
        assert (await api.post("/v1/webhooks", json={"url": "https://crm.example/x"}, headers=key)).status_code == 201
    assert await store.begin("k", "r", 1_000_000) is None
    under_way = await store.begin("k", "r", 1_000_000 + ABANDONED_MS)
    assert under_way is not None
    assert under_way.status == 0
    assert await store.begin("k", "r", 1_000_001 + ABANDONED_MS) is None, "its process died"
    await store.finish("k", 201, b"x")
    kept = await store.begin("k", "r", KEPT_MS)
    assert kept is not None
    assert (kept.status, kept.answer) == (201, b"x")
    assert await store.begin("k", "r", 1_000_002 + ABANDONED_MS + KEPT_MS) is None, "a day later it is new"


async def test_two_requests_at_once_with_one_key_are_one(client: Client, store: Store):
    async with client() as api:
        key = ADMIN | {"idempotency-key": "order-4713-of-the-shop"}
        asked = [api.post("/v1/webhooks", json={"url": "https://crm.example/x"}, headers=key) for _ in range(5)]
        answers = await asyncio.gather(*asked)
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert all(answer.json()["code"] == "idempotency_in_progress" for answer in answers if answer.status_code == 409)
    assert len(await store.list_webhooks()) == 1


async def test_what_a_token_is_stands_in_no_list(client: Client):
    async with client() as api:
        token = (await made(api, name="x", scopes=["read"]))["token"]
        assert token not in json.dumps((await api.get("/v1/tokens", headers=ADMIN)).json())
