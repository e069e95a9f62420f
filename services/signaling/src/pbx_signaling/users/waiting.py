"""INVITEs that come while no event can be written: they wait for a moment instead of being refused. Pure.

Redis stalls now and then: an fsync on a busy disk, a fork, a failover. `call.initiated` is stored before anything
else happens to a call, so an INVITE of such a moment gets a transaction, which swallows its repetitions, and no call
yet. When events are written again the calls begin, in order and a few at a time. A stall longer than `PATIENCE_S` is
none that a caller should sit through: who waits is refused, and who comes is refused at once until it has passed.

It stands in front of the user that begins calls, and is the user of INVITE outside of dialogs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pbx_signaling.users.refusals import unavailable
from pbx_signaling.users.user import User
from pbx_sip.message.message import Request, Response, response_to

if TYPE_CHECKING:
    from pbx_signaling.counters import Counters
    from pbx_signaling.users.sip import Sip
    from pbx_signaling.users.user import Load, Owner
    from pbx_sip.address import Flow
    from pbx_sip.transaction.events import FailureCause, Key, ServerKey

PATIENCE_S: Final = 3.0
"""From the moment the stall was found. Callers hear nothing meanwhile; their phones would wait for 32 s."""
WAITING_MAX: Final = 2_000
"""INVITEs that wait; beyond, 503. Threat: a stall under a flood filling memory."""
AT_ONCE: Final = 32
"""Calls begun in one turn: some 20 ms of work, so that what is under way is served between them."""
_CLOSE, _NEXT = 0, 1


class Waiting(User):
    """The INVITEs that wait, by the keys of their transactions, oldest first. The owner of their transactions."""

    methods = ("INVITE",)
    call_id = ""

    def __init__(self, calls: User, sip: Sip, counters: Counters) -> None:
        """`calls`: whose INVITEs these are."""
        self.is_patient = False
        """Whether who comes now may wait."""
        self._calls = calls
        self._sip = sip
        self._counters = counters
        self._waiting: dict[ServerKey, tuple[Request, Flow]] = {}
        self._ready = True
        self._stall = 0
        """Numbers the stalls, so that the deadline of one does not end the patience with the next."""
        self._beginning = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def user(self) -> User:
        """Itself: one owner for all that wait."""
        return self

    # --- before there is a transaction: as calls say

    def refusal(self, request: Request, flow: Flow, load: Load) -> Response | None:
        """What answers an INVITE whoever sends it."""
        return self._calls.refusal(request, flow, load)

    def takes(self, load: Load) -> bool:
        """Whether calls are taken."""
        return self._calls.takes(load)

    def misfit(self, request: Request, load: Load) -> Response | None:
        """What refuses an INVITE that cannot become a call."""
        return self._calls.misfit(request, load)

    # --- transactions

    def request(self, key: ServerKey, request: Request, flow: Flow) -> None:
        """An INVITE: it becomes a call, or waits, or is refused where there is no room."""
        if self._ready:
            self._calls.request(key, request, flow)
        elif self.is_patient and len(self._waiting) < WAITING_MAX:
            self._sip.own(key, self)
            self._waiting[key] = (request, flow)
        else:
            self._turn_away(key, request)

    def cancelled(self, owner: Owner, key: ServerKey, request: Request) -> None:
        """The caller gave up (RFC 3261 section 9.2)."""
        found = self._waiting.pop(key, None)
        if found is not None:
            self._counters.calls_refused += 1
            self._sip.respond(key, response_to(found[0], 487, "", self._sip.tag()))

    def failed(self, owner: Owner, key: Key, cause: FailureCause) -> None:
        """Its transaction failed: the connection that it came by broke."""
        if len(key) == 3:
            self._waiting.pop(key, None)

    # --- the stall

    def journal(self, ready: bool) -> None:
        """A stall began, or is over: calls begin."""
        self._ready = ready
        if ready:
            self.is_patient = False
            self._beginning = True
            self._begin_some()
            return
        self._stall += 1
        self.is_patient = True
        self._beginning = False
        self._sip.schedule(self, self._sip.now + PATIENCE_S, _CLOSE + 2 * self._stall)

    def end(self, reason: str) -> None:
        """Nobody waits any longer: the instance takes no more calls."""
        self._close()

    def expired(self, owner: Owner, what: int) -> None:
        """It is time to let some more callers in, or to turn the rest away; of the stall that set it alone."""
        stall, kind = divmod(what, 2)
        if stall != self._stall:
            return
        if kind == _NEXT:
            self._begin_some()
        elif self.is_patient:
            self._close()

    def _close(self) -> None:
        self.is_patient = False
        waiting, self._waiting = self._waiting, {}
        for key, (request, _) in waiting.items():
            self._turn_away(key, request)

    def _turn_away(self, key: ServerKey, request: Request) -> None:
        self._counters.calls_refused += 1
        self._sip.respond(key, unavailable(request, self._sip.tag()))

    def _begin_some(self) -> None:
        if not self._beginning:
            return  # the next stall came before all were begun; they wait with those that come now
        for key in list(self._waiting)[:AT_ONCE]:
            self._calls.request(key, *self._waiting.pop(key))
        if self._waiting:
            self._sip.schedule(self, self._sip.now, _NEXT + 2 * self._stall)
