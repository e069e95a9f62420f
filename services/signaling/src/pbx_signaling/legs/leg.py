"""One side of a call: a SIP dialog on one hand, call-control events on the other.

`Leg` translates what both sides do alike once there is a dialog, by composition: `InDialog` has the requests inside the
dialog in both directions, `Refresh` its session timer. `InboundLeg` and `OutboundLeg` add the INVITE that makes it. A
leg decides nothing about the call, and no rule of SIP: those are the usages'.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final
from weakref import ref

from pbx_signaling.border import reason, wire
from pbx_signaling.border.explanation import explanation_of
from pbx_signaling.calls.signals import (
    CALLER,
    Ask,
    Asked,
    Cause,
    Confirmed,
    Content,
    HungUp,
    LegLost,
    Pressed,
    Refreshed,
    Replied,
    Withdrawn,
)
from pbx_signaling.legs import body
from pbx_signaling.legs.exchange import Question, Waiting
from pbx_signaling.legs.frozen import FrozenLeg
from pbx_sip.dialog.dialog import REFRESHING
from pbx_sip.dialog.offer_answer import Turn
from pbx_sip.message import dtmf
from pbx_sip.message.message import Request, Response, response_to
from pbx_sip.transaction.events import ClientKey, FailureCause, ServerKey
from pbx_sip.usage import output as out
from pbx_sip.usage.frozen import Clock, freeze_flow, thaw_flow
from pbx_sip.usage.refresh import Refresh
from pbx_sip.usage.refresh import refusal as refusal_of_interval
from pbx_sip.usage.within import InDialog
from pbx_sip.usage.within import State as Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pbx_signaling.calls.commands import Confirm, Pass, Reply, Withdraw
    from pbx_signaling.legs.port import SipPort
    from pbx_sip.address import Flow
    from pbx_sip.dialog.dialog import Dialog
    from pbx_sip.usage.output import Pairs

METHODS: Final = {
    Ask.MODIFY: "INVITE",
    Ask.UPDATE: "UPDATE",
    Ask.CONFIRM_PROGRESS: "PRACK",
    Ask.INFORM: "INFO",
    Ask.MESSAGE: "MESSAGE",
}
ASKS: Final = {method: ask for ask, method in METHODS.items()}
ALARM: Final = 0
"""The one deadline of a leg: the next of those of its usages."""
LEGS_MAX: Final = 256
"""Exchanges are numbered by their leg in steps of this: no two legs of a call give one number."""


class Leg:
    """What the two kinds of legs share."""

    __slots__ = (
        "_alarm",
        "_alarm_at",
        "_call",
        "_exchanges",
        "_is_over",
        "_timed",
        "_usages",
        "answering",
        "asked",
        "call_id",
        "confirming",
        "described",
        "final_status",
        "first_hop",
        "flow",
        "local_tags",
        "number",
        "refresh",
        "remote_user_agent",
        "secure",
        "sent",
        "sip",
        "terminated",
        "waiting_bye",
        "within",
    )

    def __init__(self, sip: SipPort, entry: Any, number: int, flow: Flow, call_id: str) -> None:
        self.sip = sip
        self._call: Callable[[], Any] = ref(entry) if entry is not None else _nobody
        self.number = number
        """0: the caller's; from 1 on those of the callee's phones."""
        self.flow = flow
        self.call_id = call_id
        self.first_hop = ""
        """The URI that led, or leads, to the peer before there is a dialog."""
        self.secure = False
        """Made by a SIPS URI: so is our Contact (RFC 3261 section 12.1.1)."""
        self.within: InDialog | None = None
        """The dialog that was answered."""
        self.refresh = Refresh(sip.sessions, owns_call_id=number != CALLER)
        """The session timer, agreed with this peer alone; of a callee's leg, the Call-ID is ours."""
        self.asked: dict[int, Waiting] = {}
        """By exchange: requests of the peer that wait for the other side's answer."""
        self.answering: dict[int, int] = {}
        """By CSeq of a re-INVITE of the peer's that was accepted, its exchange: the ACK is to come."""
        self.sent: dict[ClientKey, Question] = {}
        """Requests that were sent for the other side, or to refresh the session."""
        self.confirming: dict[int, int] = {}
        """By exchange: CSeq of a re-INVITE of ours whose 2xx waits for the other side's confirmation."""
        self.described: Content | None = None
        """The session description that the peer got last: a re-INVITE that refreshes repeats it."""
        self.local_tags: list[str] = []
        self.remote_user_agent = ""
        self.final_status = 0
        self.terminated = False
        self.waiting_bye: ServerKey | None = None
        self._exchanges = 0
        self._usages: tuple[Any, ...] = ()
        """All that may have something to say, in order."""
        self._timed: tuple[Any, ...] = ()
        """Those of them whose deadlines count."""
        self._is_over = False
        self._alarm: object = None
        self._alarm_at: float | None = None

    def __repr__(self) -> str:
        """For logs."""
        return f"<{type(self).__name__} {self.call_id} {self.flow} {self.dialog or 'no dialog'}>"

    @property
    def entry(self) -> Any:
        """The call that this leg belongs to; None once it has ended and all of its steps were carried out."""
        return self._call()

    @property
    def dialog(self) -> Dialog | None:
        """The dialog that was answered."""
        return None if self.within is None else self.within.dialog

    @property
    def local_tag(self) -> str:
        """Our tag in the dialog that counts: the confirmed one, else the first."""
        if self.within is not None:
            return self.within.dialog.local_tag
        return self.local_tags[0] if self.local_tags else ""

    @property
    def remote_tag(self) -> str:
        """The peer's tag; empty before it is known."""
        return self.within.dialog.remote_tag if self.within is not None else ""

    @property
    def strict_flow(self) -> bool:
        """Whether the peer is reached down its flow alone, whatever it says; each target refresh may change that."""
        hop = self.within.dialog.next_hop() if self.within is not None else self.first_hop
        return not self.sip.names_hop(hop, self.flow)

    @property
    def is_given_up(self) -> bool:
        """Whether the call has no use for this leg any more: nothing is sent again, nothing passed on."""
        return self.terminated

    # --- requests from the peer

    def owns(self, request: Request) -> bool:
        """Whether a request belongs to a dialog of this leg: Call-ID and both tags match (RFC 3261 section 12.2.2)."""
        return request.call_id == self.call_id and self._dialog_of(request) is not None

    def _heard(self, flow: Flow, request: Request) -> None:
        """Follows a peer that spoke inside the dialog, in order, from elsewhere.

        Phones come back over a new connection, from another port of their NAT, or in another network with a new
        Contact. A phone on UDP may also send one large request by a connection (RFC 3261 section 18.1.1): it moved
        there only where its new Contact says so.
        """
        if flow == self.flow:
            return
        if flow.connection and not self.flow.connection:
            if wire.names_connection(request):
                self._move(flow)
        elif self.flow.connection or request.method in REFRESHING or self.strict_flow:
            self._move(flow)

    def _move(self, flow: Flow) -> None:
        self.flow = flow
        if self.within is not None:
            self.within.flow = flow

    def received(self, key: ServerKey, request: Request, flow: Flow) -> None:
        """A request inside one of this leg's dialogs."""
        within = self._dialog_of(request)
        if within is None or (self.terminated and request.method != "BYE"):
            self.sip.respond(key, response_to(request, 481))
            return
        if within.is_in_order(key, request):
            self._heard(flow, request)
            self.refresh.note_allow(request)
            misfit = self._misfit(request)
            if misfit is not None:
                self.sip.respond(key, misfit)
            elif request.method == "PRACK":
                self._take_prack(within, key, request)
            else:
                within.take(key, request)
        self._settle()

    def _misfit(self, request: Request) -> Response | None:
        """The answer to a request that goes no further; None: it does."""
        method = request.method
        misfit = wire.bad_extension(request)
        if misfit is not None or method == "BYE":
            return misfit
        if self.is_given_up:  # a CANCEL of ours is on its way
            return response_to(request, 487)
        if method == "OPTIONS":
            # Deliberately not passed on: it asks whether this dialog is alive, and we are its other end.
            return wire.options_answer(request)
        if method not in ASKS:
            return wire.not_allowed(request)
        if method in ("INVITE", "UPDATE"):
            return body.refusal(request) or refusal_of_interval(request, self.sip.sessions)
        return None

    def _take_prack(self, within: InDialog, key: ServerKey, request: Request) -> None:
        """Nothing that we send to a callee is a reliable provisional response."""
        self.sip.respond(key, response_to(request, 481))

    def _said_asked(self, within: InDialog, said: out.Asked) -> None:
        """A request of the peer that its dialog takes."""
        key, request = said.key, said.request
        if request.method == "BYE":
            self._bye(within, key, request)
            return
        ask = ASKS[request.method]
        if ask is Ask.UPDATE and not request.body:
            # It refreshes session and target of this leg alone.
            within.reply(key, 200, self.sip.now, (("Allow", wire.ALLOW), *self._granted(within, request)))
            return
        confirms = 0
        if ask is Ask.CONFIRM_PROGRESS:
            confirms = self._confirmed_progress(within, request)
            if not confirms:
                within.reply(key, 200, self.sip.now)
                return
        self._exchanges += 1
        exchange, fork = self._exchanges * LEGS_MAX + self.number, self._fork_of(within)
        self.asked[exchange] = Waiting(key, fork)
        package, content = request.first("Info-Package") or "", body.content_of(request)
        headers = self.sip.border.taken(request, self.flow)
        key_pressed = _pressed(content) if ask is Ask.INFORM else None
        self.tell(Asked(self.number, exchange, ask, content, fork, package, confirms, headers, key_pressed))

    def _granted(self, within: InDialog, request: Request) -> Pairs:
        """What our 2xx says of the session timer; an early dialog has none."""
        return self.refresh.grant(request, self.sip.now) if within is self.within else ()

    def _bye(self, within: InDialog, key: ServerKey, request: Request) -> None:
        self._refuse_asked()
        if self.is_given_up:
            within.reply(key, 200, self.sip.now)
            return
        self.waiting_bye = key
        self.end()
        self.tell(HungUp(self.number, reason.cause_of(request)))

    def ended(self) -> None:
        """The call's last event is being written: its sender may be told that the BYE was taken."""
        key, self.waiting_bye = self.waiting_bye, None
        if key is not None:
            for within in self._dialogs():
                within.reply(key, 200, self.sip.now)
            self._settle()

    def acknowledged(self, request: Request) -> None:
        """An ACK to a 2xx of ours."""
        if self.within is not None:
            self.within.acknowledged(request)
            self._settle()

    def _said_acknowledged(self, within: InDialog, said: out.Acknowledged) -> None:
        exchange = self.answering.pop(said.request.cseq_number, 0)
        if exchange:
            self.tell(Confirmed(self.number, exchange, body.content_of(said.request)))

    def cancelled(self, key: ServerKey, request: Request) -> None:
        """A CANCEL for an INVITE of the peer's came; the transaction layer has answered it."""
        for exchange, waiting in self.asked.items():
            if waiting.key == key:
                self.tell(Withdrawn(self.number, exchange, reason.cause_of(request)))
                return

    # --- what the call wants

    def pass_(self, command: Pass) -> None:
        """Sends the peer what the other side asked."""
        within = self._dialog_for(command.fork)
        if within is None or self.terminated or within.state is Stage.ENDED:
            self.tell(Replied(self.number, command.exchange, 481, "", None))
            return
        method, content = METHODS[command.ask], command.content
        describes = content is not None and content.is_sdp
        if method == "UPDATE" and content is not None and self.refresh.allows_update is False:
            # In a call such a peer gets a re-INVITE, which says the same (RFC 3311 section 5.1).
            method = "INVITE" if within is self.within else ""
        offers = method == "UPDATE" and describes
        if not method or (offers and not self._may_offer(within)):
            retry_after_s = wire.retry_after_s(self.sip.chance())
            self.tell(Replied(self.number, command.exchange, 500, "", None, retry_after_s=retry_after_s))
        elif (method == "INVITE" and within.is_modifying) or (offers and within.turn is not Turn.STABLE):
            self.tell(Replied(self.number, command.exchange, 491, "", None))
        else:
            self._ask(within, method, command)
        self._settle()

    def _may_offer(self, within: InDialog) -> bool:
        """Whether the offer before was answered for sure (RFC 3311 section 5.1)."""
        return within is self.within or within.turn is Turn.STABLE

    def _ask(self, within: InDialog, method: str, command: Pass) -> None:
        content = command.content
        if method == "PRACK" and content is not None and content.is_sdp and within.turn is Turn.WE_OFFERED:
            content = None  # out of turn: progress is confirmed all the same
        headers = self._asking(method, command)
        headers += self.sip.border.crossing(command.headers, self.flow)
        headers += body.fields(content)
        key = within.send(method, self.sip.now, headers, b"" if content is None else content.data)
        self.sent[key] = Question(command.exchange, stands_for=METHODS[command.ask])

    def _asking(self, method: str, command: Pass) -> Pairs:
        """The header fields that a method needs."""
        if method in ("INVITE", "UPDATE"):
            return self._wish()
        return (("Info-Package", command.package),) if command.package else ()

    def _wish(self) -> Pairs:
        return self.refresh.wish() if self.refresh.timer is not None else ()

    def withdraw(self, command: Withdraw) -> None:
        """Cancels a re-INVITE that the peer has not answered; its final response ends the exchange (487, mostly)."""
        for key, question in self.sent.items():
            if question.exchange == command.exchange and key[1] == "INVITE" and self.within is not None:
                self.sent[key] = replace(question, withdrawn=True)
                self.within.cancel(key, reasons(command.cause))
                break
        self._settle()

    def reply(self, command: Reply) -> None:
        """Answers what the peer asked."""
        waiting, status = self.asked.get(command.exchange), command.status
        within = None if waiting is None else self._dialog_for(waiting.fork)
        if waiting is None or within is None:
            return
        method = waiting.key[1]
        changes = method in ("INVITE", "UPDATE") and status < 300
        request = within.asked(waiting.key)
        headers: Pairs = (("Allow", wire.ALLOW),) if changes else ()
        if status == 405:
            headers = (("Allow", wire.allow_without(method)),)
        if command.retry_after_s:
            headers += (("Retry-After", str(command.retry_after_s)),)
        headers += self.sip.border.crossing(command.headers, self.flow)
        headers += self._body_fields(command.content)
        if status >= 200:
            del self.asked[command.exchange]
            if changes and request is not None:
                headers += self._granted(within, request)
        data = b"" if command.content is None else command.content.data
        response = within.reply(waiting.key, status, self.sip.now, headers, data, reason=command.reason)
        if response is not None and method == "INVITE" and 200 <= status < 300:
            self.answering[response.cseq_number] = command.exchange
        self._settle()

    def confirm(self, command: Confirm) -> None:
        """Sends the ACK that an accepted re-INVITE waits for."""
        cseq = self.confirming.pop(command.exchange, 0)
        if cseq and self.within is not None:
            data = b"" if command.content is None else command.content.data
            self.within.acknowledge(cseq, self._body_fields(command.content), data)
            self._settle()

    def hang_up(self, cause: Cause) -> None:
        """Ends the dialog with a BYE, answering first whatever the peer waits for."""
        if self.terminated:
            return
        self._refuse_asked()
        within = self.within
        if within is not None and within.state is not Stage.ENDED:
            within.send("BYE", self.sip.now, reasons(cause))
        self.end()

    # --- responses of the peer

    def responded(self, key: ClientKey, response: Response) -> None:
        """A response to a request of this leg inside a dialog."""
        for within in self._dialogs():
            within.response_received(key, response, self.sip.now)
        self._settle()

    def failed(self, key: ClientKey | ServerKey, cause: FailureCause) -> None:
        """No response came to a request of this leg, or it could not be sent."""
        for within in self._dialogs():
            within.transaction_failed((key[0], key[1]), cause, self.sip.now)
        self._settle()

    def resent(self, old: ClientKey, new: ClientKey) -> None:
        """A request was sent again over another transport, in another transaction."""
        question = self.sent.pop(old, None)
        if question is not None:
            self.sent[new] = question
        for within in self._dialogs():
            within.resent(old, new)

    def _said_replied(self, within: InDialog, said: out.Replied) -> None:
        question, request, response = self.sent.get(said.key), said.request, said.response
        if question is None or self.terminated:
            return
        status, method = response.status, request.method
        if status >= 200:
            del self.sent[said.key]
        if method in ("INVITE", "UPDATE") and 200 <= status < 300:
            self._take_effect(within, question, request, response)
        if question.refreshes:
            self._refreshed(response)
        elif status == 422 and not question.withdrawn and self.refresh.timer and self.refresh.raised(response):
            self.sent[within.again(request, self.sip.now, self.refresh.wish())] = question
        elif status in (408, 481) and method in ("INVITE", "UPDATE") and self.within is not None:
            # It ends the dialog (RFC 3261 section 12.2.1.2, RFC 5057).
            self.tell(Replied(self.number, question.exchange, status, response.reason, None))
            self.tell(LegLost(self.number, "dialog_gone"))
        else:
            retry = wire.seconds(response.first("Retry-After"))
            content = body.content_of(response)
            headers = (*self.sip.border.taken(response, self.flow), *explanation_of(response))
            self.tell(Replied(self.number, question.exchange, status, response.reason, content, retry, headers))

    def _take_effect(self, within: InDialog, question: Question, request: Request, response: Response) -> None:
        """What a positive response to an offer makes true; a refused offer is not said again."""
        self.refresh.granted(response, self.sip.now)
        content = body.content_of(request)
        if content is not None and content.is_sdp:
            self.described = Content(body.SDP, content.sdp)
        if request.method != "INVITE":
            return
        if question.refreshes or question.stands_for == "UPDATE":
            within.acknowledge(request.cseq_number)  # the other side knows of no INVITE
        else:
            self.confirming[question.exchange] = request.cseq_number

    def _said_unanswered(self, within: InDialog, said: out.Unanswered) -> None:
        question = self.sent.pop(said.key, None)
        transport = said.cause is FailureCause.TRANSPORT
        if self.terminated:
            return
        if question is not None and not question.refreshes:
            self.tell(Replied(self.number, question.exchange, 503 if transport else 408, "", None))
        if self.within is not None and said.request.method != "PRACK":
            self.tell(LegLost(self.number, "transport" if transport else "no_response"))

    # --- the session timer

    def _said_refresh_due(self, _: object, said: out.RefreshDue) -> None:
        """Sends our refresh; where the session is just being changed, later."""
        within, method = self.within, said.method
        if within is None:
            return
        if self.asked or within.is_modifying:
            self.refresh.busy(self.sip.now)
            return
        content = self.described if method == "INVITE" else None
        headers = (*self._wish(), *body.fields(content))
        key = within.send(method, self.sip.now, headers, b"" if content is None else content.data)
        self.sent[key] = Question(0)

    def _refreshed(self, response: Response) -> None:
        """An answer to our refresh."""
        status = response.status
        if status < 200 or self.refresh.timer is None:
            return
        if status < 300:
            content = body.content_of(response)
            if content is not None:
                self.tell(Refreshed(self.number, content))
        elif not self.refresh.refused(response, self.sip.now, self.sip.chance()):
            self.tell(LegLost(self.number, "dialog_gone"))

    def _said_expired(self, _: object, said: out.SessionExpired) -> None:
        self.tell(LegLost(self.number, "session_expired"))

    def _said_unconfirmed(self, _: object, said: out.Unconfirmed) -> None:
        self.tell(LegLost(self.number, "no_ack" if said.waits is out.Waits.ANSWER else "no_prack"))

    # --- the end

    def _refuse_asked(self) -> None:
        """Answers whatever the peer still waits for: there is nobody left to ask (RFC 3261 section 15.1.2)."""
        self.asked.clear()
        for within in self._dialogs():
            within.refuse_asked()

    def end(self) -> None:
        """The dialog is over for the call; what was sent may still finish."""
        if self._is_over:
            return
        self._refuse_asked()
        self.terminated = self._is_over = True
        for within in self._dialogs():
            if within.state is not Stage.ENDED:
                within.end()
        self.refresh.stop()
        self._settle()
        for tag in self.local_tags:
            self.sip.forget(tag)

    # --- usages

    def expired(self, what: int) -> None:
        """The leg's deadline passed."""
        self._alarm = self._alarm_at = None
        now = self.sip.now
        for usage in self._timed:
            due = usage.next_timeout
            if due is not None and due <= now:
                usage.handle_timeout(now)
        self._settle()

    def _settle(self) -> None:
        """Carries out what the usages say, and wakes up for their next deadline."""
        moved = True
        while moved:
            moved = False
            for usage in self._usages:
                while usage.pending:
                    moved = True
                    for said in usage.drain():
                        self.SAID[type(said)](self, usage, said)
        at: float | None = None
        for usage in self._timed:
            due = usage.next_timeout
            if due is not None and (at is None or due < at):
                at = due
        if at != self._alarm_at:
            if self._alarm is not None:
                self.sip.unschedule(self._alarm)
            self._alarm_at = at
            self._alarm = None if at is None else self.sip.schedule(self, at, ALARM)

    def tell(self, signal: Any) -> None:
        """Hands an event to the call."""
        self.sip.tell(self, signal)

    def _said_send(self, _: object, said: out.Send) -> None:
        key = self.sip.send(said.request, said.flow, self, self._patience_s(said.key[1]))
        if key != said.key:
            self.resent(said.key, key)

    def _patience_s(self, method: str) -> float:
        return 0.0

    def _said_respond(self, _: object, said: out.Respond) -> None:
        self.sip.respond(said.key, said.response)

    def _said_ack(self, _: object, said: out.SendAck) -> None:
        self.sip.send_ack(said.request, said.flow)

    def _said_cancel(self, _: object, said: out.CancelInvite) -> None:
        self.sip.cancel(said.key, said.headers)

    def _body_fields(self, content: Content | None) -> Pairs:
        """The header fields of a body that the peer gets, whose session description is noted."""
        if content is not None and content.is_sdp:
            self.described = Content(body.SDP, content.sdp)
        return body.fields(content)

    # --- as a value

    def _frozen(self, clock: Clock) -> FrozenLeg:
        """What both kinds of legs have; call it after a step."""
        return FrozenLeg(
            number=self.number,
            flow=freeze_flow(self.flow),
            call_id=self.call_id,
            first_hop=self.first_hop,
            secure=self.secure,
            refresh=self.refresh.freeze(clock),
            asked=tuple(self.asked.items()),
            answering=tuple(self.answering.items()),
            sent=tuple(self.sent.items()),
            confirming=tuple(self.confirming.items()),
            described=self.described,
            local_tags=tuple(self.local_tags),
            remote_user_agent=self.remote_user_agent,
            final_status=self.final_status,
            terminated=self.terminated,
            is_over=self._is_over,
            waiting_bye=self.waiting_bye,
            exchanges=self._exchanges,
        )

    def _thaw(self, frozen: FrozenLeg, clock: Clock) -> None:
        """Takes that over, in a leg that was just made."""
        self.flow = thaw_flow(frozen.flow)
        self.call_id, self.first_hop, self.secure = frozen.call_id, frozen.first_hop, frozen.secure
        self.refresh = Refresh.thaw(frozen.refresh, clock)
        self.asked, self.answering = dict(frozen.asked), dict(frozen.answering)
        self.sent, self.confirming = dict(frozen.sent), dict(frozen.confirming)
        self.described, self.local_tags = frozen.described, list(frozen.local_tags)
        self.remote_user_agent, self.final_status = frozen.remote_user_agent, frozen.final_status
        self.terminated, self._is_over = frozen.terminated, frozen.is_over
        self.waiting_bye, self._exchanges = frozen.waiting_bye, frozen.exchanges

    def wake(self) -> None:
        """A leg that was thawed begins to live: it listens to its dialogs, and wakes up for its next deadline."""
        if not self._is_over:
            for tag in self.local_tags:
                self.sip.listen(tag, self)
        self._settle()

    def sleep(self) -> None:
        """The leg lives elsewhere from now on: it wakes up no more."""
        if self._alarm is not None:
            self.sip.unschedule(self._alarm)
        self._alarm = self._alarm_at = None

    # --- of the kind of leg

    SAID: ClassVar[Mapping[type, Callable[[Any, Any, Any], None]]] = {}
    """What becomes of an output of a usage."""

    def _dialogs(self) -> Iterable[InDialog]:
        """The dialog that was answered, and before that the early ones."""
        raise NotImplementedError

    def _dialog_of(self, request: Request) -> InDialog | None:
        """The dialog that a request belongs to."""
        raise NotImplementedError

    def _dialog_for(self, fork: str) -> InDialog | None:
        """The dialog of a branch of the call."""
        raise NotImplementedError

    def _fork_of(self, within: InDialog) -> str:
        """The branch of the call to which a dialog belongs."""
        raise NotImplementedError

    def _confirmed_progress(self, within: InDialog, request: Request) -> int:
        """Which reliable progress of the other side a PRACK confirms; 0: none, it is answered here."""
        return 0


def _pressed(content: Content | None) -> Pressed | None:
    """The key of an INFO that tells of one."""
    pressed = None if content is None else dtmf.read(content.type, content.data)
    return None if pressed is None else Pressed(pressed.digit, pressed.duration_ms)


def _nobody() -> None:
    """The call of a leg that has outlived it."""


def reasons(cause: Cause) -> Pairs:
    """The Reason headers for a cause."""
    return tuple(("Reason", value) for value in reason.values(cause))


SAID: Final[Mapping[type, Callable[[Any, Any, Any], None]]] = {
    out.Send: Leg._said_send,
    out.Respond: Leg._said_respond,
    out.SendAck: Leg._said_ack,
    out.CancelInvite: Leg._said_cancel,
    out.Asked: Leg._said_asked,
    out.Replied: Leg._said_replied,
    out.Unanswered: Leg._said_unanswered,
    out.Acknowledged: Leg._said_acknowledged,
    out.Unconfirmed: Leg._said_unconfirmed,
    out.RefreshDue: Leg._said_refresh_due,
    out.SessionExpired: Leg._said_expired,
}
"""What becomes of an output of the usages that both kinds of legs have."""
