"""Keeping one session alive (RFC 4028): agreed with the peer, refreshed by one side, ended where nobody does.

Says when a refresh is due and when the session is over; the user sends the re-INVITE, UPDATE or BYE inside the dialog.

    OFF       no timer was agreed on
    KEEPING   waiting for the time of our refresh, or of the end
    ASKING    our refresh is under way
    EXPIRED   nobody refreshed in time
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from pbx_sip.dialog.offer_answer import glare_wait_s
from pbx_sip.dialog.session_timer import (
    OPTION,
    Duty,
    IntervalTooSmall,
    Refresher,
    SessionExpires,
    SessionPolicy,
    SessionTimer,
)
from pbx_sip.errors import ParseError, RemoteError
from pbx_sip.message.message import Message, Request, Response, response_to
from pbx_sip.usage.frozen import VERSION, Clock, check
from pbx_sip.usage.output import Output, Pairs, RefreshDue, SessionExpired

RETRY_S: Final = 10.0
"""Between refreshes that were refused for a reason that may pass; a session has at least 45 s for them."""
BUSY_S: Final = 2.0
"""A refresh waits so long for a change of the session that is under way."""
SOON_S: Final = 0.1
"""Before a refresh that the peer's refusal tells how to mend."""


class State(enum.IntEnum):
    """See the head of this file."""

    OFF = 0
    KEEPING = 1
    ASKING = 2
    EXPIRED = 3


@dataclass(frozen=True, slots=True)
class FrozenRefresh:
    """`Refresh` as a value. Times are wall-clock seconds."""

    state: int
    interval_s: int
    refresher: int
    refreshed: float
    wakes: float | None
    policy_interval_s: int
    policy_min_se_s: int
    allows_update: bool | None
    owns_call_id: bool
    version: int = VERSION


class Refresh:
    """The session timer of one dialog."""

    __slots__ = ("_wakes", "allows_update", "owns_call_id", "pending", "policy", "state", "timer")

    def __init__(self, policy: SessionPolicy, *, owns_call_id: bool) -> None:
        """An interval of 0 in `policy`: no timer. `owns_call_id` decides how long glare is waited for."""
        self.policy = policy
        """What the next request of ours asks for; raised by a 422."""
        self.owns_call_id = owns_call_id
        self.timer: SessionTimer | None = None
        self.allows_update: bool | None = None
        """Whether the peer said that it takes UPDATE (RFC 3311 section 4), last; None: it did not say what it takes."""
        self.state = State.OFF
        self._wakes: float | None = None
        self.pending: list[Output] = []
        """What happened and was not told yet; `drain` hands it out."""

    # --- what messages say

    def note_allow(self, message: Message) -> None:
        """Notes whether the peer takes UPDATE, where a message of it says so."""
        if "Allow" in message.headers:
            self.allows_update = "UPDATE" in ",".join(message.headers.all("Allow")).upper()

    def wish(self) -> Pairs:
        """Header fields of an INVITE or UPDATE of ours: what we ask for (sections 7.1 and 7.4)."""
        if not self.policy.interval_s:
            return ()
        timer, role, interval = self.timer, "", self.policy.interval_s
        if timer is not None:
            role = "uac" if timer.refresher is Refresher.LOCAL else "uas"
            interval = max(timer.interval_s, self.policy.min_se_s)
        return ("Session-Expires", str(SessionExpires(interval, role))), ("Min-SE", str(self.policy.min_se_s))

    def grant(self, request: Request, now: float) -> Pairs:
        """Agrees to what an INVITE or UPDATE of the peer asks (section 9): header fields for our 2xx.

        Raises IntervalTooSmall (422) and ParseError (400), to be answered instead.
        """
        self.note_allow(request)
        knows = request.first("Session-Expires") is not None or OPTION in request.headers.tokens("Supported")
        if not self.policy.interval_s or not knows:
            self._keep(None, now)
            return ()
        timer, expires = self.policy.as_uas(request, now)
        self._keep(timer, now)
        if expires is None:
            return ()
        fields: Pairs = (("Session-Expires", str(expires)),)
        return (*fields, ("Require", OPTION)) if expires.refresher == "uac" else fields

    def granted(self, response: Response, now: float) -> None:
        """Takes over what a 2xx of the peer to our INVITE or UPDATE agrees to (section 7.2)."""
        self.note_allow(response)
        try:
            self._keep(self.policy.as_uac(response, now), now)
        except ParseError:
            self._keep(None, now)

    def raised(self, response: Response) -> bool:
        """Takes over the interval that a 422 wants (section 7.3); False where it gives no reason for another try."""
        policy = self.policy.raised(response)
        if policy is None:
            return False
        self.policy = policy
        return True

    def refused(self, response: Response, now: float, chance: float) -> bool:
        """A refusal of our refresh (section 10, RFC 3261 section 14.1); False: the dialog is gone, end it.

        The session goes on until its end; what can be mended is tried before. `chance` is a random number from 0 to 1.
        """
        status = response.status
        if status in (408, 481):
            return False
        after = max(RETRY_S, float(_seconds_of(response.first("Retry-After"))))
        if status == 422:
            self.raised(response)
            after = SOON_S
        elif status in (405, 501) and self.allows_update:
            self.allows_update, after = False, SOON_S
        elif status == 491:
            after = max(SOON_S, glare_wait_s(self.owns_call_id, chance))
        self._later(now, after)
        return True

    def busy(self, now: float) -> None:
        """The session is being changed: our refresh waits."""
        self._later(now, BUSY_S)

    def stop(self) -> None:
        """The dialog is over."""
        self.timer, self._wakes, self.state = None, None, State.OFF

    # --- time

    @property
    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due."""
        return self._wakes

    def handle_timeout(self, now: float) -> None:
        """Says that a refresh is due, or that the session is over. `drain` next."""
        timer = self.timer
        if timer is None or self._wakes is None or now < self._wakes:
            return
        duty = timer.due(now)
        if duty is Duty.END:
            self.timer, self._wakes, self.state = None, None, State.EXPIRED
            self.pending.append(SessionExpired())
        elif duty is Duty.REFRESH:
            self.state, self._wakes = State.ASKING, timer.ends_at
            self.pending.append(RefreshDue("UPDATE" if self.allows_update else "INVITE"))
        else:
            self._wakes = timer.next_timeout

    def drain(self) -> list[Output]:
        """What came of the calls before."""
        pending, self.pending = self.pending, []
        return pending

    def _keep(self, timer: SessionTimer | None, now: float) -> None:
        self.timer = timer
        self._wakes = None if timer is None else timer.next_timeout
        self.state = State.OFF if timer is None else State.KEEPING

    def _later(self, now: float, after_s: float) -> None:
        if self.timer is not None:
            self.state = State.KEEPING
            self._wakes = min(now + after_s, self.timer.ends_at)

    # --- as a value

    def freeze(self, clock: Clock) -> FrozenRefresh:
        """The machine as a value; call it after `drain`."""
        timer = self.timer
        return FrozenRefresh(
            state=self.state,
            interval_s=0 if timer is None else timer.interval_s,
            refresher=0 if timer is None else timer.refresher,
            refreshed=0.0 if timer is None else clock.wall(timer.refreshed),
            wakes=None if self._wakes is None else clock.wall(self._wakes),
            policy_interval_s=self.policy.interval_s,
            policy_min_se_s=self.policy.min_se_s,
            allows_update=self.allows_update,
            owns_call_id=self.owns_call_id,
        )

    @classmethod
    def thaw(cls, frozen: FrozenRefresh, clock: Clock) -> Refresh:
        """The machine that a value was made of. Raises LocalError for what cannot be read."""
        check(frozen.version)
        policy = SessionPolicy(frozen.policy_interval_s, frozen.policy_min_se_s)
        self = cls(policy, owns_call_id=frozen.owns_call_id)
        self.state = State(frozen.state)
        self.allows_update = frozen.allows_update
        if frozen.interval_s:
            self.timer = SessionTimer(frozen.interval_s, Refresher(frozen.refresher), clock.local(frozen.refreshed))
        self._wakes = None if frozen.wakes is None else clock.local(frozen.wakes)
        return self


def refusal(request: Request, policy: SessionPolicy) -> Response | None:
    """422 to an INVITE or UPDATE whose interval is too small, 400 to one that cannot be read (section 9); else None."""
    if not policy.interval_s or request.first("Session-Expires") is None:
        return None
    try:
        policy.as_uas(request, 0.0)
    except IntervalTooSmall as error:
        response = response_to(request, error.status_hint)
        response.headers.append("Min-SE", str(error.min_se_s))
        return response
    except RemoteError as error:
        return response_to(request, error.status_hint)
    return None


def _seconds_of(value: str | None) -> int:
    """The delta-seconds at the head of a Retry-After value; 0 where there is none."""
    digits = (value or "").partition(";")[0].partition("(")[0].strip()
    return int(digits) if digits.isdecimal() and len(digits) <= 9 else 0
