"""One side of a call: a SIP dialog on one hand, call-control events on the other.

`Leg` holds what both sides do alike once there is a dialog: requests inside the dialog in both directions, the
positive answer to an INVITE repeated until its ACK (RFC 3261 section 13.3.1.4), BYE. `InboundLeg` and `OutboundLeg`
add how a dialog comes about. A leg decides nothing about the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import ref

from pbx_signaling.border import reason, wire
from pbx_signaling.calls import refusal
from pbx_signaling.calls.signals import (
    CALLER,
    Ask,
    Asked,
    Cause,
    Confirmed,
    Content,
    HungUp,
    LegLost,
    Replied,
    Withdrawn,
)
from pbx_signaling.legs import body, refreshing, repeating, session
from pbx_signaling.legs.sent import Purpose, Repeated, Sent, Timer
from pbx_sip.dialog.dialog import REFRESHING, Dialog, Verdict
from pbx_sip.message.message import Request, Response, response_to

if TYPE_CHECKING:
    from pbx_signaling.bucket import Bucket
    from pbx_signaling.calls.commands import Confirm, Pass, Reply, Withdraw
    from pbx_signaling.legs.port import Key, SipPort
    from pbx_signaling.users.entry import Entry
    from pbx_sip.address import Flow
    from pbx_sip.message.message import Message

METHODS: Final = {
    Ask.MODIFY: "INVITE",
    Ask.UPDATE: "UPDATE",
    Ask.CONFIRM_PROGRESS: "PRACK",
    Ask.INFORM: "INFO",
    Ask.MESSAGE: "MESSAGE",
}
ASKS: Final = {method: ask for ask, method in METHODS.items()}


class Leg:
    """What the two kinds of legs share. `exchange` numbers are minted by the leg that was asked."""

    __slots__ = (
        "_entry",
        "accepted",
        "allows_update",
        "answer",
        "asked",
        "budget",
        "call_id",
        "confirming",
        "dialog",
        "final_status",
        "first_hop",
        "flow",
        "local_tags",
        "modifying",
        "number",
        "remote_user_agent",
        "secure",
        "sent_session",
        "session",
        "settled",
        "sip",
        "terminated",
        "waiting_bye",
    )

    def __init__(self, sip: SipPort, entry: Entry, number: int, flow: Flow, call_id: str) -> None:
        self.sip = sip
        self._entry = ref(entry)
        self.number = number
        """0: the caller's; from 1 on those of the callee's phones."""
        self.flow = flow
        self.call_id = call_id
        self.first_hop = ""
        """The URI that led, or leads, to the peer before there is a dialog."""
        self.budget: Bucket | None = None
        """Of its dialog's requests, once there was one."""
        self.secure = False
        """Made by a SIPS URI: so is our Contact (RFC 3261 section 12.1.1)."""
        self.dialog: Dialog | None = None
        self.asked: dict[int, tuple[Key, Request]] = {}
        """Exchanges that the peer asked for, with the request that waits for its answer."""
        self.confirming: dict[int, tuple[Dialog, int, Request | None]] = {}
        """CSeq of an INVITE of ours that was accepted: its dialog, its exchange, and its ACK once there is one."""
        self.accepted: set[int] = set()
        """Those of them whose 2xx came."""
        self.answer: Repeated | None = None
        self.session: session.Session | None = None
        """The session timer, where one was agreed on."""
        self.allows_update: bool | None = None
        """Whether the peer said that it takes UPDATE (RFC 3311 section 4); None: it said nothing of what it takes."""
        self.settled: set[str] = set()
        """Early branches in which the INVITE's offer was answered reliably: the next offer may come."""
        self.sent_session: Content | None = None
        """The session description that the peer got last: a re-INVITE that refreshes repeats it."""
        self.local_tags: list[str] = []
        self.remote_user_agent = ""
        self.final_status = 0
        self.terminated = False
        self.waiting_bye: tuple[Key, Request] | None = None
        self.modifying: tuple[int, Key] = (0, None)
        """The exchange of our last re-INVITE, and its transaction: what a CANCEL of the other side's means."""

    def __repr__(self) -> str:
        """For logs."""
        return f"<{type(self).__name__} {self.call_id} {self.flow} {self.dialog or 'no dialog'}>"

    @property
    def entry(self) -> Entry | None:
        """The call that this leg belongs to; None once it has ended and all of its steps were carried out."""
        return self._entry()

    @property
    def local_tag(self) -> str:
        """Our tag in the dialog that counts: the confirmed one, else the first."""
        if self.dialog is not None:
            return self.dialog.local_tag
        return self.local_tags[0] if self.local_tags else ""

    @property
    def remote_tag(self) -> str:
        """The peer's tag; empty before it is known."""
        return self.dialog.remote_tag if self.dialog is not None else ""

    @property
    def strict_flow(self) -> bool:
        """Whether the peer is reached down its flow alone, whatever it says; each target refresh may change that."""
        hop = self.dialog.next_hop() if self.dialog is not None else self.first_hop
        return not self.sip.names_hop(hop, self.flow)

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
                self.flow = flow
        elif self.flow.connection or request.method in REFRESHING or self.strict_flow:
            self.flow = flow

    def received(self, key: Key, request: Request, flow: Flow) -> None:
        """A request inside one of this leg's dialogs."""
        dialog = self._dialog_of(request)
        if dialog is None or (self.terminated and request.method != "BYE"):
            self.sip.respond(key, response_to(request, 481))
            return
        verdict = dialog.receive(request)
        if verdict is Verdict.OUT_OF_ORDER:
            self.sip.respond(key, response_to(request, 500))
            return
        self._heard(flow, request)
        self.learn_methods(request)
        misfit = wire.bad_extension(request)
        if misfit is None and self.is_given_up and request.method != "BYE":  # a CANCEL of ours is on its way
            misfit = response_to(request, 487)
        if misfit is not None:
            self.sip.respond(key, misfit)
        elif request.method == "BYE":
            self._bye(key, request)
        else:
            self._requested(key, request, dialog)

    def _requested(self, key: Key, request: Request, dialog: Dialog) -> None:
        """A request that is in order, and does not end the call."""
        if request.method == "OPTIONS":
            # Deliberately not passed on: it asks whether this dialog is alive, and we are its other end.
            self.sip.respond(key, wire.options_answer(request))
            return
        ask = ASKS.get(request.method)
        if ask is None:
            self.sip.respond(key, wire.not_allowed(request))
            return
        refusal = self._refusal(ask, request)
        if refusal is not None:
            self.sip.respond(key, refusal)
            return
        if ask is Ask.UPDATE and not request.body:
            refreshing.by_peer(self, key, request, dialog)
            return
        exchange = wire.exchange_number()
        self.asked[exchange] = (key, request)
        if ask is Ask.MODIFY:
            self.sip.own(key, self)
            self.sip.respond(key, response_to(request, 100))
        self._ask(exchange, ask, request, dialog)

    def _ask(self, exchange: int, ask: Ask, request: Request, dialog: Dialog) -> None:
        content = body.content_of(request)
        package = request.first("Info-Package") or ""
        fork, confirms, headers = (
            self._fork_of(dialog),
            self._confirms(request),
            self.sip.border.taken(request, self.flow),
        )
        self.tell(Asked(self.number, exchange, ask, content, fork, package, confirms, headers))

    def _refusal(self, ask: Ask, request: Request) -> Response | None:
        """Glare and other reasons to refuse at once (RFC 3261 section 14.2, RFC 3311 section 5.2)."""
        if ask not in (Ask.MODIFY, Ask.UPDATE):
            return None
        refusal = body.refusal(request) or session.refusal(request, self.sip.sessions)
        if refusal is not None or (ask is Ask.UPDATE and not request.body):
            return refusal
        unanswered = ask is Ask.MODIFY and self.dialog is None
        waits = any(waiting.method in ("INVITE", "UPDATE") and waiting.body for _, waiting in self.asked.values())
        if waits or (unanswered and self.number == CALLER):
            response = response_to(request, 500)
            response.headers.append("Retry-After", str(wire.retry_after_s()))
            return response
        unconfirmed = self.answer is not None and self.answer.exchange == 0 and ask is Ask.MODIFY
        if unanswered or unconfirmed or self.confirming_offer:
            return response_to(request, 491)
        return None

    @property
    def confirming_offer(self) -> bool:
        """Whether an INVITE of ours is under way towards the peer."""
        return any(ack is None for _, _, ack in self.confirming.values())

    def _bye(self, key: Key, request: Request) -> None:
        self.refuse_asked()
        if self.is_given_up:
            self.sip.respond(key, response_to(request, 200))
            return
        self.waiting_bye = (key, request)
        self.end()
        self.tell(HungUp(self.number, reason.cause_of(request)))

    def ended(self) -> None:
        """The call's last event is being written: its sender may be told that the BYE was taken."""
        if self.waiting_bye is not None:
            key, request = self.waiting_bye
            self.waiting_bye = None
            self.sip.respond(key, response_to(request, 200))

    def acknowledged(self, request: Request) -> None:
        """An ACK to a 2xx of ours."""
        answer = self.answer
        if answer is None or request.cseq_number != answer.cseq:
            return
        repeating.stop(self)
        content = body.content_of(request)
        self._confirmed(answer.exchange, content)

    def _confirmed(self, exchange: int, content: Content | None) -> None:
        self.tell(Confirmed(self.number, exchange, content))

    def cancelled(self, key: Key, cause: Cause) -> None:
        """A CANCEL for an INVITE of the peer's came; the transaction layer has answered it."""
        for exchange, (waiting, _) in self.asked.items():
            if waiting == key:
                self.tell(Withdrawn(self.number, exchange, cause))
                return

    # --- what the call wants

    def pass_(self, command: Pass) -> None:
        """Sends the peer what the other side asked."""
        dialog = self._dialog_for(command.fork)
        if dialog is None or self.terminated:
            self.tell(Replied(self.number, command.exchange, 481, "", None))
            return
        ask = self._way_of(command)
        if ask is None:  # its own offer has no answer yet (RFC 3311 section 5.2)
            self.tell(Replied(self.number, command.exchange, 500, "", None, retry_after_s=wire.retry_after_s()))
            return
        if ask is Ask.MODIFY and self.confirming_offer:  # a refresh of ours (RFC 3261 section 14.1)
            self.tell(Replied(self.number, command.exchange, 491, "", None))
            return
        request = self.request(dialog, METHODS[ask])
        if not self._decorate(request, command):
            self.tell(Replied(self.number, command.exchange, 481, "", None))
            return
        cseq = dialog.local_cseq
        if ask is Ask.MODIFY:
            self.confirming[cseq] = (dialog, command.exchange, None)
        sent = Sent(self, Purpose.ASK, dialog, command.exchange, ask, cseq, command)
        key = self.sip.send(request, self.flow_of(dialog), sent)
        if ask is Ask.MODIFY:
            self.modifying = command.exchange, key

    def _way_of(self, command: Pass) -> Ask | None:
        """By which request the peer can be asked; None: not now.

        An UPDATE does not go to a peer whose Allow leaves it out, and to none before its own offer was answered for
        sure; in a call such a peer gets a re-INVITE, which says the same (RFC 3311 section 5.1).
        """
        if command.ask is not Ask.UPDATE or command.content is None:
            return command.ask
        refused = self.allows_update is False
        if self.dialog is None and (refused or command.fork not in self.settled):
            return None
        return Ask.MODIFY if refused else Ask.UPDATE

    def learn_methods(self, message: Message) -> None:
        """Notes whether the peer takes UPDATE, where it says so."""
        if "Allow" in message.headers:
            self.allows_update = "UPDATE" in ",".join(message.headers.all("Allow")).upper()

    def withdraw(self, command: Withdraw) -> None:
        """Cancels a re-INVITE that the peer has not answered; its final response ends the exchange (487, mostly)."""
        exchange, key = self.modifying
        if exchange == command.exchange:
            self.modifying = 0, None
            self.sip.cancel(key, reason.values(command.cause))

    def _decorate(self, request: Request, command: Pass) -> bool:
        """Adds what the method needs; False where it cannot be said on this leg."""
        headers = request.headers
        if command.package:
            headers.append("Info-Package", command.package)
        self.sip.border.put(request, command.headers, self.flow)
        body.put_content(request, command.content)
        return True

    def reply(self, command: Reply) -> None:
        """Answers what the peer asked."""
        waiting = self.asked.get(command.exchange)
        if waiting is None:
            return
        key, request = waiting
        if command.status >= 200:
            del self.asked[command.exchange]
        response = response_to(request, command.status, command.reason)
        if request.method in ("INVITE", "UPDATE") and command.status < 300:
            response.headers.append("Contact", self.sip.contact(self.flow, self.secure))
            response.headers.append("Allow", wire.ALLOW)
        if command.status == 405:
            response.headers.append("Allow", wire.allow_without(request.method))
        if command.retry_after_s:
            response.headers.append("Retry-After", str(command.retry_after_s))
        self.sip.border.put(response, command.headers, self.flow)
        self._put_content(response, command.content)
        if request.method in ("INVITE", "UPDATE") and 200 <= command.status < 300:
            refreshing.grant(self, request, response)
        self.sip.respond(key, response)
        if not 200 <= command.status < 300:
            return
        dialog = self._dialog_of(request)
        if dialog is not None:
            dialog.refresh_target(request)
        if request.method == "INVITE":
            repeating.begin(self, response, key, request.cseq_number, command.exchange)

    def confirm(self, command: Confirm) -> None:
        """Sends the ACK that an accepted re-INVITE waits for."""
        for cseq, (dialog, exchange, ack) in self.confirming.items():
            if exchange == command.exchange and ack is None:
                self.send_ack(dialog, cseq, exchange, command.content)
                return

    def hang_up(self, cause: Cause) -> None:
        """Ends the dialog with a BYE, answering first whatever the peer waits for."""
        if self.terminated:
            return
        self.refuse_asked()
        for cseq, (dialog, exchange, ack) in list(self.confirming.items()):
            if ack is None and cseq in self.accepted:
                self.send_ack(dialog, cseq, exchange, None)
        dialog_now = self.dialog
        self.end()
        if dialog_now is not None:
            self.send_bye(dialog_now, cause)

    def send_bye(self, dialog: Dialog, cause: Cause) -> None:
        """Ends a dialog of this leg."""
        request = self.request(dialog, "BYE")
        reason.put(request, cause)
        self.sip.send(request, self.flow_of(dialog), Sent(self, Purpose.BYE, dialog))

    # --- responses of the peer

    def responded(self, sent: Sent, response: Response) -> None:
        """A response to a request of this leg inside the dialog."""
        if sent.purpose is Purpose.BYE:
            return
        if sent.purpose is Purpose.REFRESH:
            refreshing.responded(self, sent, response)
            return
        if sent.ask is Ask.MODIFY and response.status >= 200 and not self._settle_modify(sent, response):
            return
        if self.terminated:
            return
        if response.status == 100:
            return
        if (
            response.status in (408, 481)
            and sent.ask is not Ask.CONFIRM_PROGRESS
            and self._is_dialog_lost(sent, response)
        ):
            return
        if response.status == 422 and refreshing.asked_again(self, sent, response):
            return
        if response.status < 300:
            self._take_effect(sent, response)
        retry = wire.seconds(response.first("Retry-After"))
        content = body.content_of(response)
        headers = (*self.sip.border.taken(response, self.flow), *refusal.explanation_of(response))
        self.tell(Replied(self.number, sent.exchange, response.status, response.reason, content, retry, headers))
        if sent.ask is Ask.MODIFY and sent.command is not None and sent.command.ask is Ask.UPDATE:
            self._confirm_alone(sent)

    def _confirm_alone(self, sent: Sent) -> None:
        """The ACK for a re-INVITE that stands for an UPDATE: the other side knows of none."""
        waiting = self.confirming.get(sent.cseq)
        if sent.cseq in self.accepted and waiting is not None and waiting[2] is None:
            self.send_ack(waiting[0], sent.cseq, waiting[1], None)

    def _take_effect(self, sent: Sent, response: Response) -> None:
        """What a positive response to a request inside the dialog makes true; a refused offer is not said again."""
        if sent.ask in (Ask.MODIFY, Ask.UPDATE) and sent.dialog is not None:
            sent.dialog.refresh_target(response)
            if response.status >= 200:
                refreshing.granted(self, response)
        content = sent.command.content if sent.command is not None else None
        if response.status >= 200 and content is not None and content.is_sdp:
            self.sent_session = Content(body.SDP, content.sdp)

    def _is_dialog_lost(self, sent: Sent, response: Response) -> bool:
        """481 or 408 to a request inside the dialog ends it (RFC 3261 section 12.2.1.2, RFC 5057)."""
        if sent.ask not in (Ask.MODIFY, Ask.UPDATE) or self.dialog is None:
            return False
        self.tell(Replied(self.number, sent.exchange, response.status, response.reason, None))
        self.tell(LegLost(self.number, "dialog_gone"))
        return True

    def _settle_modify(self, sent: Sent, response: Response) -> bool:
        """Final response to a re-INVITE; False where it was a repetition that is dealt with."""
        waiting = self.confirming.get(sent.cseq)
        if response.status >= 300:
            self.confirming.pop(sent.cseq, None)
            return True
        repeated = sent.cseq in self.accepted
        self.accepted.add(sent.cseq)
        if waiting is not None and waiting[2] is not None:
            self.sip.send_ack(waiting[2], self.flow_of(waiting[0]))
            return False
        if self.terminated and waiting is not None:
            self.send_ack(waiting[0], sent.cseq, waiting[1], None)
        return not (self.terminated or repeated)

    def resent(self, sent: Sent, key: Key) -> None:
        """A request was sent again over another transport, in another transaction."""
        if sent.exchange == self.modifying[0]:
            self.modifying = sent.exchange, key

    @property
    def is_given_up(self) -> bool:
        """Whether the call has no use for this leg any more: nothing is sent again, nothing passed on."""
        return self.terminated

    def failed(self, sent: Sent, transport: bool) -> None:
        """No response came, or the request could not be sent."""
        if sent.purpose is Purpose.BYE or self.terminated:
            return
        self.confirming.pop(sent.cseq, None)
        if sent.purpose is Purpose.ASK:
            self.tell(Replied(self.number, sent.exchange, 503 if transport else 408, "", None))
        if self.dialog is not None and sent.ask is not Ask.CONFIRM_PROGRESS:
            self.tell(LegLost(self.number, "transport" if transport else "no_response"))

    def expired(self, what: int) -> None:
        """A deadline of this leg passed."""
        if what == Timer.SESSION:
            refreshing.due(self)
        elif what == Timer.REPEAT_ANSWER:
            repeating.due(self)

    # --- tools

    def refuse_asked(self) -> None:
        """Answers whatever the peer still waits for: there is nobody left to ask (RFC 3261 section 15.1.2)."""
        asked, self.asked = self.asked, {}
        for key, request in asked.values():
            self.sip.respond(key, response_to(request, 487))

    def end(self) -> None:
        """The dialog is over for the call; what was sent may still finish."""
        self.refuse_asked()
        self.terminated = True
        repeating.stop(self)
        refreshing.keep(self, None)
        for tag in self.local_tags:
            self.sip.forget(tag)

    def tell(self, signal: object) -> None:
        self.sip.tell(self, signal)  # type: ignore[arg-type]  # narrowed by the callers

    def request(self, dialog: Dialog, method: str) -> Request:
        flow = self.flow_of(dialog)
        request = dialog.request(method, self.sip.via(flow))
        if method in ("INVITE", "UPDATE"):
            request.headers.append("Contact", self.sip.contact(flow, self.secure))
            request.headers.append("Allow", wire.ALLOW)
            request.headers.append("Supported", wire.SUPPORTED)
            if self.session is not None:
                self.session.ask(request.headers)
        request.headers.append("User-Agent", wire.PRODUCT)
        return request

    def _put_content(self, message: Message, content: Content | None) -> None:
        if content is not None and content.is_sdp:
            self.sent_session = Content(body.SDP, content.sdp)
        body.put_content(message, content)

    def send_ack(self, dialog: Dialog, cseq: int, exchange: int, content: Content | None) -> None:
        flow = self.flow_of(dialog)
        ack = dialog.ack(cseq, self.sip.via(flow))
        self._put_content(ack, content)
        self.confirming[cseq] = (dialog, exchange, ack)
        for old in [number for number in self.confirming if number < cseq]:
            del self.confirming[old]
        self.sip.send_ack(ack, flow)

    def flow_of(self, dialog: Dialog) -> Flow:
        """Where requests of a dialog go: its next hop where that is followed, else down the flow."""
        return self.sip.route(dialog.next_hop(), self.flow)

    def _dialog_of(self, request: Request) -> Dialog | None:
        """The dialog that a request belongs to."""
        return self.dialog

    def _dialog_for(self, fork: str) -> Dialog | None:
        """The dialog of a branch of the call."""
        return self.dialog

    def _fork_of(self, dialog: Dialog) -> str:
        """The branch of the call to which a dialog belongs."""
        return ""

    def _confirms(self, request: Request) -> int:
        """Which reliable progress a PRACK confirms; 0 for other requests."""
        return 0
