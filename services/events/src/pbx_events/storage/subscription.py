"""What the store knows of webhooks, as values: a subscription, an event on its way, what an attempt came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pbx_events.envelope import Envelope

PENDING, DELIVERED, DEAD = "pending", "delivered", "dead"
EXCERPT_MAX: Final = 512
"""Characters of an answer that the log of attempts keeps: enough to see what went wrong."""
ERROR_MAX: Final = 256
"""Characters of the last error that stay with a delivery."""
DIRECTIONS: Final = ("from", "to")


@dataclass(frozen=True, slots=True)
class Webhook:
    """One subscription. `types` is empty for all; the secret is shown once, when it is made."""

    id: str
    url: str
    secret: str
    types: tuple[str, ...]
    enabled: bool
    created_at_ms: int
    old_secret: str = ""
    """The secret before the last rotation."""
    old_secret_until_ms: int = 0
    """Until when deliveries are signed with it too."""
    user: str = ""
    """Only events of this user: calls from or to it, its registrations; empty for everybody."""
    direction: str = ""
    """ "from" or "to": only calls that the user makes or gets; empty for both."""

    def secrets(self, now_ms: int) -> tuple[str, ...]:
        """The secrets that are valid now, the newest first."""
        return (
            (self.secret, self.old_secret) if self.old_secret and now_ms < self.old_secret_until_ms else (self.secret,)
        )

    def wants(self, event: Envelope) -> bool:
        """Whether an event goes there: by its type, or by a prefix as "call.*"; `concerns` tells of whom."""
        return self.wants_type(event.type)

    def wants_type(self, kind: str) -> bool:
        """Whether events of a type go there."""
        return self.enabled and (not self.types or any(_matches(pattern, kind) for pattern in self.types))

    def concerns(self, caller: str, callee: str) -> bool:
        """Whether what is from `caller` to `callee` is of the user that it is about."""
        return (self.direction != "to" and self.user == caller) or (self.direction != "from" and self.user == callee)

    def __repr__(self) -> str:
        """Without the secret."""
        return f"<Webhook {self.id} {self.url}>"


def _matches(pattern: str, kind: str) -> bool:
    return kind.startswith(pattern[:-1]) if pattern.endswith("*") else kind == pattern


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way to an endpoint."""

    id: int
    event: Envelope
    attempts: int
    next_at_ms: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt came to."""

    webhook_id: str
    delivery: Delivery
    state: str
    next_at_ms: int
    at_ms: int
    duration_ms: int
    status: int
    error: str
    """The first of the answer, or why there was none."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Which events to send again: those named, or those of a time."""

    event_ids: tuple[str, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None
