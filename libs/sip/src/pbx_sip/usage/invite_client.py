"""An INVITE of ours outside of a dialog: its forks, reliable progress, CANCEL, the 2xx of several, another try.

RFC 3261 sections 9.1, 12.1.2 and 13.2; 3262 section 4. Each fork is an `InDialog` of its own, early at first; the one
that answers first is the session, the others that answer too are confirmed and ended at once (section 13.2.2.4).

    CALLING     no response above 100 yet
    PROCEEDING  one came
    CANCELLING  a CANCEL is under way; the final response comes still
    ANSWERED    a 2xx came: the machine waits until no further one can come, 64*T1
    ENDED       refused, failed, or that time has passed
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, Final

from pbx_sip.address import Flow
from pbx_sip.dialog.dialog import Dialog
from pbx_sip.dialog.offer_answer import Act, Turn
from pbx_sip.dialog.reliable import Arrival, RAck, arrival
from pbx_sip.errors import LocalError
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request, Response
from pbx_sip.message.serialize import serialize
from pbx_sip.transaction.events import ClientKey, FailureCause
from pbx_sip.usage.description import has_description
from pbx_sip.usage.frozen import Clock, FrozenInviteUac, check, freeze_flow, request_of, thaw_flow
from pbx_sip.usage.origin import Origin
from pbx_sip.usage.output import Answered, CancelInvite, GaveUp, Output, Pairs, Progressed, Refused, Send
from pbx_sip.usage.within import InDialog

FORKS_MAX: Final = 16
"""Early dialogs of one INVITE; a 2xx of one more is still ended. Threat: a network that forks without end."""


class State(enum.IntEnum):
    """See the head of this file."""

    CALLING = 0
    PROCEEDING = 1
    CANCELLING = 2
    ANSWERED = 3
    ENDED = 4


class Signal(enum.IntEnum):
    """What can happen to it."""

    PROVISIONAL = 0
    SUCCESS = 1
    REFUSAL = 2
    FAILURE = 3
    """No final response: timeout or transport."""
    CANCEL = 4
    AGAIN = 5
    """The user tries once more after a refusal."""
    QUIET = 6
    """64*T1 after the first 2xx."""


class InviteUac:
    """One INVITE of ours, with all that comes of it."""

    __slots__ = (
        "_cancel_headers",
        "_chosen",
        "_flow",
        "_invite",
        "_lingers_until",
        "_now",
        "_offers",
        "_origin",
        "forks",
        "key",
        "pending",
        "state",
        "was_cancelled",
    )  # fmt: skip

    def __init__(self, invite: Request, flow: Flow, origin: Origin) -> None:
        """`invite` has everything but Via and Contact; `start` sends it."""
        self._invite = invite
        self._flow = flow
        self._origin = origin
        self._offers = has_description(invite)
        self._cancel_headers: Pairs = ()
        self._chosen = ""
        self._lingers_until: float | None = None
        self._now = 0.0
        self.pending: list[Output] = []
        """What happened and was not told yet; `drain` hands it out."""
        self.was_cancelled = False
        self.key: ClientKey = ("", "INVITE")
        """Of its transaction."""
        self.forks: dict[str, InDialog] = {}
        """By the peer's tag. Each has outputs of its own: drain them behind those of this machine."""
        self.state = State.CALLING

    def __repr__(self) -> str:
        """For logs and tests."""
        return f"<InviteUac {self._invite.call_id} {self.state.name} forks={len(self.forks)}>"

    @property
    def invite(self) -> Request:
        """The INVITE as it was sent last; once it is answered, as much of it as names its dialogs."""
        return self._invite

    @property
    def session(self) -> InDialog | None:
        """The fork that answered first; None before."""
        return self.forks.get(self._chosen) if self.state is State.ANSWERED else None

    # --- what the user wants

    def start(self, now: float) -> ClientKey:
        """Sends the INVITE. `drain` next."""
        headers = self._invite.headers
        headers.prepend("Via", self._origin.new_via(self._flow))
        if "Contact" not in headers:
            headers.append("Contact", self._origin.contact(self._flow))
        return self._send()

    def _send(self) -> ClientKey:
        self.key = (self._invite.branch, "INVITE")
        self.pending.append(Send(self._invite, self._flow, self.key))
        return self.key

    def again(self, now: float, replaced: Pairs) -> ClientKey:
        """Sends the INVITE once more after a refusal, with header fields set anew and the next CSeq number.

        For credentials after a 401 or 407, an interval after a 422. `drain` next. Raises LocalError before a refusal.
        """
        if self._step(Signal.AGAIN, None):
            raise LocalError("nothing was refused")
        self.was_cancelled = False
        headers = self._copy().headers
        headers.set("CSeq", f"{self._invite.cseq_number + 1} INVITE")
        for name, value in replaced:
            headers.set(name, value)
        return self._send()

    def elsewhere(self, flow: Flow, now: float) -> ClientKey:
        """Sends the same INVITE down another flow, where the one before did not carry it (section 18.1.1).

        `drain` next. Raises LocalError where it is under way, or answered.
        """
        if self._step(Signal.AGAIN, None):
            raise LocalError("it is under way")
        self._flow = flow
        self._copy().headers.set("Contact", self._origin.contact(flow))
        return self._send()

    def _copy(self) -> Request:
        """The INVITE anew, with a branch of its own: what was sent stays as it was."""
        old = self._invite
        self._invite = Request("INVITE", old.uri, old.headers.copy(), old.body)
        self._invite.headers.set("Via", self._origin.new_via(self._flow))
        return self._invite

    def move(self, flow: Flow) -> None:
        """The peer is reached down another flow from now on."""
        self._flow = flow
        for within in self.forks.values():
            within.flow = flow

    def resent(self, key: ClientKey) -> None:
        """The INVITE goes another way, in another transaction; so would its CANCEL."""
        self.key = key

    def cancel(self, now: float, headers: Pairs = ()) -> None:
        """Cancels the INVITE; its final response comes still, and a 2xx that crosses is ended at once. `drain` next."""
        self._cancel_headers, self.was_cancelled = headers, True
        self._step(Signal.CANCEL, None)

    def confirm_progress(self, fork: str, rseq: int, now: float, headers: Pairs = (), body: bytes = b"") -> ClientKey:
        """Sends the PRACK for a reliable provisional response (RFC 3262 section 4). `drain` next."""
        rack = RAck(rseq, self._invite.cseq_number, "INVITE")
        within = self.forks[fork]
        return within.send("PRACK", now, (("RAck", str(rack)), *headers), body)

    # --- what the transaction layer brings

    def response_received(self, response: Response, now: float) -> None:
        """A response to the INVITE, also one that outlived its transaction. `drain` next."""
        self._now = now
        status = response.status
        signal = Signal.PROVISIONAL if status < 200 else Signal.SUCCESS if status < 300 else Signal.REFUSAL
        self._step(signal, response)

    def transaction_failed(self, cause: FailureCause, now: float) -> None:
        """No final response came. `drain` next."""
        if not self._step(Signal.FAILURE, None):
            self.pending.append(GaveUp(cause))

    def handle_timeout(self, now: float) -> None:
        """Ends the wait for the 2xx of further forks. `drain` next."""
        if self._lingers_until is not None and now >= self._lingers_until:
            self._step(Signal.QUIET, None)

    @property
    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due; the forks have times of their own."""
        return self._lingers_until

    def drain(self) -> list[Output]:
        """What came of the calls before, in order."""
        pending, self.pending = self.pending, []
        return pending

    # --- actions

    def _step(self, signal: Signal, response: Response | None) -> bool:
        """Takes a signal in by the table; True where it has no cell: what came is dropped."""
        cell = TABLE.get((self.state, signal))
        if cell is None:
            return True
        self.state, action = cell
        if action is not None:
            action(self, response)
        return False

    def _progress(self, response: Response) -> None:
        if response.status == 100 or not response.to_tag:
            self.pending.append(Progressed(response, ""))
            return
        within = self._fork_of(response)
        if within is None:
            return
        rseq = _rseq_of(response)
        if rseq:
            if arrival(within.dialog.remote_rseq, rseq) is not Arrival.NEW:
                return
            within.dialog.remote_rseq = rseq
            if has_description(response):
                self._take_description(within)
        self.pending.append(Progressed(response, response.to_tag, rseq))

    def _answer(self, response: Response) -> None:
        """The first 2xx."""
        self._confirmed(response)
        self._settle(response)
        self.pending.append(Answered(response, self._chosen))

    def _settle(self, response: Response) -> None:
        """One fork is the session; the INVITE is not sent again, and a call may last for hours."""
        self._chosen = response.to_tag
        self._lingers_until = self._now + self._origin.timers.timeout
        self._end_early()
        self._invite = identity_of(self._invite)

    def _answer_cancelled(self, response: Response) -> None:
        """A 2xx that was faster than our CANCEL: it is confirmed, and its dialog ended (section 15)."""
        within = self._confirmed(response)
        within.acknowledge(response.cseq_number)
        within.send("BYE", self._now, self._cancel_headers)
        self._settle(response)
        self.pending.append(GaveUp(None))

    def _answer_again(self, response: Response) -> None:
        """A repeated 2xx gets its ACK again; that of another fork is confirmed and ended (section 13.2.2.4)."""
        within = self.forks.get(response.to_tag)
        if within is not None and within.dialog.confirmed:
            within.response_received(self.key, response, self._now)
        elif len(self.forks) < 2 * FORKS_MAX:
            within = self._confirmed(response)
            within.acknowledge(response.cseq_number)
            within.send("BYE", self._now, (("Reason", 'SIP;cause=200;text="answered elsewhere"'),))

    def _refuse(self, response: Response) -> None:
        self._end_early()
        self.forks.clear()
        self.pending.append(Refused(response))

    def _fail(self, _: object) -> None:
        self._end_early()
        self.forks.clear()

    def _cancel(self, _: object) -> None:
        self.pending.append(CancelInvite(self.key, self._cancel_headers))

    def _quiet(self, _: object) -> None:
        self._lingers_until = None
        self.forks.clear()

    # --- forks

    def _fork_of(self, response: Response) -> InDialog | None:
        """The early dialog of a provisional response (section 12.1.2); None beyond the limit of forks."""
        tag = response.to_tag
        within = self.forks.get(tag)
        if within is None and len(self.forks) < FORKS_MAX:
            turn = Turn.WE_OFFERED if self._offers else Turn.STABLE
            dialog = Dialog.as_uac(self._invite, response)
            within = self.forks[tag] = InDialog(dialog, self._flow, self._origin, turn, by_peer=False)
        elif within is not None:
            within.dialog.refresh_target(response)
        return within

    def _confirmed(self, response: Response) -> InDialog:
        within = self.forks.get(response.to_tag)
        if within is None:
            turn = Turn.WE_OFFERED if self._offers else Turn.STABLE
            dialog = Dialog.as_uac(self._invite, response)
            within = self.forks[response.to_tag] = InDialog(dialog, self._flow, self._origin, turn, by_peer=False)
        within.confirm(response)
        if within.turn is Turn.WE_OFFERED or has_description(response):
            self._take_description(within)
        return within

    def _take_description(self, within: InDialog) -> None:
        """A description in a reliable response: the answer to our offer, else the offer, else said again."""
        if within.turn is Turn.WE_OFFERED:
            within.offered(Act.RECEIVE_ANSWER)
        elif within.turn is Turn.STABLE and not self._offers:
            within.offered(Act.RECEIVE_OFFER)

    def _end_early(self) -> None:
        """Forks without an answer are over for the user; their tags are kept until no 2xx can come any more."""
        for within in self.forks.values():
            if not within.dialog.confirmed:
                within.end()
                self.pending += within.drain()

    # --- as a value

    def freeze(self, clock: Clock) -> FrozenInviteUac:
        """The machine as a value; call it after `drain`."""
        return FrozenInviteUac(
            invite=serialize(self._invite),
            key=self.key,
            offers=self._offers,
            was_cancelled=self.was_cancelled,
            flow=freeze_flow(self._flow),
            state=self.state,
            cancel_headers=self._cancel_headers,
            forks=tuple((tag, within.freeze(clock)) for tag, within in self.forks.items()),
            chosen=self._chosen,
            lingers_until=None if self._lingers_until is None else clock.wall(self._lingers_until),
        )

    @classmethod
    def thaw(cls, frozen: FrozenInviteUac, origin: Origin, clock: Clock) -> InviteUac:
        """The machine that a value was made of. Raises LocalError for what cannot be read."""
        check(frozen.version)
        self = cls(request_of(frozen.invite), thaw_flow(frozen.flow), origin)
        self.state, self.key, self._offers = State(frozen.state), frozen.key, frozen.offers
        self._cancel_headers, self.was_cancelled = frozen.cancel_headers, frozen.was_cancelled
        self.forks = {tag: InDialog.thaw(within, origin, clock) for tag, within in frozen.forks}
        self._chosen = frozen.chosen
        self._lingers_until = None if frozen.lingers_until is None else clock.local(frozen.lingers_until)
        return self


def identity_of(invite: Request) -> Request:
    """As much of an INVITE as its dialogs are made of (section 12.1)."""
    items = [item for item in invite.headers.items if item[0] in _IDENTITY]
    return Request("INVITE", invite.uri, Headers(items))


_IDENTITY: Final = frozenset({"From", "To", "Call-ID", "CSeq"})


def _rseq_of(response: Response) -> int:
    """The RSeq of a reliable provisional response (RFC 3262 section 4); 0 for another one."""
    value = response.first("RSeq") or ""
    reliable = "100rel" in response.headers.tokens("Require")
    return int(value) if reliable and value.isascii() and value.isdigit() and len(value) <= 10 else 0


Action = Callable[[InviteUac, Any], None]

TABLE: Final[Mapping[tuple[State, Signal], tuple[State, Action | None]]] = {
    (State.CALLING, Signal.PROVISIONAL): (State.PROCEEDING, InviteUac._progress),
    (State.CALLING, Signal.SUCCESS): (State.ANSWERED, InviteUac._answer),
    (State.CALLING, Signal.REFUSAL): (State.ENDED, InviteUac._refuse),
    (State.CALLING, Signal.FAILURE): (State.ENDED, InviteUac._fail),
    (State.CALLING, Signal.CANCEL): (State.CANCELLING, InviteUac._cancel),
    (State.PROCEEDING, Signal.PROVISIONAL): (State.PROCEEDING, InviteUac._progress),
    (State.PROCEEDING, Signal.SUCCESS): (State.ANSWERED, InviteUac._answer),
    (State.PROCEEDING, Signal.REFUSAL): (State.ENDED, InviteUac._refuse),
    (State.PROCEEDING, Signal.FAILURE): (State.ENDED, InviteUac._fail),
    (State.PROCEEDING, Signal.CANCEL): (State.CANCELLING, InviteUac._cancel),
    (State.CANCELLING, Signal.SUCCESS): (State.ANSWERED, InviteUac._answer_cancelled),
    (State.CANCELLING, Signal.REFUSAL): (State.ENDED, InviteUac._refuse),
    (State.CANCELLING, Signal.FAILURE): (State.ENDED, InviteUac._fail),
    (State.ANSWERED, Signal.SUCCESS): (State.ANSWERED, InviteUac._answer_again),
    (State.ANSWERED, Signal.QUIET): (State.ENDED, InviteUac._quiet),
    (State.ENDED, Signal.AGAIN): (State.CALLING, None),
}
"""(state, signal) to (next state, action). A pair without a cell is dropped: progress after the answer, say."""
