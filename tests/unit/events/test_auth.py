"""Who may use the API."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from pbx_events.api.auth import Authentication, Tokens

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


def test_no_token_is_shown():
    assert "a-token" not in repr(BOTH)
