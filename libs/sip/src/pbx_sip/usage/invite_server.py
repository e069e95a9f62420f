"""An INVITE of the peer's outside of a dialog: progress, reliable where asked, the answer, CANCEL, refusal.

RFC 3261 sections 9.2, 12.1.1 and 13.3; 3262 section 3. A user agent that forks behind itself (a B2BUA) answers with
several early dialogs: each is a fork with a name of the user's choice, its own tag and its own reliable progress.

    INVITED     nothing but a 100 was sent
    PROCEEDING  a provisional response made an early dialog
    ANSWERED    a 2xx was sent
    ENDED       it was refused, or its transaction failed
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from pbx_sip.address import Flow
from pbx_sip.dialog.dialog import Dialog
from pbx_sip.dialog.offer_answer import Act, Turn
from pbx_sip.dialog.reliable import Confirmed, RAck, ReliableSender
from pbx_sip.dialog.repetition import Due
from pbx_sip.errors import LocalError, RemoteError
from pbx_sip.message.message import Request, Response, response_to
from pbx_sip.message.serialize import serialize
from pbx_sip.transaction.events import ServerKey
from pbx_sip.usage.description import has_description, made_response
from pbx_sip.usage.frozen import (
    Clock,
    FrozenFork,
    FrozenInviteUas,
    FrozenRepetition,
    check,
    freeze_flow,
    request_of,
    response_of,
    thaw_flow,
)
from pbx_sip.usage.invite_client import identity_of
from pbx_sip.usage.origin import Origin
from pbx_sip.usage.output import (
    Cancelled,
    GaveUp,
    Output,
    Pairs,
    ProgressConfirmed,
    Respond,
    Unconfirmed,
    Waits,
)
from pbx_sip.usage.within import InDialog

FORKS_MAX: Final = 8
"""Early dialogs towards one caller. Threat: a callee's network that forks without end."""
PROGRESS_MAX: Final = 32
"""Reliable responses of one fork that wait for a PRACK. Threat: a callee that rings faster than the caller confirms."""


class State(enum.IntEnum):
    """See the head of this file."""

    INVITED = 0
    PROCEEDING = 1
    ANSWERED = 2
    ENDED = 3


class Signal(enum.IntEnum):
    """What can happen to it."""

    PROGRESS = 0
    ANSWER = 1
    REFUSE = 2
    CANCEL = 3
    FAILURE = 4
    """The transaction failed before an answer: nobody is there to hear one."""


class Fork:
    """One early dialog of the INVITE, and its reliable progress."""

    __slots__ = ("crossing", "responses", "sender", "within")

    def __init__(self, within: InDialog, sender: ReliableSender) -> None:
        self.within = within
        self.sender = sender
        self.responses: dict[int, Response] = {}
        """By RSeq: what is sent and unconfirmed, and what waits behind it."""
        self.crossing: set[int] = set()
        """RSeq numbers whose PRACK crossed our answer."""


class InviteUas:
    """One INVITE of the peer's, with all that we say to it."""

    __slots__ = ("_chosen", "_first_rseq", "_flow", "_invite", "_offers", "_origin", "forks", "key", "pending", "state")

    def __init__(self, key: ServerKey, invite: Request, flow: Flow, origin: Origin, first_rseq: int = 1) -> None:
        """`first_rseq`: between 1 and 2^31 - 1, the user's choice at random (RFC 3262 section 3)."""
        self.key = key
        """Of its transaction."""
        self._invite = invite
        self._offers = has_description(invite)
        self._flow = flow
        self._origin = origin
        self._first_rseq = first_rseq
        self._chosen: str | None = None
        self.pending: list[Output] = []
        """What happened and was not told yet; `drain` hands it out."""
        self.forks: dict[str, Fork] = {}
        """By the name that the user gave. Drain their dialogs behind this machine."""
        self.state = State.INVITED

    def __repr__(self) -> str:
        """For logs and tests."""
        return f"<InviteUas {self._invite.call_id} {self.state.name} forks={len(self.forks)}>"

    @property
    def invite(self) -> Request:
        """The INVITE as it came; once it is answered, as much of it as names its dialogs."""
        return self._invite

    @property
    def session(self) -> InDialog | None:
        """The dialog that was answered; None before."""
        return None if self._chosen is None else self.forks[self._chosen].within

    @property
    def waiting(self) -> bool:
        """Whether reliable progress waits for its PRACK: no 2xx may go before, where it had an offer (RFC 3262)."""
        return any(one.sender.waiting for one in self.forks.values())

    def move(self, flow: Flow) -> None:
        """The peer is reached down another flow from now on."""
        self._flow = flow
        for one in self.forks.values():
            one.within.flow = flow

    def is_waiting(self, fork: str) -> bool:
        """Whether reliable progress of a fork waits for its PRACK: no offer may go before (RFC 3311 section 5.1)."""
        one = self.forks.get(fork)
        return one is not None and one.sender.waiting != 0

    def fork(self, name: str = "", *, last: bool = False) -> InDialog:
        """The dialog of a fork, made where there is none. Raises LocalError beyond the limit of forks.

        `last`: it is going to be answered, and may be one more.
        """
        return self._fork(name, last=last).within

    # --- what the user wants

    def trying(self) -> None:
        """Stops the peer from repeating its INVITE (section 8.2.6.1). `drain` next."""
        self.pending.append(Respond(self.key, response_to(self._invite, 100)))

    def progress(
        self,
        status: int,
        now: float,
        *,
        fork: str = "",
        reliable: bool = False,
        reason: str = "",
        headers: Pairs = (),
        body: bytes = b"",
    ) -> int:
        """Sends a provisional response above 100; its RSeq where it is reliable, else 0. `drain` next.

        A reliable one is held back until the one before it was confirmed. Nothing is sent after a final response.
        """
        if self._step(Signal.PROGRESS):
            return 0
        one = self._fork(fork)
        response = self._response(status, reason, one.within, headers, body)
        if not reliable:
            self.pending.append(Respond(self.key, response))
            return 0
        if len(one.responses) >= PROGRESS_MAX:
            return 0
        rseq, may_go = one.sender.send(now)
        response.headers.extend([("Require", "100rel"), ("RSeq", str(rseq))])
        one.responses[rseq] = response
        if may_go:
            self._send_reliably(one, rseq)
        return rseq

    def answer(self, now: float, *, fork: str = "", headers: Pairs = (), body: bytes = b"") -> Response | None:
        """Sends the 200, again and again until its ACK; the other forks are over. `drain` next."""
        if self._step(Signal.ANSWER):
            return None
        chosen = self._fork(fork, last=True)
        self._chosen = fork
        for other in self.forks.values():
            self._stop_progress(other)
            if other is not chosen:
                other.within.end()
                self.pending += other.within.drain()
        within = chosen.within
        response = self._response(200, "", within, headers, body)
        if within.turn is Turn.THEY_OFFERED:
            within.offered(Act.SEND_ANSWER)
        elif not self._offers and within.turn is Turn.STABLE and has_description(response):
            within.offered(Act.SEND_OFFER)
        self._invite = identity_of(self._invite)
        within.accept(self.key, response, now)
        return response

    def refuse(self, status: int, now: float, *, reason: str = "", headers: Pairs = (), body: bytes = b"") -> None:
        """Refuses the INVITE; nothing happens after a final response. `drain` next."""
        if self._step(Signal.REFUSE):
            return
        tags = [one.within.dialog.local_tag for one in self.forks.values()]
        tag = tags[0] if tags else self._origin.tokens.tag()
        response = made_response(self._invite, status, reason, headers, body, tag=tag)
        self._end_forks()
        self.pending.append(Respond(self.key, response))

    # --- what the transaction layer brings

    def cancel_received(self, request: Request) -> None:
        """A CANCEL of the peer's; the transaction layer has answered it. `drain` next."""
        if not self._step(Signal.CANCEL):
            self.pending.append(Cancelled(request))

    def transaction_failed(self) -> None:
        """The INVITE's transaction failed before our answer. `drain` next."""
        if not self._step(Signal.FAILURE):
            self._end_forks()
            self.pending.append(GaveUp(None))

    def prack_received(self, fork: str, key: ServerKey, request: Request, now: float) -> None:
        """A PRACK in a fork's dialog: 481 where it confirms nothing, else it is the user's to answer. `drain` next."""
        one = self.forks[fork]
        if one.within.is_in_order(key, request):
            self.take_prack(fork, key, request, now)

    def take_prack(self, fork: str, key: ServerKey, request: Request, now: float) -> None:
        """A PRACK that is in order in its dialog. `drain` next."""
        one = self.forks[fork]
        try:
            rack = RAck.parse(request.first("RAck") or "")
        except RemoteError as error:
            self.pending.append(Respond(key, response_to(request, error.status_hint)))
            return
        verdict, following = one.sender.confirm(rack, now)
        if verdict is Confirmed.UNKNOWN:
            late = rack.rseq in one.crossing and rack.cseq == self._invite.cseq_number
            self.pending.append(Respond(key, response_to(request, 200 if late else 481)))
            return
        del one.responses[rack.rseq]
        self.pending.append(ProgressConfirmed(fork, rack.rseq))
        one.within.take(key, request)
        if following:
            self._send_reliably(one, following)

    # --- time

    @property
    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due; the dialogs have times of their own."""
        times = [one.sender.next_timeout for one in self.forks.values()]
        return min((at for at in times if at is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """Repeats reliable progress that waits for its PRACK, or gives it up. `drain` next."""
        for one in self.forks.values():
            due = one.sender.expire(now)
            if due is Due.SEND:
                self.pending.append(Respond(self.key, one.responses[one.sender.waiting]))
            elif due is Due.GIVE_UP:
                self._stop_progress(one)
                self.pending.append(Unconfirmed(Waits.PROGRESS))

    def drain(self) -> list[Output]:
        """What came of the calls before, in order."""
        pending, self.pending = self.pending, []
        return pending

    # --- parts

    def _step(self, signal: Signal) -> bool:
        """Takes a signal in by the table; True where it has no cell and nothing is to happen."""
        state = TABLE.get((self.state, signal))
        if state is None:
            return True
        self.state = state
        return False

    def _fork(self, name: str, *, last: bool = False) -> Fork:
        one = self.forks.get(name)
        if one is None:
            if len(self.forks) >= FORKS_MAX and not last:
                raise LocalError(f"more than {FORKS_MAX} forks")
            turn = Turn.THEY_OFFERED if self._offers else Turn.STABLE
            dialog = Dialog.as_uas(self._invite, self._origin.tokens.tag())
            within = InDialog(dialog, self._flow, self._origin, turn, by_peer=True)
            sender = ReliableSender(self._invite.cseq_number, self._first_rseq, self._origin.timers)
            one = self.forks[name] = Fork(within, sender)
        return one

    def _response(self, status: int, reason: str, within: InDialog, headers: Pairs, body: bytes) -> Response:
        tag, contact = within.dialog.local_tag, self._origin.contact(self._flow)
        return made_response(self._invite, status, reason, headers, body, tag=tag, contact=contact)

    def _send_reliably(self, one: Fork, rseq: int) -> None:
        response = one.responses[rseq]
        if has_description(response):
            if one.within.turn is Turn.THEY_OFFERED:
                one.within.offered(Act.SEND_ANSWER)
            elif not self._offers and one.within.turn is Turn.STABLE:
                one.within.offered(Act.SEND_OFFER)
        self.pending.append(Respond(self.key, response))

    def _stop_progress(self, one: Fork) -> None:
        if one.sender.waiting:
            one.crossing.add(one.sender.waiting)
        one.sender.stop()
        one.responses.clear()

    def _end_forks(self) -> None:
        for one in self.forks.values():
            self._stop_progress(one)
            one.within.end()
            self.pending += one.within.drain()

    # --- as a value

    def freeze(self, clock: Clock) -> FrozenInviteUas:
        """The machine as a value; call it after `drain`."""
        return FrozenInviteUas(
            key=self.key,
            invite=serialize(self._invite),
            flow=freeze_flow(self._flow),
            offers=self._offers,
            state=self.state,
            first_rseq=self._first_rseq,
            forks=tuple((name, _freeze_fork(one, clock)) for name, one in self.forks.items()),
            chosen=self._chosen,
        )

    @classmethod
    def thaw(cls, frozen: FrozenInviteUas, origin: Origin, clock: Clock) -> InviteUas:
        """The machine that a value was made of. Raises LocalError for what cannot be read."""
        check(frozen.version)
        invite = request_of(frozen.invite)
        self = cls(frozen.key, invite, thaw_flow(frozen.flow), origin, frozen.first_rseq)
        self.state, self._offers = State(frozen.state), frozen.offers
        self._chosen = frozen.chosen
        for name, kept in frozen.forks:
            repetition = None if kept.repetition is None else kept.repetition.thaw(clock)
            sender = ReliableSender(
                invite.cseq_number, kept.next_rseq, origin.timers, queue=list(kept.queue), repetition=repetition
            )
            one = Fork(InDialog.thaw(kept.within, origin, clock), sender)
            one.responses = {rseq: response_of(data) for rseq, data in kept.responses}
            one.crossing = set(kept.crossing)
            self.forks[name] = one
        return self


def _freeze_fork(one: Fork, clock: Clock) -> FrozenFork:
    sender = one.sender
    return FrozenFork(
        within=one.within.freeze(clock),
        next_rseq=sender.next_rseq,
        queue=tuple(sender.queue),
        responses=tuple((rseq, serialize(response)) for rseq, response in one.responses.items()),
        repetition=None if sender.repetition is None else FrozenRepetition.of(sender.repetition, clock),
        crossing=tuple(sorted(one.crossing)),
    )


TABLE: Final[Mapping[tuple[State, Signal], State]] = {
    (State.INVITED, Signal.PROGRESS): State.PROCEEDING,
    (State.INVITED, Signal.ANSWER): State.ANSWERED,
    (State.INVITED, Signal.REFUSE): State.ENDED,
    (State.INVITED, Signal.CANCEL): State.INVITED,
    (State.INVITED, Signal.FAILURE): State.ENDED,
    (State.PROCEEDING, Signal.PROGRESS): State.PROCEEDING,
    (State.PROCEEDING, Signal.ANSWER): State.ANSWERED,
    (State.PROCEEDING, Signal.REFUSE): State.ENDED,
    (State.PROCEEDING, Signal.CANCEL): State.PROCEEDING,
    (State.PROCEEDING, Signal.FAILURE): State.ENDED,
    (State.ANSWERED, Signal.CANCEL): State.ANSWERED,  # it crossed the answer
}
"""(state, signal) to the next state. A pair without a cell is dropped: progress after the final response."""
