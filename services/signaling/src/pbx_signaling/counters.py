"""What the core counts; metrics read it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Counted by the core, read by metrics."""

    messages_in: int = 0
    messages_rejected: int = 0
    requests: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    branches: int = 0
    """Phones invited."""
    calls_refused: int = 0
    """Refused before they were a call: limits, overload, drain."""
    attempts_uncounted: int = 0
    """Attempts with wrong credentials beyond the rate at which they get CDRs."""
    challenges: int = 0
    paths_ignored: int = 0
    """REGISTERs whose Path was ignored: no proxy that we know sent them."""
    crowded_out: int = 0
    """Refused because the rest of the transaction table is kept for others."""
    requests_limited: int = 0
    """Refused with 503 because their source asked for too much."""
    messages_unread: int = 0
    """Dropped as they were: their source went on after that."""

    def count(self, method: str) -> None:
        """A request came."""
        self.requests[method] = self.requests.get(method, 0) + 1
