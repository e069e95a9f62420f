"""Phones behind NATs and the running product: pinged by one replica, known to be there or not, taken over."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support.phone import Phone
from support.product import DOMAIN, Product, Settings, accounts
from support.replicas import peers_of, phone_at
from support.waiting import until
from support.wire import Message

pytestmark = pytest.mark.interop
INTERVAL_S = 2
REPLICAS = ("signaling-1", "signaling-2")


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    environment = {"PBX_SIP_KEEPALIVE_S": str(INTERVAL_S)}
    with Product(Settings(accounts(8), replicas=2, environment=environment)) as running:
        yield running


def behind_nat(phone: Phone) -> None:
    """Registers with an address of a private network: its answers are heard from elsewhere."""
    assert phone.register(expires_s=600, contacts=(f"<sip:{phone.user}@192.168.77.7:5060>",)).status == 200


def binding(product: Product, user: str) -> dict[str, Any]:
    (found,) = product.get("/v1/registrations", aor=f"{user}@{DOMAIN}")["items"]
    return dict(found)


def pinged(phone: Phone, timeout_s: float = 10.0) -> Message:
    request = phone.expect("OPTIONS", timeout_s=timeout_s)
    phone.reply(request, 200, "OK")
    return request


def test_a_phone_behind_a_nat_is_pinged_and_known_to_be_there_or_not(product: Product) -> None:
    with phone_at(product, "2000", 0) as phone, phone_at(product, "2001", 0) as caller:
        behind_nat(phone)
        first = pinged(phone)
        assert first.start.startswith("OPTIONS sip:2000@192.168.77.7:5060 ")
        until(lambda: binding(product, "2000")["reachable"], timeout_s=5, what="an answer that counts")
        assert binding(product, "2000")["round_trip_ms"] >= 1
        assert pinged(phone).get("call-id") == first.get("call-id")
        until(lambda: binding(product, "2000")["reachable"] is False, timeout_s=30, what="silence that counts")
        assert binding(product, "2000")["unreachable_since"]
        began = time.monotonic()
        caller.dial("2000")
        assert caller.expect(408, timeout_s=15)
        assert 3 < time.monotonic() - began < 10, "one try, and not 32 s"
        flows = sum(product.metrics(replica).sum("pbx_signaling_keepalive_flows") for replica in REPLICAS)
        assert flows == 1, "one replica pings it"


def test_what_a_replica_kept_open_is_taken_over_when_it_is_gone(product: Product) -> None:
    with phone_at(product, "2002", 1) as phone:
        behind_nat(phone)
        before = pinged(phone)
        (process,) = [each for each in product.document["processes"] if each["name"] == "signaling-2"]
        os.kill(process["pid"], signal.SIGKILL)
        deadline = time.monotonic() + 60
        while pinged(phone, timeout_s=40).get("call-id") == before.get("call-id"):
            assert time.monotonic() < deadline, "the old one pings still"
    until(lambda: peers_of(product, "signaling-2"), timeout_s=60, what="the replica that was started anew")
