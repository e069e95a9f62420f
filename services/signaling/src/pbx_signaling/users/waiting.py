"""INVITEs that come while no event can be written: they wait for a moment instead of being refused. Pure.

Redis stalls now and then: an fsync on a busy disk, a fork, a failover. `call.initiated` is stored before anything
else happens to a call, so an INVITE of such a moment gets a transaction, which swallows its repetitions, and no call
yet. When events are written again the calls begin, in order and a few at a time. A stall longer than `PATIENCE_S` is
none that a caller should sit through: who waits is refused, and who comes is refused at once until it has passed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from pbx_sip.message.message import Request, Response, response_to

if TYPE_CHECKING:
    from pbx_signaling.counters import Counters
    from pbx_signaling.router.admission import Gate
    from pbx_sip.address import Flow

PATIENCE_S: Final = 3.0
"""From the moment the stall was found. Callers hear nothing meanwhile; their phones would wait for 32 s."""
WAITING_MAX: Final = 2_000
"""INVITEs that wait; beyond, 503. Threat: a stall under a flood filling memory."""
AT_ONCE: Final = 32
"""Calls begun in one turn: some 20 ms of work, so that what is under way is served between them."""
_CLOSE, _NEXT = 0, 1


class House(Protocol):
    """What the room needs of the core."""

    now: float
    counters: Counters

    def begin(self, key: Any, request: Request, flow: Flow) -> None:
        """Begins the call of an INVITE."""

    def settle(self) -> None:
        """Closes the step of one call."""

    def respond(self, key: Any, response: Response) -> None:
        """Answers a request."""

    def tag(self) -> str:
        """A fresh tag."""


class WaitingRoom:
    """The INVITEs that wait, by the keys of their transactions, oldest first."""

    def __init__(self, house: House, gate: Gate, schedule: Callable[[float, Any, int], object]) -> None:
        self.is_open = False
        """Whether who comes now may wait."""
        self._house = house
        self._gate = gate
        self._schedule = schedule
        self._waiting: dict[Any, tuple[Request, Flow]] = {}
        self._stall = 0
        """Numbers the stalls, so that the deadline of one does not end the patience with the next."""
        self._beginning = False

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self) -> None:
        """A stall began."""
        self._stall += 1
        self.is_open = True
        self._beginning = False
        self._schedule(self._house.now + PATIENCE_S, self, _CLOSE + 2 * self._stall)

    def enter(self, key: Any, request: Request, flow: Flow) -> None:
        """Lets an INVITE wait, or refuses it where there is no room."""
        if self.is_open and len(self._waiting) < WAITING_MAX:
            self._waiting[key] = (request, flow)
        else:
            self._turn_away(key, request)

    def over(self) -> None:
        """The stall is over: calls begin."""
        self.is_open = False
        self._beginning = True
        self._begin_some()

    def close(self) -> None:
        """Nobody waits any longer: the stall lasts, or the instance takes no more calls."""
        self.is_open = False
        waiting, self._waiting = self._waiting, {}
        for key, (request, _) in waiting.items():
            self._turn_away(key, request)

    def cancelled(self, key: Any) -> None:
        """The caller gave up (RFC 3261 section 9.2)."""
        found = self._waiting.pop(key, None)
        if found is not None:
            self._house.counters.calls_refused += 1
            self._house.respond(key, response_to(found[0], 487, "", self._house.tag()))

    def lost(self, key: Any) -> None:
        """Its transaction failed: the connection that it came by broke."""
        self._waiting.pop(key, None)

    def expired(self, what: int) -> None:
        """A deadline of ours."""
        stall, kind = divmod(what, 2)
        if stall != self._stall:
            return
        if kind == _NEXT:
            self._begin_some()
        elif self.is_open:
            self.close()

    def _turn_away(self, key: Any, request: Request) -> None:
        self._house.counters.calls_refused += 1
        self._house.respond(key, self._gate.unavailable(request))

    def _begin_some(self) -> None:
        if not self._beginning:
            return  # the next stall came before all were begun; they wait with those that come now
        for key in list(self._waiting)[:AT_ONCE]:
            request, flow = self._waiting.pop(key)
            self._house.begin(key, request, flow)
            self._house.settle()
        if self._waiting:
            self._schedule(self._house.now, self, _NEXT + 2 * self._stall)
