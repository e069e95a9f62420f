"""Requests inside one dialog, both ways: order, whose turn it is to offer, glare, the 2xx until its ACK, the end.

RFC 3261 sections 12.2, 13.3.1.4, 14 and 15; 3264 and 6337 for turns; 3311 for UPDATE. The dialog may be early: a fork
of an INVITE of ours, or what a provisional response of ours made. What is said in the session is the user's to decide;
responses are sent by `reply`, and this machine answers by itself only what breaks the rules.

    EARLY      the INVITE that makes the dialog has no 2xx yet
    CONFIRMED  it has
    ENDED      a BYE was sent or came, or the INVITE was refused: what comes still is answered with 481
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, Final

from pbx_sip.address import Flow
from pbx_sip.dialog.dialog import Dialog, Verdict
from pbx_sip.dialog.offer_answer import Act, Exchange, Turn
from pbx_sip.dialog.repetition import Due, Repetition
from pbx_sip.errors import LocalError
from pbx_sip.message.message import Request, Response, response_to
from pbx_sip.message.serialize import serialize
from pbx_sip.transaction.events import ClientKey, FailureCause, ServerKey
from pbx_sip.usage.acks import Acks
from pbx_sip.usage.description import has_description, made_response
from pbx_sip.usage.frozen import (
    Clock,
    FrozenAnswer,
    FrozenDialog,
    FrozenInDialog,
    FrozenRepetition,
    check,
    freeze_flow,
    request_of,
    response_of,
    thaw_flow,
)
from pbx_sip.usage.origin import Origin
from pbx_sip.usage.output import (
    Acknowledged,
    Asked,
    CancelInvite,
    Output,
    Pairs,
    Replied,
    Respond,
    Send,
    SendAck,
    Unanswered,
    Unconfirmed,
    Waits,
)

ASKED_MAX: Final = 16
"""Requests of the peer that wait for the user at once. Threat: a peer that floods its own dialog; RFC 3261 has one."""
TARGETS: Final = frozenset({"INVITE", "UPDATE"})
"""Methods whose requests and 2xx carry our Contact."""
OFFERS: Final = frozenset({"INVITE", "UPDATE", "PRACK"})
"""Methods whose requests may carry an offer."""


class State(enum.IntEnum):
    """See the head of this file."""

    EARLY = 0
    CONFIRMED = 1
    ENDED = 2


class Kind(enum.IntEnum):
    """What a request of the peer is to this machine."""

    INVITE = 0
    UPDATE = 1
    BYE = 2
    OTHER = 3


_KINDS: Final = {"INVITE": Kind.INVITE, "UPDATE": Kind.UPDATE, "BYE": Kind.BYE}


class InDialog:
    """One dialog of ours, from its first response to its end."""

    __slots__ = (
        "_acks",
        "_answer",
        "_asked",
        "_origin",
        "_sent",
        "_turn",
        "by_peer",
        "dialog",
        "flow",
        "pending",
        "state",
    )  # fmt: skip

    def __init__(self, dialog: Dialog, flow: Flow, origin: Origin, turn: Turn = Turn.STABLE, *, by_peer: bool) -> None:
        """`turn`: whose it is after the INVITE that makes the dialog; `by_peer`: that INVITE is the peer's."""
        self.dialog = dialog
        self.by_peer = by_peer
        self.flow = flow
        """Where requests of ours leave; the user may move it."""
        self.state = State.CONFIRMED if dialog.confirmed else State.EARLY
        self._origin = origin
        self._turn = Exchange(turn)
        self._asked: dict[ServerKey, Request] = {}
        self._sent: dict[ClientKey, Request] = {}
        self._acks = Acks()
        self._answer: tuple[ServerKey, Response, Repetition] | None = None
        self.pending: list[Output] = []
        """What happened and was not told yet; `drain` hands it out."""

    def __repr__(self) -> str:
        """For logs and tests."""
        return f"<InDialog {self.dialog} {self.state.name} {self._turn.turn.name}>"

    @property
    def turn(self) -> Turn:
        """Whose turn it is to say something about the session."""
        return self._turn.turn

    @property
    def is_modifying(self) -> bool:
        """Whether a change of the session is under way, by either side, or an answer unconfirmed."""
        return (
            self._turn.turn is not Turn.STABLE
            or self._answer is not None
            or bool(self._acks.owed)
            or any(request.method == "INVITE" for request in (*self._sent.values(), *self._asked.values()))
        )

    @property
    def awaits_ack(self) -> bool:
        """Whether a 2xx of ours is unconfirmed."""
        return self._answer is not None

    # --- what the peer does

    def request_received(self, key: ServerKey, request: Request, now: float) -> None:
        """A request inside this dialog; not ACK, not CANCEL. `drain` next."""
        if self.is_in_order(key, request):
            self.take(key, request)

    def is_in_order(self, key: ServerKey, request: Request) -> bool:
        """Whether this dialog takes a request now; one that it does not take is answered. `take` or `drain` next."""
        if self.state is State.ENDED:
            self._refuse(key, request, 481)
        elif self.dialog.receive(request) is Verdict.OUT_OF_ORDER or len(self._asked) >= ASKED_MAX:
            self._refuse(key, request, 500)
        else:
            return True
        return False

    def take(self, key: ServerKey, request: Request) -> None:
        """A request that is in order. `drain` next."""
        RECEIVED[self.state, _KINDS.get(request.method, Kind.OTHER)](self, key, request)

    def _take(self, key: ServerKey, request: Request) -> None:
        if request.method in OFFERS and has_description(request):
            self._turn.said_by_peer()
        self._asked[key] = request
        self.pending.append(Asked(key, request))

    def _take_update(self, key: ServerKey, request: Request) -> None:
        """RFC 3311 section 5.2: 500 before the peer's last offer has its answer, 491 where ours has none."""
        offers = has_description(request)
        if offers and self._turn.turn is Turn.STABLE and self._changes(self._asked):
            self._refuse(key, request, 500)
        elif offers and (status := self._turn.refusal(Act.RECEIVE_OFFER)):
            self._refuse(key, request, status)
        else:
            self._take(key, request)

    def _take_invite(self, key: ServerKey, request: Request) -> None:
        """Section 14.2: 500 to a second INVITE before the first has its answer, 491 where one of ours is under way."""
        if self._changes(self._asked):
            self._refuse(key, request, 500)
        elif self._changes(self._sent) or self._acks.owed or self._answer is not None or self.turn is not Turn.STABLE:
            self._refuse(key, request, 491)
        else:
            self.pending.append(Respond(key, response_to(request, 100)))
            self._take(key, request)

    @staticmethod
    def _changes(requests: Mapping[Any, Request]) -> bool:
        """Whether one of these may change the session: an UPDATE without a description does not."""
        return any(each.method == "INVITE" or (each.method == "UPDATE" and each.body) for each in requests.values())

    def _glare(self, key: ServerKey, request: Request) -> None:
        """An INVITE inside an early dialog: that of its maker waits for its answer (section 14.2)."""
        self._refuse(key, request, 500 if self.by_peer else 491)

    def _take_bye(self, key: ServerKey, request: Request) -> None:
        """Section 15.1.2: what the peer waits for otherwise is answered with 487."""
        self.end()
        self._asked[key] = request
        self.pending.append(Asked(key, request))

    def _refuse(self, key: ServerKey, request: Request, status: int) -> None:
        response = response_to(request, status)
        if status == 500:
            response.headers.append("Retry-After", str(self._origin.retry_after_s()))
        self.pending.append(Respond(key, response))

    def acknowledged(self, request: Request) -> None:
        """An ACK of the peer inside this dialog; only the first for the answer that waits counts. `drain` next."""
        answer = self._answer
        if answer is None or request.cseq_number != answer[1].cseq_number:
            return
        self._answer = None
        if self._turn.turn is Turn.WE_OFFERED:
            self._turn.turn = Turn.STABLE
        self.pending.append(Acknowledged(request))

    def asked(self, key: ServerKey) -> Request | None:
        """A request of the peer's that waits for our answer; a re-INVITE that was cancelled gets 487 (section 9.2)."""
        return self._asked.get(key)

    def response_received(self, key: ClientKey, response: Response, now: float) -> None:
        """A response to a request of ours inside this dialog. `drain` next."""
        request = self._sent.get(key)
        if request is None:
            if response.cseq_method == "INVITE" and 200 <= response.status < 300:
                self._acknowledge_again(response.cseq_number)
            return
        if response.status >= 200:
            del self._sent[key]
            self._settle_turn(request, response)
        if response.status < 300 and request.method in TARGETS:
            self.dialog.refresh_target(response)
        if request.method == "INVITE" and 200 <= response.status < 300:
            self._acks.owe(request.cseq_number)
            if self.state is State.ENDED:
                self.acknowledge(request.cseq_number)
                return
        if response.status != 100 and self.state is not State.ENDED:
            self.pending.append(Replied(key, request, response))

    def _settle_turn(self, request: Request, response: Response) -> None:
        """What a final response to a request that may carry an offer means for the turn."""
        if request.method not in OFFERS:
            return
        described, turn = has_description(response), self._turn.turn
        if response.status >= 300 or (turn is Turn.WE_OFFERED and not described):
            if has_description(request) or request.method == "INVITE":
                self._turn.turn = Turn.STABLE
        elif described:
            self._turn.said_by_peer()

    def transaction_failed(self, key: ClientKey, cause: FailureCause, now: float) -> None:
        """A request of ours got no final response. `drain` next."""
        request = self._sent.pop(key, None)
        if request is None:
            return
        if has_description(request) and self._turn.turn is Turn.WE_OFFERED:
            self._turn.turn = Turn.STABLE
        if self.state is not State.ENDED:
            self.pending.append(Unanswered(key, request, cause))

    # --- what the user wants

    def send(self, method: str, now: float, headers: Pairs = (), body: bytes = b"") -> ClientKey:
        """Sends a request inside the dialog; BYE ends it. `drain` next.

        Raises LocalError where the dialog has ended, or a session description would be out of turn.
        """
        if self.state is State.ENDED:
            raise LocalError("the dialog has ended")
        if method == "BYE":
            for cseq in self._acks.owed:
                self.acknowledge(cseq)
        flow = self._origin.route(self.dialog.next_hop(), self.flow)
        request = self.dialog.request(method, self._origin.new_via(flow))
        if method in TARGETS:
            request.headers.append("Contact", self._origin.contact(flow))
        request.headers.extend((*self._origin.fields(method), *headers))
        request.body = body
        return self._send(request, flow)

    def again(self, request: Request, now: float, replaced: Pairs) -> ClientKey:
        """Sends a request that was refused once more, with header fields set anew (RFC 4028 section 7.3, say).

        `drain` next. Raises LocalError as `send` does.
        """
        old = request.headers
        flow = self._origin.route(self.dialog.next_hop(), self.flow)
        repeated = self.dialog.request(request.method, self._origin.new_via(flow))
        taken = {name for name, _ in repeated.headers.items} | {"Content-Length"}
        repeated.headers.extend([item for item in old.items if item[0] not in taken])
        for name, value in replaced:
            repeated.headers.set(name, value)
        repeated.body = request.body
        return self._send(repeated, flow)

    def _send(self, request: Request, flow: Flow) -> ClientKey:
        method = request.method
        if request.body and has_description(request):
            self._turn.send(Act.SEND_ANSWER if self._turn.turn is Turn.THEY_OFFERED else Act.SEND_OFFER)
        key = (request.branch, method)
        if method == "BYE":
            self.end()
        else:
            self._sent[key] = request
        self.pending.append(Send(request, flow, key))
        return key

    def resent(self, old: ClientKey, new: ClientKey) -> None:
        """A request of ours goes another way, in another transaction."""
        request = self._sent.pop(old, None)
        if request is not None:
            self._sent[new] = request

    def cancel(self, key: ClientKey, headers: Pairs = ()) -> None:
        """Cancels a re-INVITE of ours; its final response comes still. `drain` next."""
        if key in self._sent:
            self.pending.append(CancelInvite(key, headers))

    def reply(
        self, key: ServerKey, status: int, now: float, headers: Pairs = (), body: bytes = b"", *, reason: str = ""
    ) -> Response | None:
        """Answers a request of the peer's; None where it does not wait (any more). `drain` next."""
        request = self._asked.get(key)
        if request is None:
            return None
        contact = self._origin.contact(self.flow) if request.method in TARGETS and 100 < status < 300 else ""
        response = made_response(request, status, reason, headers, body, contact=contact)
        if status >= 200:
            del self._asked[key]
            self._answered(request, response)
            if status < 300 and request.method == "INVITE":
                self.accept(key, response, now)
                return response
        self.pending.append(Respond(key, response))
        return response

    def _answered(self, request: Request, response: Response) -> None:
        if response.status < 300:
            self.dialog.refresh_target(request)
        if request.method not in OFFERS:
            return
        turn = self._turn.turn
        if response.status >= 300:
            if turn is Turn.THEY_OFFERED and has_description(request):
                self._turn.turn = Turn.STABLE
        elif turn is Turn.THEY_OFFERED:  # answered here, or not at all
            self._turn.turn = Turn.STABLE
        elif request.method == "INVITE" and has_description(response) and not has_description(request):
            self._turn.turn = Turn.WE_OFFERED

    def accept(self, key: ServerKey, response: Response, now: float) -> None:
        """Sends a 2xx to an INVITE, again and again until its ACK (section 13.3.1.4). `drain` next."""
        self.dialog.confirmed = True
        if self.state is State.EARLY:
            self.state = State.CONFIRMED
        self._answer = (key, response, Repetition.of_answer(now, self._origin.timers))
        self.pending.append(Respond(key, response))

    def offered(self, act: Act) -> None:
        """Notes an offer or answer that a reliable provisional response, or the first INVITE's answer, carried."""
        self._turn.turn = {
            Act.SEND_OFFER: Turn.WE_OFFERED,
            Act.RECEIVE_OFFER: Turn.THEY_OFFERED,
        }.get(act, Turn.STABLE)

    def confirm(self, response: Response) -> None:
        """The 2xx to our INVITE that makes or confirms this dialog (section 13.2.2.4), also where it was given up."""
        self.dialog.confirm(response)
        self._acks.owe(response.cseq_number)
        self.state = State.CONFIRMED

    def acknowledge(self, cseq: int, headers: Pairs = (), body: bytes = b"") -> None:
        """Sends the ACK for the 2xx to our INVITE of that CSeq number; again by itself as that comes. `drain` next."""
        if cseq not in self._acks.owed:
            return
        flow = self._origin.route(self.dialog.next_hop(), self.flow)
        ack = self.dialog.ack(cseq, self._origin.new_via(flow))
        ack.headers.extend(headers)
        ack.body = body
        if self._turn.turn is Turn.THEY_OFFERED:
            self._turn.turn = Turn.STABLE
        self._acks.sent(cseq, ack)
        self.pending.append(SendAck(ack, flow))

    def _acknowledge_again(self, cseq: int) -> None:
        ack = self._acks.kept(cseq)
        if ack is not None:
            self.pending.append(SendAck(ack, self._origin.route(self.dialog.next_hop(), self.flow)))

    def refuse_asked(self) -> None:
        """Answers with 487 whatever the peer waits for: there is nobody left to ask (section 15.1.2). `drain` next."""
        for key, request in list(self._asked.items()) if self._asked else ():
            if request.method != "BYE":
                del self._asked[key]
                self.pending.append(Respond(key, response_to(request, 487)))

    def end(self) -> None:
        """The dialog is over: what the peer waits for gets 487, nothing is repeated. `drain` next."""
        if self.state is State.ENDED:
            return
        self.state = State.ENDED
        self.refuse_asked()
        self._answer = None
        self._turn.turn = Turn.STABLE

    # --- time

    @property
    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due; None where nothing waits."""
        return None if self._answer is None else self._answer[2].at

    def handle_timeout(self, now: float) -> None:
        """Repeats a 2xx that waits for its ACK, or gives it up. `drain` next."""
        if self._answer is None:
            return
        key, response, repetition = self._answer
        due = repetition.expire(now)
        if due is Due.SEND:
            self.pending.append(Respond(key, response))
        elif due is Due.GIVE_UP:
            self._answer = None
            self.pending.append(Unconfirmed(Waits.ANSWER))

    def drain(self) -> list[Output]:
        """What came of the calls before, in order."""
        pending, self.pending = self.pending, []
        return pending

    # --- as a value

    def freeze(self, clock: Clock) -> FrozenInDialog:
        """The machine as a value; call it after `drain`."""
        answer = None
        if self._answer is not None:
            key, response, repetition = self._answer
            answer = FrozenAnswer(key, serialize(response), FrozenRepetition.of(repetition, clock))
        return FrozenInDialog(
            dialog=FrozenDialog.of(self.dialog),
            flow=freeze_flow(self.flow),
            state=self.state,
            turn=self._turn.turn,
            asked=tuple((key, serialize(request)) for key, request in self._asked.items()),
            sent=tuple((key, serialize(request)) for key, request in self._sent.items()),
            acks=self._acks.freeze(),
            unacknowledged=self._acks.owed,
            answer=answer,
            by_peer=self.by_peer,
        )

    @classmethod
    def thaw(cls, frozen: FrozenInDialog, origin: Origin, clock: Clock) -> InDialog:
        """The machine that a value was made of. Raises LocalError for what cannot be read."""
        check(frozen.version)
        self = cls(frozen.dialog.thaw(), thaw_flow(frozen.flow), origin, Turn(frozen.turn), by_peer=frozen.by_peer)
        self.state = State(frozen.state)
        self._asked = {key: request_of(data) for key, data in frozen.asked}
        self._sent = {key: request_of(data) for key, data in frozen.sent}
        self._acks = Acks(frozen.unacknowledged, frozen.acks)
        if frozen.answer is not None:
            kept = frozen.answer
            self._answer = (kept.key, response_of(kept.response), kept.repetition.thaw(clock))
        return self


Handler = Callable[[InDialog, ServerKey, Request], Any]

RECEIVED: Final[Mapping[tuple[State, Kind], Handler]] = {
    (State.EARLY, Kind.INVITE): InDialog._glare,
    (State.EARLY, Kind.UPDATE): InDialog._take_update,
    (State.EARLY, Kind.BYE): InDialog._take_bye,
    (State.EARLY, Kind.OTHER): InDialog._take,
    (State.CONFIRMED, Kind.INVITE): InDialog._take_invite,
    (State.CONFIRMED, Kind.UPDATE): InDialog._take_update,
    (State.CONFIRMED, Kind.BYE): InDialog._take_bye,
    (State.CONFIRMED, Kind.OTHER): InDialog._take,
}
"""What a request of the peer that is in order does, by the state of the dialog; after its end nothing is in order."""
