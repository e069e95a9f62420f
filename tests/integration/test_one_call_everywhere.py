"""One call of the product, found by its id in every log, in the API and in what receivers are told."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pbx_media_relay.rtp import Header, build
from support.call import establish
from support.product import Product, Settings, accounts
from support.waiting import until
from support.webhook_sink import WebhookSink

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("one_call")]
PROGRAM = str(Path(sys.executable).with_name("sip-pbx"))


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    asked = {"PBX_LOG_LEVEL": "debug", "PBX_LOG_FORMAT": "json"}
    with Product(Settings(accounts(0), environment=asked)) as running:
        yield running


def lines_of(product: Product, call_id: str) -> list[dict[str, Any]]:
    """What all services logged about a call, in order."""
    found = []
    for line in (product.data / "test.log").read_text(encoding="utf-8", errors="replace").splitlines():
        start = line.find("{")
        if call_id in line and start >= 0:
            found.append(json.loads(line[start:]))
    return found


def test_a_call_ended_by_hand_is_told_of_by_one_id(product: Product) -> None:
    with WebhookSink() as sink, closing(product.phone("1004")) as caller, closing(product.phone("1008")) as callee:
        product.post("/v1/webhooks", {"url": sink.url, "types": ["call.ended"]})
        refused = product.post("/v1/webhooks", {"url": "http://127.0.0.1:9/nobody", "types": ["call.ended"]})
        for phone in (caller, callee):
            assert phone.register().status == 200
        call = establish(caller, callee)
        (live,) = product.calls()
        call_id = live["call_id"]
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as media:
            media.bind(("127.0.0.1", caller.port + 2))

            def relay_heard() -> bool:
                """The relay may learn of the endpoint after the phone has its answer: packet after packet."""
                media.sendto(build(Header(0, False, 1, 160, 7), bytes(160)), ("127.0.0.1", call.relay_port()))
                return "media-relay" in {line["service"] for line in lines_of(product, call_id)}

            until(relay_heard, timeout_s=15, what="the relay's log names the call")
        command = [PROGRAM, "hangup", call_id, "--reason", "moving to another desk", "--data", str(product.data)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        for phone in (caller, callee):
            bye = phone.expect("BYE")
            assert "moving to another desk" in bye.get("reason")
            phone.reply(bye, 200, "OK")
        cdr = product.cdr(caller="1004")
        assert (cdr["origin"], cdr["hangup_reason"]) == ("admin", "moving to another desk")
        delivery = sink.wait_for("call.ended", call_id=call_id)
        assert delivery.event["data"]["hangup_reason"] == "moving to another desk"
        heads = {name.lower(): value for name, value in delivery.headers.items()}
        assert heads["user-agent"].startswith("sip-pbx/")

        def services() -> set[str]:
            return {line["service"] for line in lines_of(product, call_id)}

        until(lambda: {"signaling", "media-relay", "events"} <= services(), timeout_s=15, what="all logs name the call")
    lines = lines_of(product, call_id)
    assert all(line["call_id"] == call_id for line in lines), "one name for it"
    first = next(line for line in lines if line["service"] == "signaling")
    legs = (call.caller_dialog.call_id, call.callee_dialog.call_id)
    assert (first["caller_sip_call_id"], first["callee_sip_call_id"]) == legs
    # By whole words: a port, a time or an id may hold the digits.
    assert not any(re.search(r"(?<![\w.:])1004(?!\w)", str(value)) for line in lines for value in line.values()), lines
    (failed,) = [line for line in lines if line["service"] == "events"][:1]
    assert failed["webhook"] == refused["id"]
