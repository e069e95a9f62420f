"""Who may use the API."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from pbx_events.api.auth import Authentication, Tokens, body_refusal, forgery_refusal

BOTH = Tokens(admin="a-token", read="r-token")


@pytest.mark.parametrize(
    ("tokens", "method", "host", "presented", "status"),
    [
        (Tokens(), "DELETE", "127.0.0.1", "", 0),
        (Tokens(), "GET", "::1", "", 0),
        (Tokens(), "GET", "::ffff:127.0.0.1", "", 0),
        (Tokens(), "GET", "192.0.2.1", "", 401),
        (Tokens(), "GET", "", "", 401),
        (Tokens(), "GET", "127.0.0.1", "anything", 401),
        (BOTH, "GET", "127.0.0.1", "", 401),
        (BOTH, "DELETE", "192.0.2.1", "a-token", 0),
        (BOTH, "GET", "192.0.2.1", "r-token", 0),
        (BOTH, "POST", "192.0.2.1", "r-token", 403),
        (BOTH, "GET", "127.0.0.1", "wrong", 401),
        (BOTH, "GET", "127.0.0.1", "tökén", 401),
        (Tokens(read="r-token"), "POST", "127.0.0.1", "", 401),
    ],
)
def test_scopes(tokens: Tokens, method: str, host: str, presented: str, status: int):
    assert tokens.refusal(method, host, presented)[0] == status


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
    for tokens, headers, status in [
        (BOTH, {"authorization": "Bearer a-token", "origin": "https://console.example"}, 200),
        (Tokens(), {}, 403),
        (Tokens(), {"host": "localhost"}, 200),
        (BOTH, {"authorization": "Bearer a-token", "content-type": "text/plain", "content-length": "1"}, 415),
    ]:
        transport = httpx.ASGITransport(Authentication(inner, tokens), client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://pbx.example") as client:
            assert (await client.post("/v1/webhooks", headers=headers)).status_code == status


def test_no_token_is_shown():
    assert "a-token" not in repr(BOTH)
