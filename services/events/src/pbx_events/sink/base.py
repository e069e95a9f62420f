"""What a sink is. Its fake stands beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class SinkError(Exception):
    """The sink did not take a batch; the text says why, and names no credential."""


class Sink(Protocol):
    """Takes CDRs as lines of JSON."""

    name: str
    """A label value, and the name of its queue."""

    async def put(self, batch_id: str, lines: Sequence[bytes]) -> None:
        """Returns when the lines are there for good. A batch may come again. Raises SinkError."""

    async def close(self) -> None:
        """Lets go of files and connections."""


class FakeSink:
    """Keeps what it took, and fails as often as it is told."""

    name = "fake"

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[bytes]]] = []
        self.failures = 0

    @property
    def lines(self) -> list[bytes]:
        """All that it took."""
        return [line for _, lines in self.batches for line in lines]

    async def put(self, batch_id: str, lines: Sequence[bytes]) -> None:
        """See `Sink`."""
        if self.failures:
            self.failures -= 1
            raise SinkError("told to fail")
        self.batches.append((batch_id, list(lines)))

    async def close(self) -> None:
        """See `Sink`."""
