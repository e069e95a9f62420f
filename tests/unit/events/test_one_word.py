"""One word, one value: the event that ends a call, its CDR, the CSV and the live call agree in what they share."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import msgspec
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from pbx.events.v1 import events_pb2 as pb
from pbx.signaling.v1 import signaling_pb2
from pbx_events.api.export import COLUMNS
from pbx_events.api.http import make_app
from pbx_events.api.models import Cdr
from pbx_events.api.values import Ports
from pbx_events.cdr.builder import build
from pbx_events.clients import Bindings, Calls, _call
from pbx_events.envelope import TYPES, Envelope, decode, encode
from pbx_events.storage.store import Store
from pbx_events.webhook.cloudevent import cloud_event
from pbx_runtime.health import Health
from pbx_runtime.metrics import Registry
from support.call_events import answered_call, cancelled_call

CALL, GONE = "01HF7YAT00CA11000000000000", "01HF7YAT00G0NE000000000000"
SHARED = ("call_id", "caller", "callee", "domain", "started_at", "duration_ms", "talk_ms", "outcome", "origin")
ENDS = ("hung_up_by", "sip_status", "sip_reason", "q850_cause", "cause", "hangup_reason")


def decoded(messages: list[pb.Event]) -> list[Envelope]:
    return [found for message in messages if (found := decode(message.SerializeToString())) is not None]


RECORD = msgspec.json.encode(build(decoded(answered_call(CALL)))).decode()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(f"sqlite+aiosqlite:///{tmp_path}/e.sqlite")
    await made.migrate()
    recorded = pb.Event(id="0" * 26, at_ms=1, call_id=CALL, source="media-relay/r1")
    recorded.recording_stored.path = "/rec/x.wav"
    recorded.recording_stored.bytes = 44
    await made.take(decoded([*answered_call(CALL), *cancelled_call(GONE), recorded]), [])
    yield made
    await made.close()


async def _nothing() -> None:
    return


@pytest.fixture
async def api(store: Store) -> AsyncIterator[httpx.AsyncClient]:
    bindings = Bindings("127.0.0.1:9")
    ports = Ports(store, bindings, Calls(()), _nothing, None, lambda: None, asyncio.Event())  # type: ignore[arg-type]
    app = make_app(ports, Health(), Registry())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        yield client
    await bindings.close()


@pytest.mark.parametrize("call_id", [CALL, GONE])
async def test_event_cdr_and_csv_of_a_call_agree(api: httpx.AsyncClient, call_id: str) -> None:
    cdr = (await api.get(f"/v1/cdrs/{call_id}")).json()
    asked = {"call_id": call_id, "type": "call.ended"}
    (event,) = (await api.get("/v1/events", params=asked)).json()["items"]
    for name in (*SHARED, *ENDS):
        assert event["data"][name] == cdr[name], name
    for side, leg in zip(("caller", "callee"), cdr["legs"], strict=False):
        told = event["data"][f"{side}_leg"]
        assert told is None or {name: leg[name] for name in told} == told
    table = (await api.get("/v1/cdrs", headers={"accept": "text/csv"})).text
    (row,) = [row for row in csv.DictReader(io.StringIO(table)) if row["call_id"] == call_id]
    assert {name: text or None for name, text in row.items()} == {
        name: None if cdr[name] is None else str(cdr[name]) for name in COLUMNS
    }


async def test_every_event_of_a_call_names_its_parties_and_its_start(api: httpx.AsyncClient) -> None:
    cdr = (await api.get(f"/v1/cdrs/{CALL}")).json()
    events = (await api.get("/v1/events", params={"call_id": CALL})).json()["items"]
    assert len(events) == len(answered_call(CALL)) + 1
    for event in events:
        for name in ("caller", "callee", "domain", "started_at"):
            assert event["data"][name] == cdr[name], event["type"]


async def test_a_cdr_names_its_recordings(api: httpx.AsyncClient) -> None:
    (recording,) = (await api.get(f"/v1/cdrs/{CALL}")).json()["recordings"]
    assert (recording["path"], recording["bytes"]) == ("/rec/x.wav", 44)


def test_the_table_has_every_scalar_field_of_a_cdr() -> None:
    nested = {"legs", "migrations", "recordings"}
    assert set(COLUMNS) == set(Cdr.model_fields) - nested


def test_a_live_call_speaks_as_its_cdr_will() -> None:
    leg = signaling_pb2.Leg(sip_call_id="a@phone", remote_address="tls:[2001:db8::1]:5061")
    call = signaling_pb2.Call(
        call_id=CALL, state=signaling_pb2.CALL_STATE_RINGING, caller="1004", callee="1008", caller_leg=leg
    )
    shown = _call(call)
    assert set(shown) - {"state"} <= set(Cdr.model_fields)
    assert shown["legs"] == [
        {
            "side": "caller",
            "sip_call_id": "a@phone",
            "local_tag": None,
            "remote_tag": None,
            "transport": "tls",
            "remote_address": "[2001:db8::1]:5061",
            "user_agent": None,
        }
    ]


def _filled(message: Message) -> None:
    """Every field set, so that every one is shown."""
    for field in message.DESCRIPTOR.fields:
        value: Any = {FieldDescriptor.CPPTYPE_STRING: "x:y", FieldDescriptor.CPPTYPE_ENUM: 1}.get(field.cpp_type, 1)
        if field.is_repeated and field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)["x"] = 1
        elif field.is_repeated:
            if field.message_type is not None:
                _filled(getattr(message, field.name).add())
        elif field.message_type is not None:
            _filled(getattr(message, field.name))
        else:
            setattr(message, field.name, value)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("filled", [False, True])
def test_every_event_is_as_the_catalogue_says(kind: str, filled: bool) -> None:
    catalogue = json.loads(resources.files("pbx_events.api").joinpath("event_schemas.json").read_text("utf-8"))
    of_call = kind.startswith(("call.", "recording.", "cdr.", "media."))
    message = pb.Event(id="0" * 26, at_ms=1, call_id=CALL if of_call else "", source="x/y")
    payload = getattr(message, kind.replace(".", "_", 1))
    payload.SetInParent()
    if filled:
        _filled(payload)
    if kind.startswith("cdr."):
        payload.cdr = RECORD
    data = cloud_event(encode(message))["data"]
    schema = catalogue["events"][kind]["data"]
    record = Cdr.model_json_schema()
    parts = catalogue["parts"] | record.pop("$defs") | {"Cdr": record}
    text = json.dumps(schema | {"$defs": parts}).replace("#/components/schemas/", "#/$defs/")
    jsonschema.validate(data, json.loads(text))
    assert list(data.keys() - schema["properties"].keys()) == []


async def test_the_document_types_every_event_and_delivery(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()
    assert list(document["webhooks"]) == list(TYPES)
    names = [each["$ref"].rpartition("/")[2] for each in document["components"]["schemas"]["Event"]["anyOf"]]
    assert len(names) == len(TYPES) + 1
    assert names[-1] == "CloudEvent"
    assert all(name in document["components"]["schemas"] for name in names)


async def test_every_reference_of_the_document_leads_somewhere(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert "Cdr" in named
    assert named <= set(document["components"]["schemas"])
