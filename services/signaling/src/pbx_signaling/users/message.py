"""One MESSAGE under way (RFC 3428), and each of its sendings: owners of transactions and deadlines for `messages`."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pbx_signaling.calls.signals import Target
    from pbx_signaling.users.attempt import Attempt
    from pbx_signaling.users.user import User
    from pbx_sip.address import Flow
    from pbx_sip.message.message import Request
    from pbx_sip.transaction.events import ServerKey


class Stage(enum.IntEnum):
    """What a message waits for."""

    AUTHENTICATION = 0
    TARGETS = 1
    ANSWER = 2


class Wait(enum.IntEnum):
    """What a deadline of a message is for."""

    TARGET = 0
    ALL = 1


@dataclass(slots=True, eq=False)
class Delivery:
    """A message on its way to one binding: the owner of that transaction."""

    message: PagerMessage
    target: Target
    flow: Flow
    request: Request
    strict_flow: bool
    call_id: str = ""

    @property
    def user(self) -> User:
        """Who hears of it."""
        return self.message.user

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits for its answer any more."""
        return self.message.is_over


@dataclass(slots=True, eq=False)
class PagerMessage:
    """One message under way; the owner of its deadlines."""

    number: int
    key: ServerKey
    request: Request
    attempt: Attempt
    user: User
    flow: Flow
    """On which it came."""
    aor: str
    """Whom it goes to now."""
    stage: Stage = Stage.AUTHENTICATION
    caller: str = ""
    targets: list[Target] = field(default_factory=list)
    """Bindings not tried yet."""
    been: list[str] = field(default_factory=list)
    """Addresses-of-record whose phones sent the message on (3xx)."""
    current: Delivery | None = None
    tried: int = 0
    since: float = 0.0
    """Monotonic seconds at which it was taken on."""
    deadlines: dict[Wait, int] = field(default_factory=dict)
    is_over: bool = False
    call_id: str = ""

    @property
    def is_secure(self) -> bool:
        """Whether it is for a SIPS address: it goes over TLS or not at all (RFC 3261 26.2.2, RFC 5630 3.1)."""
        return self.request.uri[:5].lower() == "sips:"
