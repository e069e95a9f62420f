"""The whole product without its registrar: calls of users that signaling met go on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from support.call import establish
from support.product import Product, Settings, accounts
from support.waiting import until

pytestmark = pytest.mark.integration
CALLS = 5


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    with Product(Settings(accounts(4))) as running:
        yield running


@contextlib.contextmanager
def kept_down(product: Product, name: str) -> Iterator[None]:
    """A service that is killed as often as the supervisor starts it."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.02):
            with contextlib.suppress(KeyError, ProcessLookupError):
                os.kill(product.pid_of(name), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join()


def answers(product: Product, result: str) -> float:
    return product.metrics("signaling").sum("pbx_signaling_directory_answers_total", result=result)


def test_calls_of_known_users_go_on_without_the_registrar(product: Product) -> None:
    with product.phone("2000") as caller, product.phone("2001") as callee, product.phone("2002") as stranger:
        assert callee.register().status == 200
        establish(caller, callee).hang_up()
        # All that is known, the first time too, must have been told before the registrar goes.
        until(
            lambda: product.metrics("signaling").sum("pbx_signaling_directory_entries", kind="user") >= 2,
            timeout_s=5,
            what="both users known",
        )
        hits = answers(product, "hit")
        establish(caller, callee).hang_up()
        assert answers(product, "hit") == hits + 2
        with kept_down(product, "registrar"):
            until(
                lambda: product.metrics("signaling").sum("pbx_signaling_directory_following") == 0,
                timeout_s=5,
                what="in doubt",
            )
            kept = answers(product, "kept")
            for _ in range(CALLS):
                establish(caller, callee).hang_up()
            assert answers(product, "kept") == kept + 2 * CALLS
            assert product.metrics("signaling").sum("pbx_ready") == 1
            assert product.metrics("signaling").sum("pbx_health_check", check="registrar") == 0
            dialog = stranger.dial("2001")
            stranger.ack(dialog, stranger.expect(503))
        until(
            lambda: product.metrics("signaling").sum("pbx_signaling_directory_following") == 1,
            timeout_s=20,
            what="followed again",
        )
        until(
            lambda: product.metrics("signaling").sum("pbx_signaling_directory_doubtful") == 0,
            timeout_s=5,
            what="nothing in doubt",
        )
        hits = answers(product, "hit")
        establish(caller, callee).hang_up()
        assert answers(product, "hit") == hits + 2
    product.assert_all_released()
