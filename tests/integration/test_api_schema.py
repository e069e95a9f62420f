"""Every route of the running API against its OpenAPI document: schemathesis makes requests, fitting ones and not."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from support.phone import Phone
from support.product import DOMAIN, Product, Settings, accounts

pytestmark = [pytest.mark.integration]
EXAMPLES = int(os.environ.get("PBX_API_EXAMPLES", "20"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
ROUTES = (
    *(("GET", "/v1/cdrs"), ("GET", "/v1/cdrs/{call_id}"), ("GET", "/v1/events")),
    *(("GET", "/v1/events/{event_id}"), ("GET", "/v1/calls/{call_id}")),
    *(("GET", "/v1/calls"), ("DELETE", "/v1/calls/{call_id}"), ("GET", "/v1/registrations")),
    *(("GET", "/v1/webhooks"), ("POST", "/v1/webhooks"), ("DELETE", "/v1/webhooks/{hook_id}")),
    *(("GET", "/v1/webhooks/{hook_id}"), ("PATCH", "/v1/webhooks/{hook_id}")),
    *(("GET", "/v1/webhooks/{hook_id}/attempts"), ("GET", "/v1/webhooks/{hook_id}/dead-letters")),
    *(("POST", "/v1/webhooks/{hook_id}/replay"), ("POST", "/v1/webhooks/{hook_id}/test")),
    ("POST", "/v1/webhooks/{hook_id}/rotate-secret"),
    *(("GET", "/v1/accounts"), ("POST", "/v1/accounts"), ("GET", "/v1/accounts/{user}")),
    *(("PATCH", "/v1/accounts/{user}"), ("DELETE", "/v1/accounts/{user}")),
    ("POST", "/v1/accounts/{user}/set-password"),
    *(("GET", "/v1/tokens"), ("POST", "/v1/tokens"), ("DELETE", "/v1/tokens/{token_id}")),
    ("POST", "/v1/tokens/{token_id}/rotate"),
)


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    """With a registration, a call that was refused and a call that is up: every list has something in it."""
    with Product(Settings(accounts(4))) as running:
        phones = [Phone(running.sip, running.credentials(user), domain=DOMAIN) for user in ("2000", "2001")]
        with phones[0] as caller, phones[1] as callee:
            assert callee.register().status == 200
            refused = caller.dial("2003")
            caller.ack(refused, caller.expect(480))
            dialog = caller.dial("2001")
            invite = callee.expect("INVITE")
            callee.reply(invite, 180, "Ringing", dialog=callee.answer(invite))
            assert caller.expect(180)
            running.cdr(caller="2000")
            yield running
            caller.cancel(dialog)


WITHOUT_WORDS = (
    *(
        "GET /v1/webhooks",
        "/v1/cdrs/{call_id}",
        "GET /v1/calls/{call_id}",
        "/v1/events/{event_id}",
        "GET /v1/webhooks/{hook_id}",
        "DELETE /v1/webhooks/{hook_id}",
    ),
    *("/test", "/rotate-secret", "GET /v1/tokens", "DELETE /v1/tokens/{token_id}"),
)
"""Nothing, or nothing but an id, is said to these: no value of it is wrong."""
TRIED = [
    pytest.param(method, path, mode, id=f"{method} {path} {mode.value}")
    for method, path in ROUTES
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or not f"{method} {path}".endswith(WITHOUT_WORDS)
]


@pytest.fixture(scope="module")
def known(product: Product) -> dict[str, str]:
    """Ids of things that are there."""
    body = json.dumps({"url": "https://crm.invalid/hook"}).encode()
    made = urllib.request.Request(f"{product.http}/v1/webhooks", body, {"content-type": "application/json"})
    with urllib.request.urlopen(made, timeout=10) as answer:
        made = json.load(answer)
    event = product.get("/v1/events")["items"][0]["id"]
    return {"hook_id": made["id"], "call_id": product.cdr(caller="2000")["id"], "event_id": event}


@pytest.fixture(scope="module")
def document(product: Product) -> Any:
    return schemathesis.openapi.from_url(f"{product.http}/openapi.json")


def test_every_route_of_the_document_is_tried(document: Any) -> None:
    operations = {(each.ok().method.upper(), each.ok().path) for each in document.get_all_operations()}
    assert operations == set(ROUTES)


@pytest.mark.parametrize(("method", "path", "mode"), TRIED)
def test_every_answer_is_one_that_the_document_tells_of(
    document: Any, known: dict[str, str], method: str, path: str, mode: GenerationMode
) -> None:
    requests = document[path][method].as_strategy(generation_mode=mode)

    @settings(
        max_examples=EXAMPLES,
        derandomize="PBX_API_EXAMPLES" not in os.environ,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(st.data())
    def asked(data: st.DataObject) -> None:
        case = data.draw(requests)
        if (
            case.path_parameters
            and method != "DELETE"
            and known.keys() >= case.path_parameters.keys()
            and data.draw(st.booleans())
        ):
            case.path_parameters = {name: known[name] for name in case.path_parameters}
        case.validate_response(case.call(timeout=30), checks=CHECKS)

    asked()
