"""The two-leg call as a pure machine: call-control events in, commands out.

`receive(signal, now)` mutates once; `drain()` hands out what the call asks of its legs and of the world. What may
happen in which state is `TABLE`. A signal that has no cell is stale (it crossed a change of state) and is dropped.

    AUTHENTICATING -> ROUTING -> ALLOCATING -> DIALING -> RINGING -> ANSWERED -> TALKING -> ENDED

The machine is a plain value: all of its fields, and those of its media session, can be stored and restored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pbx_signaling.border.headers import Carried
from pbx_signaling.calls import commands as c
from pbx_signaling.calls import refusal
from pbx_signaling.calls import signals as e
from pbx_signaling.calls.ending import (
    EXPIRED,
    LONGEST_CALL,
    MEDIA_TIMEOUT,
    NO_ANSWER,
    NO_RELAY,
    Ending,
    Origin,
    Outcome,
    ending_of_limit,
    ending_of_loss,
    ending_of_order,
    ending_of_refusal,
    ending_of_rejection,
)
from pbx_signaling.calls.signals import CALLER, Ask, Cause, Content, Deadline, Side
from pbx_signaling.calls.state import (
    BEFORE_ANSWER,
    CONNECTED,
    MAX_DIGITS,
    MAX_EXCHANGES,
    OFFERING,
    SETUP,
    CallPolicy,
    Exchange,
    State,
)
from pbx_signaling.media.session import MediaSession, SessionRefused
from pbx_signaling.media.stream import StreamEndpoint
from pbx_sip.message import dtmf


@dataclass(slots=True)
class Call:
    """One call attempt, from the INVITE that passed admission to its CDR."""

    call_id: str
    dialled: str
    """The user part dialled."""
    aor: str
    """The address-of-record dialled, user@domain."""
    claimed: str
    """The address-of-record that the caller claims, user@domain."""
    started: float
    """Monotonic seconds."""
    started_ms: int
    """Milliseconds since the Unix epoch."""
    media: MediaSession
    policy: CallPolicy
    content: Content | None = None
    """What the INVITE carried, until the callee is dialled."""
    headers: Carried = ()
    """The INVITE's header fields that cross to the callee."""
    state: State = State.AUTHENTICATING
    caller: str = ""
    """The user that the caller proved to be; empty before."""
    caller_name: str = ""
    target: e.Target | None = None
    leg: int = 0
    """Of the callee that is, or was last, invited; 0: none yet."""
    found: e.Found | e.LookupFailed | None = None
    """What the registrar said of the callee before it knew the caller."""
    targets: list[e.Target] = field(default_factory=list)
    """Targets not tried yet."""
    redirected: list[str] = field(default_factory=list)
    """Addresses-of-record whose phones sent the call on (3xx)."""
    answered: float | None = None
    ended: float | None = None
    ending: Ending | None = None
    sequence: int = 0
    """Events emitted so far."""
    early_media: bool = False
    initiated: bool = False
    """Its first event was emitted."""
    invitation_s: int = 0
    """How long the caller's INVITE is of use; 0: it does not say."""
    held: list[Side] = field(default_factory=list)
    """The sides that hold the other; each of them takes back its own hold."""
    digits: int = 0
    """DTMF digits that were told of."""
    exchanges: dict[int, Exchange] = field(default_factory=dict)
    pending: list[c.Command] = field(default_factory=list)

    def __repr__(self) -> str:
        """For logs and tests."""
        return f"<Call {self.call_id} {self.claimed} -> {self.aor}, {self.state.name}>"

    def start(self, authenticate: bool, now: float) -> None:
        """Begins the attempt; `drain` next. Without `authenticate` the caller is trusted as it claims."""
        self._do(c.SetDeadline(Deadline.SETUP, self.policy.setup_s))
        if authenticate:
            self._do(c.Authenticate())
        else:
            self.receive(e.Authenticated(self.claimed.partition("@")[0], ""), now)
        # Asked together with the credentials: both questions travel in one message.
        self._do(c.FindTargets(self.aor))

    def receive(self, signal: e.Signal, now: float) -> None:
        """Takes one signal in; `drain` next."""
        action = TABLE.get((self.state, type(signal)))
        if action is not None:
            action(self, signal, now)

    def drain(self) -> list[c.Command]:
        """The commands since the last call, in order."""
        commands, self.pending = self.pending, []
        return commands

    def _do(self, *commands: c.Command) -> None:
        self.pending.extend(commands)

    # --- before the callee is invited

    def _authenticated(self, signal: e.Authenticated, now: float) -> None:
        self.caller, self.caller_name = signal.user, signal.display_name
        self.state = State.ROUTING
        if self.invitation_s:
            self._do(c.SetDeadline(Deadline.INVITATION, self.invitation_s))
        self._initiate()
        if self.found is not None:
            found, self.found = self.found, None
            self.receive(found, now)

    def _found_before(self, signal: e.Found | e.LookupFailed, now: float) -> None:
        """Where the callee is, or that nobody can tell: it counts once the caller is who it claims to be."""
        self.found = signal

    def _initiate(self) -> None:
        """Writes the attempt down, before anything else happens to it."""
        self.initiated = True
        self._do(c.Emit(c.Record.INITIATED))

    def _refused(self, signal: e.Refused, now: float) -> None:
        ending = ending_of_refusal(signal.status)
        if signal.stale:
            self.state = State.ENDED
            self._do(c.Reject(signal.status, challenge=True, stale=True), *_FORGET_SETUP, c.Finish())
            return
        self._do(c.Count())
        self._end(ending, now, c.Reject(signal.status, retry_after_s=signal.retry_after_s))

    def _limited(self, signal: e.Limited, now: float) -> None:
        """Beyond a limit; floods of such attempts are counted, not written down one by one."""
        reject = c.Reject(signal.status, retry_after_s=signal.retry_after_s, warning=signal.warning)
        if not self.initiated:
            self._do(c.Count())
        if self.state is State.ALLOCATING:
            self.state = State.ROUTING  # no slot is under way: nothing to wait for
        self._end(ending_of_limit(signal), now, reject)

    def _found(self, signal: e.Found, now: float) -> None:
        if not signal.known:
            self._refuse(404, "user_unknown", Outcome.UNREACHABLE, 1, now)
        elif signal.is_own:
            self._refuse(486, "own_phone", Outcome.BUSY, 17, now)
        elif not signal.targets:
            self._refuse(480, "not_registered", Outcome.UNREACHABLE, 20, now)
        else:
            self.targets = list(signal.targets)
            if self.media.slot is None:
                self._allocate(now)
            else:
                self._dial_first()

    def _allocate(self, now: float) -> None:
        try:
            content = self.content
            endpoints = (
                self.media.first_offer(content.sdp, self.policy.barred)
                if content is not None and content.is_sdp
                else []
            )
        except SessionRefused as error:
            self._refuse(488, "bad_session", Outcome.FAILED, 88, now, warning=str(error))
            return
        self.state = State.ALLOCATING
        self._do(c.ReserveMedia(endpoints))

    def _media_ready(self, signal: e.MediaReady, now: float) -> None:
        self.media.slot = signal.slot
        self._dial_first()

    def _dial_first(self) -> None:
        self._do(c.ClearDeadline(Deadline.SETUP), c.SetDeadline(Deadline.NO_ANSWER, self.policy.no_answer_s))
        self._dial_next()

    def _late_media(self, signal: e.MediaReady, now: float) -> None:
        """The slot came after the attempt was over."""
        self.media.slot, self.state = signal.slot, State.ENDED
        self._do(c.ReleaseMedia(), c.Finish())

    def _dial_next(self) -> None:
        self.target = self.targets.pop(0)
        self.media.place(Side.CALLEE, self.target.host)
        content = self.content
        if content is not None and content.is_sdp:
            content = content.with_sdp(self.media.forward_offer(Side.CALLER, content.sdp, self.policy.barred))
        self.state = State.DIALING
        self.leg += 1
        self._do(c.Dial(self.leg, self.target, content, self.headers), c.Emit(c.Record.DIALING))

    def _no_media(self, signal: e.MediaUnavailable, now: float) -> None:
        self.state = State.ROUTING  # no slot is under way any more: nothing to wait for
        self._refuse(503, "no_relay", Outcome.FAILED, 34, now, retry_after_s=5)

    def _no_service(self, signal: e.ServiceFailed, now: float) -> None:
        self._refuse(503, "service_unavailable", Outcome.FAILED, 41, now, retry_after_s=signal.retry_after_s or 5)

    # --- ringing and answer

    def _progress(self, signal: e.Progress, now: float) -> None:
        may_offer = self._invited_without_offer
        content = self._carried(signal.content, signal.leg, provisional=True, may_offer=may_offer, fork=signal.fork)
        first = self.state is State.DIALING
        if first and signal.status != 183:
            self.state = State.RINGING
            self._do(c.Emit(c.Record.RINGING, status=signal.status))
        if content is not None and not self.early_media:
            self.early_media = True
            self._do(c.Emit(c.Record.EARLY_MEDIA, status=signal.status))
        self._do(c.Ring(signal.status, signal.reason, content, signal.fork, signal.reliable, signal.headers))

    def _answered(self, signal: e.Answered, now: float) -> None:
        try:
            content = self._carry(signal.content, signal.leg, may_offer=self._invited_without_offer)
        except SessionRefused as error:
            self._do(c.Acknowledge(signal.leg, None), c.HangUp(signal.leg, Cause("session refused", 88)))
            self._refuse(488, "bad_session", Outcome.FAILED, 88, now, warning=str(error))
            return
        if content is None or not content.is_sdp:
            self._tell_relay(self.media.settle(signal.fork))
        if not self._invited_without_offer:
            # RFC 3261 section 13.2.2.4. An INVITE without an offer is answered in its ACK, and by the caller.
            self._do(c.Acknowledge(self.leg, None))
        self.state, self.answered, self.content = State.ANSWERED, now, None
        self.targets = []
        if self.invitation_s:
            self._do(c.ClearDeadline(Deadline.INVITATION))
        self._do(
            c.ClearDeadline(Deadline.NO_ANSWER),
            c.SetDeadline(Deadline.LONGEST, self.policy.longest_s),
            c.Emit(c.Record.ANSWERED),
            c.Answer(content, signal.fork, signal.headers),
        )

    def _acknowledged(self, signal: e.Acknowledged, now: float) -> None:
        self.state = State.TALKING
        content = self._carried(signal.content, CALLER, may_offer=False)
        self._settle_offer(Side.CALLER)
        self._do(c.Acknowledge(self.leg, content))

    @property
    def _invited_without_offer(self) -> bool:
        """Whether the callee makes the offer; else its later descriptions only repeat its answer (RFC 6337)."""
        return self.content is None or not self.content.is_sdp

    def _settle_offer(self, by: Side) -> None:
        """An ACK came: what it should have answered and did not is never answered."""
        if not any(exchange.offered for exchange in self.exchanges.values()):
            self.media.abandon(by.other)

    def _rejected(self, signal: e.Rejected, now: float) -> None:
        if self.targets and refusal.tries_next(signal.status, local=signal.local):
            self._dial_next()
            return
        if self._sent_on(signal.users):
            return
        ending = ending_of_rejection(signal)
        rest = signal.cause, signal.retry_after_s
        self._end(ending, now, c.Reject(ending.sip_status, ending.sip_reason, *rest, headers=signal.headers))

    def _sent_on(self, users: tuple[str, ...]) -> bool:
        """Whether the callee's 3xx is followed: to the first user that this call was not at yet, not for ever."""
        been = {self.aor, *self.redirected}
        onward = next((aor for aor in users if aor not in been), "")
        if not onward or len(self.redirected) >= self.policy.redirects:
            return False
        self.redirected.append(self.aor)
        self.aor, self.targets, self.state = onward, [], State.ROUTING
        self._do(c.ClearDeadline(Deadline.NO_ANSWER), c.SetDeadline(Deadline.SETUP, self.policy.setup_s))
        self._do(c.FindTargets(onward))
        return True

    def _cancelled(self, signal: e.Cancelled, now: float) -> None:
        q850 = signal.cause.q850 or 16
        ending = Ending(Outcome.CANCELLED, Origin.REMOTE, 487, "Request Terminated", q850, "cancelled", Side.CALLER)
        self._give_up(ending, now, signal.cause)

    def _no_answer(self, now: float) -> None:
        self._give_up(NO_ANSWER, now, Cause("no answer", 19))

    def _unconfirmed(self, signal: e.LegLost, now: float) -> None:
        """The caller never confirmed a reliable provisional response: a 5xx for its INVITE (RFC 3262 section 3)."""
        self._give_up(ending_of_loss(signal, answered=False), now, Cause(signal.cause, 102))

    def _give_up(self, ending: Ending, now: float, cause: Cause) -> None:
        """Ends an attempt whose callee is still invited."""
        callee = self.state in (State.DIALING, State.RINGING)
        if callee:
            self._do(c.Cancel(self.leg, cause))
        self._end(
            ending, now, c.Reject(ending.sip_status, ending.sip_reason, Cause(q850=ending.q850_cause)), wait=callee
        )

    def _answered_too_late(self, signal: e.Answered, now: float) -> None:
        """The 200 crossed our CANCEL (RFC 3261 section 9.1): confirm it, then end it."""
        self.state = State.ENDED
        self._do(
            c.Acknowledge(signal.leg, None), c.HangUp(signal.leg, Cause("call completion elsewhere", 16)), c.Finish()
        )

    def _callee_gone(self, signal: object, now: float) -> None:
        self.state = State.ENDED
        self._do(c.Finish())

    # --- inside the call

    def _asked(self, signal: e.Asked, now: float) -> None:
        if len(self.exchanges) >= MAX_EXCHANGES:
            self._do(c.Reply(signal.leg, signal.exchange, 500, retry_after_s=2))
            return
        if self.state is State.ANSWERED and signal.leg != CALLER and signal.ask in (Ask.MODIFY, Ask.UPDATE):
            # The callee is confirmed, the caller may not have heard its answer yet: as glare (RFC 3261 section 14.2).
            self._do(c.Reply(signal.leg, signal.exchange, 491))
            return
        content, offered = signal.content, False
        if content is not None and content.is_sdp and signal.ask in OFFERING:
            try:
                content, offered = self._offer_inside(content, signal), True
            except SessionRefused as error:
                self._do(c.Reply(signal.leg, signal.exchange, error.status))
                return
        if signal.ask is Ask.INFORM and content is not None:
            self._note_digit(Side.of(signal.leg), content)
        self.exchanges[signal.exchange] = Exchange(signal.leg, signal.ask, offered)
        rest = signal.fork, signal.package, signal.confirms, signal.headers
        self._do(c.Pass(self._other(signal.leg), signal.exchange, signal.ask, content, *rest))

    def _note_digit(self, side: Side, content: Content) -> None:
        """A key that was pressed, as phones and gateways say it in INFO."""
        pressed = dtmf.read(content.type, content.data)
        if pressed is None or self.digits >= MAX_DIGITS:
            return
        self.digits += 1
        self._do(c.Emit(c.Record.DTMF, side=side, digit=pressed.digit, duration_ms=pressed.duration_ms))

    def _offer_inside(self, content: Content, signal: e.Asked) -> Content:
        if signal.ask is Ask.CONFIRM_PROGRESS and self.media.owes_answer(Side.of(signal.leg)):
            return self._carry(content, signal.leg) or content
        return content.with_sdp(self.media.offer(Side.of(signal.leg), content.sdp, self.policy.barred))

    def _replied(self, signal: e.Replied, now: float) -> None:
        exchange = self.exchanges.get(signal.exchange)
        if exchange is None or exchange.by == signal.leg:
            return
        content = signal.content
        final = signal.status >= 200
        if final and exchange.ask is not Ask.MODIFY:
            del self.exchanges[signal.exchange]
        if signal.status >= 300:
            self.exchanges.pop(signal.exchange, None)
            if exchange.offered:
                self.media.rollback(Side.of(exchange.by))
        elif content is not None and content.is_sdp and exchange.ask in OFFERING:
            may_offer = exchange.ask is Ask.MODIFY and not exchange.offered
            try:
                content = self._carry(content, signal.leg, provisional=not final, may_offer=may_offer)
            except SessionRefused as error:
                if final and exchange.offered:
                    self._refuse_answer(signal, exchange, error)
                    return
                content = None
            self._note_hold(Side.of(exchange.by))
        if final and signal.status < 300 and exchange.offered and exchange.ask is not Ask.CONFIRM_PROGRESS:
            self.media.abandon(Side.of(exchange.by))
        status = refusal.inside(signal.status, is_offer=exchange.offered, explanation=signal.headers)
        reason = signal.reason if status == signal.status else ""
        rest = content, signal.retry_after_s, signal.headers
        self._do(c.Reply(exchange.by, signal.exchange, status, reason, *rest))

    def _refuse_answer(self, signal: e.Replied, exchange: Exchange, error: SessionRefused) -> None:
        """An offer was accepted with an answer that cannot be read: for its maker it was refused (RFC 3261 14.2)."""
        self.exchanges.pop(signal.exchange, None)
        self.media.rollback(Side.of(exchange.by))
        if exchange.ask is Ask.MODIFY:
            self._do(c.Confirm(signal.leg, signal.exchange, None))
        self._do(c.Reply(exchange.by, signal.exchange, error.status))

    def _withdrawn(self, signal: e.Withdrawn, now: float) -> None:
        exchange = self.exchanges.get(signal.exchange)
        if exchange is not None and exchange.by == signal.leg:
            self._do(c.Withdraw(self._other(signal.leg), signal.exchange, signal.cause))

    def _confirmed(self, signal: e.Confirmed, now: float) -> None:
        if self.exchanges.pop(signal.exchange, None) is None:
            return
        content = self._carried(signal.content, signal.leg, may_offer=False)
        self._settle_offer(Side.of(signal.leg))
        if content is not None:
            self._note_hold(Side.of(signal.leg))
        self._do(c.Confirm(self._other(signal.leg), signal.exchange, content))

    def _refreshed(self, signal: e.Refreshed, now: float) -> None:
        """An answer that should say what the last one said; where it does not, the relay follows it."""
        self._carried(signal.content, signal.leg, may_offer=False)

    def _note_hold(self, by: Side) -> None:
        """Tells of hold and resume after an exchange in which `by` changed the session.

        Its peer answers within what was offered: that is no hold of its own. But one that takes all that it is offered
        does not hold any more, and one that does not holds.
        """
        holds = self.media.holds(by)
        self._note(by, holds)
        if not holds and (by.other in self.held) != self.media.holds(by.other) and self.media.is_open(by):
            self._note(by.other, self.media.holds(by.other))

    def _note(self, by: Side, holds: bool) -> None:
        if holds == (by in self.held):
            return
        if holds:
            self.held.append(by)
        else:
            self.held.remove(by)
        self._do(c.Emit(c.Record.HELD if holds else c.Record.RESUMED, side=by))

    # --- the end

    def _hung_up(self, signal: e.HungUp, now: float) -> None:
        """A BYE from either side."""
        if self.answered is None:
            # The callee may end its early dialog's call only by a final answer; a BYE of the caller ends the attempt.
            self._cancelled(e.Cancelled(signal.leg, signal.cause), now)
            return
        ending = Ending(
            Outcome.ANSWERED, Origin.REMOTE, 200, "OK", signal.cause.q850 or 16, "normal", Side.of(signal.leg)
        )
        self._hang_up(ending, now, signal.cause)

    def _leg_lost(self, signal: e.LegLost, now: float) -> None:
        self._hang_up(ending_of_loss(signal, answered=True), now, Cause(signal.cause, 102))

    def _media_lost(self, signal: e.MediaLost, now: float) -> None:
        """Its relay does not have it, and a phone was told of the slot. Once answered, silence ends the call."""
        if signal.slot == self.media.slot:
            self._give_up(NO_RELAY, now, Cause("media relay lost", 34))

    def _media_silent(self, signal: e.MediaSilent, now: float) -> None:
        self._do(c.Emit(c.Record.MEDIA_TIMEOUT, status=signal.silent_s))
        self._hang_up(MEDIA_TIMEOUT, now, Cause("media timeout", 41))

    def _ordered(self, signal: e.Ordered, now: float) -> None:
        ending = ending_of_order(signal, answered=self.answered is not None)
        end = self._give_up if self.answered is None else self._hang_up
        end(ending, now, Cause(signal.reason, ending.q850_cause))

    def _expired(self, signal: e.Expired, now: float) -> None:
        match signal.deadline:
            case Deadline.SETUP if self.state in SETUP:
                self._refuse(503, "setup_timeout", Outcome.FAILED, 41, now, retry_after_s=5)
            case Deadline.NO_ANSWER if self.state in (State.DIALING, State.RINGING):
                self._no_answer(now)
            case Deadline.INVITATION if self.state in BEFORE_ANSWER:
                self._give_up(EXPIRED, now, Cause("invitation expired", 19))
            case Deadline.LONGEST if self.state in CONNECTED:
                self._hang_up(LONGEST_CALL, now, Cause("longest call", 31))
            case Deadline.RELEASE if self.state is State.CANCELLING:
                self._callee_gone(signal, now)
            case _:
                pass

    def _refuse(
        self,
        status: int,
        word: str,
        outcome: Outcome,
        q850: int,
        now: float,
        *,
        retry_after_s: int = 0,
        warning: str = "",
    ) -> None:
        """Ends an attempt on our own account."""
        reject = c.Reject(status, cause=Cause(q850=q850), retry_after_s=retry_after_s, warning=warning)
        self._end(Ending(outcome, Origin.LOCAL, status, "", q850, word), now, reject)

    def _end(self, ending: Ending, now: float, reject: c.Reject, *, wait: bool = False) -> None:
        """Ends an unanswered attempt; with `wait` the callee's leg still has a word to say."""
        allocating = self.state is State.ALLOCATING
        self.ending, self.ended, self.content, self.targets = ending, now, None, []
        if self.media.slot is not None:
            self._do(c.ReleaseMedia())
        self._do(*_FORGET_SETUP)
        if self.invitation_s:
            self._do(c.ClearDeadline(Deadline.INVITATION))
        if not self.initiated:
            self._initiate()
        self._do(c.Emit(c.Record.ENDED), reject)
        if wait or allocating:
            self.state = State.CANCELLING
            self._do(c.SetDeadline(Deadline.RELEASE, self.policy.cancel_s))
        else:
            self.state = State.ENDED
            self._do(c.Finish())

    def _hang_up(self, ending: Ending, now: float, cause: Cause) -> None:
        """Ends an answered call: BYE where there was none, and the slot back; its relay tells others what flowed."""
        if self.state is State.ANSWERED:
            self._do(c.Acknowledge(self.leg, None))
        self.ending, self.ended, self.state = ending, now, State.ENDED
        self.exchanges.clear()
        gone = ending.by if ending.origin is Origin.REMOTE else None
        self._do(*(c.HangUp(leg, cause) for leg in (CALLER, self.leg) if Side.of(leg) is not gone))
        self._do(c.ClearDeadline(Deadline.LONGEST), c.ReleaseMedia(), c.Emit(c.Record.ENDED), c.Finish())

    def _other(self, leg: int) -> int:
        """The leg at the other end."""
        return CALLER if leg else self.leg

    # --- session descriptions

    def _carry(
        self,
        content: Content | None,
        leg: int,
        *,
        provisional: bool = False,
        may_offer: bool = True,
        fork: str = "",
    ) -> Content | None:
        """Turns what a leg sent into what the other side gets. Raises SessionRefused."""
        if content is None or not content.is_sdp:
            return content
        data, endpoints = self.media.carry(
            Side.of(leg), content.sdp, self.policy.barred, provisional=provisional, may_offer=may_offer, fork=fork
        )
        self._tell_relay(endpoints)
        return content.with_sdp(data)

    def _carried(
        self,
        content: Content | None,
        leg: int,
        *,
        provisional: bool = False,
        may_offer: bool = True,
        fork: str = "",
    ) -> Content | None:
        """As `_carry`, where a session description that cannot be read is left out instead."""
        try:
            return self._carry(content, leg, provisional=provisional, may_offer=may_offer, fork=fork)
        except SessionRefused:
            return None

    def _tell_relay(self, endpoints: list[StreamEndpoint]) -> None:
        if endpoints:
            self._do(c.UpdateMedia(endpoints))


_FORGET_SETUP: Final = (c.ClearDeadline(Deadline.SETUP), c.ClearDeadline(Deadline.NO_ANSWER))

Action = Callable[[Call, Any, float], None]
S, C = State, Call
TABLE: Final[Mapping[tuple[State, type], Action]] = {
    (S.AUTHENTICATING, e.Authenticated): C._authenticated,
    (S.AUTHENTICATING, e.Refused): C._refused,
    (S.AUTHENTICATING, e.Limited): C._limited,
    **{(S.AUTHENTICATING, kind): C._found_before for kind in (e.Found, e.LookupFailed)},
    (S.ROUTING, e.Found): C._found,
    (S.ROUTING, e.LookupFailed): C._no_service,
    (S.ALLOCATING, e.MediaReady): C._media_ready,
    (S.ALLOCATING, e.Limited): C._limited,
    (S.ALLOCATING, e.MediaUnavailable): C._no_media,
    **{(state, e.ServiceFailed): C._no_service for state in SETUP},
    **{(state, e.Cancelled): C._cancelled for state in BEFORE_ANSWER},
    **{(state, e.Ordered): C._ordered for state in (*BEFORE_ANSWER, *CONNECTED)},
    **{(state, e.Expired): C._expired for state in State},
    **{(state, e.Progress): C._progress for state in (S.DIALING, S.RINGING)},
    **{(state, e.Answered): C._answered for state in (S.DIALING, S.RINGING)},
    **{(state, e.Rejected): C._rejected for state in (S.DIALING, S.RINGING)},
    **{(state, e.Asked): C._asked for state in (S.DIALING, S.RINGING, *CONNECTED)},
    **{(state, e.Replied): C._replied for state in (S.DIALING, S.RINGING, *CONNECTED)},
    **{(state, e.HungUp): C._hung_up for state in (S.DIALING, S.RINGING, *CONNECTED)},
    (S.ANSWERED, e.Acknowledged): C._acknowledged,
    **{(state, e.Confirmed): C._confirmed for state in CONNECTED},
    **{(state, e.Withdrawn): C._withdrawn for state in CONNECTED},
    **{(state, e.LegLost): C._unconfirmed for state in (S.DIALING, S.RINGING)},
    **{(state, e.LegLost): C._leg_lost for state in CONNECTED},
    **{(state, e.Refreshed): C._refreshed for state in CONNECTED},
    **{(state, e.MediaLost): C._media_lost for state in (S.DIALING, S.RINGING)},
    **{(state, e.MediaSilent): C._media_silent for state in CONNECTED},
    (S.CANCELLING, e.Answered): C._answered_too_late,
    (S.CANCELLING, e.Rejected): C._callee_gone,
    (S.CANCELLING, e.LegLost): C._callee_gone,
    (S.CANCELLING, e.MediaReady): C._late_media,
    (S.CANCELLING, e.MediaUnavailable): C._callee_gone,
}
