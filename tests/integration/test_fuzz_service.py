"""The short form of `make fuzz-service`: thousands of mutated messages, and everything is as it was."""

from __future__ import annotations

import pytest

from support.mutation import attack
from support.product import Product, Settings, accounts

pytestmark = [pytest.mark.integration, pytest.mark.interop, pytest.mark.xdist_group("fuzz-service")]

SECONDS = 6.0
SEED = 5118


def test_mutated_messages_leave_nothing_behind() -> None:
    environment = {"PBX_SOURCE_REQUESTS_PER_S": "0"}
    with Product(Settings(accounts(10), environment=environment)) as product:
        assert attack(product, SECONDS, SEED, 800.0) > 2000
