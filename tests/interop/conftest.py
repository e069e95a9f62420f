"""One product for each test process, and for each test two users that nobody used before."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from support.pair import NO_ANSWER_S, Pair
from support.product import Product, Settings, accounts

PAIRS = 80


@pytest.fixture(scope="session")
def product() -> Iterator[Product]:
    """The product, running; when all tests of this process are over it must end cleanly."""
    environment = {"PBX_NO_ANSWER_S": str(NO_ANSWER_S)}
    with Product(Settings(accounts(2 * PAIRS), relay_ports=3200, environment=environment)) as running:
        yield running


_numbers = itertools.count(2000, 2)


@pytest.fixture
def pair(product: Product) -> Pair:
    """Two fresh users."""
    number = next(_numbers)
    return Pair(product, str(number), str(number + 1))
