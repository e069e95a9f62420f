"""SIGTERM while calls are up: BYE to both sides, CDRs written, exit code 0, no process left."""

from __future__ import annotations

import os
import signal

import pytest

from support.call import establish
from support.product import Product, Settings, accounts

pytestmark = [pytest.mark.integration, pytest.mark.interop]


def test_sigterm_ends_calls_in_order() -> None:
    product = Product(Settings(accounts(0)))
    product.start()
    try:
        with product.phone("1004") as caller, product.phone("1008") as callee:
            assert callee.register().status == 200
            calls = [establish(caller, callee) for _ in range(5)]
            pids = product.pids
            os.kill(product.pid, signal.SIGTERM)
            for phone in (caller, callee):
                for _ in calls:
                    phone.reply(phone.expect("BYE", timeout_s=15), 200, "OK")
        product.wait_stopped(pids)
        with product.again() as restarted:
            cdrs = restarted.cdrs_of(5, caller="1004")
            assert {cdr["outcome"] for cdr in cdrs} == {"answered"}
            assert {cdr["origin"] for cdr in cdrs} == {"drain"}
    finally:
        product.close()
