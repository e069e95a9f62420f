"""A flood from one address at the running product does not stop the calls of others."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.call import establish
from support.product import Product, Settings, accounts

pytestmark = [pytest.mark.integration, pytest.mark.interop, pytest.mark.xdist_group("flood")]

CALLS = 10
TESTS = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    """A product of its own: others are not to suffer from what is done to it."""
    environment = {"PBX_SOURCE_REQUESTS_PER_S": "50", "PBX_SOURCE_BURST": "200"}
    with Product(Settings(accounts(10), environment=environment)) as running:
        yield running


@pytest.mark.parametrize("method", ["OPTIONS", "REGISTER", "INVITE"])
def test_calls_go_on_during_a_flood(product: Product, method: str) -> None:
    command = [sys.executable, "-m", "support.flood", method, product.sip[0], str(product.sip[1])]
    flood = subprocess.Popen(command, cwd=TESTS)
    try:
        time.sleep(1.5)  # until the flooder's burst is spent: this is real time
        with product.phone("1004") as caller, product.phone("1008") as callee:
            assert callee.register().status == 200
            for _ in range(CALLS):
                establish(caller, callee).hang_up()
    finally:
        flood.kill()
        flood.wait(10)
    metrics = product.metrics("signaling")
    assert metrics.sum("pbx_signaling_messages_unread_total") > 100
