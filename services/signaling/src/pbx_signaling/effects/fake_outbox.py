"""The outbox in memory, for tests and for a machine without Redis: the fake of `write_ahead.Outbox`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class MemoryOutbox:
    """The fake: keeps what is written; `broken` lets every write fail; `held` keeps them waiting for `release`."""

    events: list[bytes] = field(default_factory=list)
    broken: bool = False
    held: bool = False
    waiting: list[tuple[list[bytes], Callable[[bool], None]]] = field(default_factory=list)

    def write(self, call_id: str, events: list[bytes], state: bytes, done: Callable[[bool], None]) -> None:
        """Keeps the events, or does not."""
        if self.held:
            self.waiting.append((events, done))
            return
        if not self.broken:
            self.events += events
        done(not self.broken)

    def release(self) -> None:
        """Lets everything that waits happen."""
        waiting, self.waiting = self.waiting, []
        for events, done in waiting:
            self.events += events
            done(True)
