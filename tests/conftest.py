"""What every test is held to: it ends in the network namespace in which it began."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

NAMESPACE = Path("/proc/thread-self/ns/net")
HOME = NAMESPACE.readlink()


@pytest.fixture(autouse=True)
def same_network() -> Iterator[None]:
    """A test that leaves its thread in another network makes those after it fail, and nobody sees why."""
    yield
    assert NAMESPACE.readlink() == HOME, "the test, or a fixture of it, did not leave its network namespace"
