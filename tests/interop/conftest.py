"""One product for each test process, and for each test two users that nobody used before."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from support.pair import NO_ANSWER_S, Pair
from support.ports import free_port
from support.product import UNLIMITED, Product, Settings, accounts

PAIRS = 250
RELAY_PORTS = 1600
"""200 slots: the largest test has 100 calls at once, and its slots rest afterwards."""


def _every_transport() -> tuple[str, ...]:
    """SIP over TLS, WebSocket and IPv6 beside UDP and TCP."""
    options = ("--tls-self-signed", "--sip-ipv6", f"[::1]:{free_port()}")
    for option in ("--sip-tls", "--sip-ws", "--sip-wss"):
        options += (option, f"127.0.0.1:{free_port()}")
    return options


@pytest.fixture(scope="session")
def product() -> Iterator[Product]:
    """The product, running; when all tests of this process are over it must end cleanly."""
    environment = {
        **UNLIMITED,
        "PBX_NO_ANSWER_S": str(NO_ANSWER_S),
        "PBX_SIP_HEADERS": "X-Test-*=pass",
        "PBX_SIP_TRUSTED": "127.0.7.0/24",
    }
    settings = Settings(
        accounts(2 * PAIRS),
        relay_ports=RELAY_PORTS,
        replicas=int(os.environ.get("INTEROP_REPLICAS", "1")),
        environment=environment,
        arguments=_every_transport(),
    )
    with Product(settings) as running:
        yield running


_numbers = itertools.count(2000, 2)


def _fresh(product: Product) -> Pair:
    number = next(_numbers)
    return Pair(product, str(number), str(number + 1))


@pytest.fixture
def pair(product: Product) -> Pair:
    """Two fresh users."""
    return _fresh(product)


@pytest.fixture
def other(product: Product) -> Pair:
    """Two more of them, who are nobody else's either."""
    return _fresh(product)
