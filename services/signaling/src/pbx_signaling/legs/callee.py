"""The callee's leg: the INVITE that we send, its forks, its answer, CANCEL (RFC 3261 sections 13.2 and 9.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pbx_signaling.border import reason, wire
from pbx_signaling.calls import refusal
from pbx_signaling.calls.signals import Answered, Ask, Cause, Content, Progress, Rejected
from pbx_signaling.legs import body, refreshing
from pbx_signaling.legs.leg import Leg
from pbx_signaling.legs.sent import Purpose, Sent
from pbx_signaling.legs.session import put_wish
from pbx_sip.dialog.dialog import Dialog
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request, Response, response_to
from pbx_sip.message.uri import request_target

if TYPE_CHECKING:
    from pbx_signaling.border.asserted import Presented
    from pbx_signaling.calls.commands import Dial, Pass
    from pbx_signaling.calls.signals import Target
    from pbx_signaling.legs.port import Key, SipPort
    from pbx_signaling.users.entry import Entry
    from pbx_sip.address import Flow

MAX_FORKS: Final = 8
"""Early dialogs of one INVITE. Threat: a network that forks without end."""


UNREACHABLE_S: Final = 4.0
"""For a sign of a phone that does not answer its keep-alive any more: three repetitions, in case it is back. A caller
waits for it, and another phone of the same user does."""


class OutboundLeg(Leg):
    """The UAC side of a call."""

    __slots__ = (
        "_cancelled",
        "_cseq",
        "_early",
        "_from",
        "_invite",
        "_key",
        "_relays_prack",
        "_target",
        "_target_uri",
        "_to",
        "_wishes",
        "reached",
    )

    def __init__(self, sip: SipPort, entry: Entry, number: int, flow: Flow) -> None:
        super().__init__(sip, entry, number, flow, sip.sip_call_id())
        self._early: dict[str, Dialog] = {}
        self._key: Key | None = None
        self._cancelled = False
        self._cseq = 1
        self._from = self._to = self._target_uri = ""
        self._invite: Request | None = None
        """As it was sent, until it is answered."""
        self._wishes = sip.sessions
        self._target: Target | None = None
        """The binding, where it was registered over a connection; None once it has answered."""
        self._relays_prack = False
        """The caller takes reliable progress: its PRACK confirms that of the callee."""
        self.reached = False
        """The callee gave a final answer, or none will come."""

    # --- what the call wants

    def dial(self, command: Dial, caller: Presented, max_forwards: int, reliable: bool) -> None:
        """Invites the callee. `caller` is whom it sees, `reliable` what the caller can do."""
        target = command.target
        tag = self.sip.tag()
        self.local_tags.append(tag)
        self.sip.listen(tag, self)
        self._from, self._to = f"{caller.from_value};tag={tag}", f"<sip:{target.aor}>"
        self.first_hop = self.sip.first_hop(target)
        if target.connection:
            self._target = target
        self.secure = target.uri[:5].lower() == "sips:"
        headers = Headers(
            [
                ("Via", self.sip.via(self.flow)),
                ("Max-Forwards", str(max_forwards)),
                ("From", self._from),
                ("To", self._to),
                ("Call-ID", self.call_id),
                ("CSeq", f"{self._cseq} INVITE"),
                ("Contact", self.sip.contact(self.flow, self.secure)),
                ("Allow", wire.ALLOW),
                ("User-Agent", wire.PRODUCT),
            ]
        )
        # Reliable progress that the caller does not take is confirmed here, unless it needs the caller's answer.
        content = command.content
        self._relays_prack = reliable
        supported = "100rel" if reliable or (content is not None and content.is_sdp) else ""
        if self.sip.sessions.interval_s:
            supported += ", timer" if supported else "timer"
            put_wish(headers, self.sip.sessions)
        if supported:
            headers.append("Supported", supported)
        for value in target.path:
            headers.append("Route", value)
        self._target_uri = request_target(target.uri)
        request = Request("INVITE", self._target_uri, headers)
        self.sip.border.put(request, (*command.headers, *caller.headers), self.flow)
        self._put_content(request, content)
        self._invite = request
        patience_s = UNREACHABLE_S if target.unreachable else 0.0
        sent = Sent(self, Purpose.INVITE, cseq=self._cseq, patience_s=patience_s)
        self._key = self.sip.send(request, self.flow, sent)

    def _invited_again(self, response: Response) -> bool:
        """Invites once more with the session interval that a 422 wants (RFC 4028 section 7.3), where that can be."""
        raised = self._wishes.raised(response)
        request = self._invite
        if raised is None or request is None or self._cancelled:
            return False
        self._wishes = raised
        self._early.clear()
        self._cseq += 1
        again = Request("INVITE", request.uri, request.headers.copy(), request.body)
        for name in ("Session-Expires", "Min-SE"):
            again.headers.remove(name)
        again.headers.set("Via", self.sip.via(self.flow))
        again.headers.set("CSeq", f"{self._cseq} INVITE")
        put_wish(again.headers, raised)
        self._invite = again
        self._key = self.sip.send(again, self.flow, Sent(self, Purpose.INVITE, cseq=self._cseq))
        return True

    def _invited_anew(self, sent: Sent) -> bool:
        """Invites over a connection that we make, where the phone's own is gone (RFC 3261 section 18.1.1).

        Where that cannot be made either, the binding goes.
        """
        target, request = self._target, self._invite
        if target is None:
            return False
        if not self.flow.connection:
            self.sip.unreachable(target.aor, wire.bound_flow(target))
            return False
        flow = self.sip.anew(self.first_hop, self.flow)
        if flow is None or request is None or self._cancelled:
            return False
        self.flow = flow
        again = Request("INVITE", request.uri, request.headers.copy(), request.body)
        again.headers.set("Via", self.sip.via(flow))
        again.headers.set("Contact", self.sip.contact(flow, self.secure))
        self._key = self.sip.send(again, flow, sent)
        return True

    def cancel(self, cause: Cause) -> None:
        """Stops the INVITE; if its 200 comes all the same, the call ends it."""
        self._cancelled = True
        self.refuse_asked()
        if self._key is not None and not self.reached:
            self.sip.cancel(self._key, reason.values(cause))

    def acknowledge(self, content: Content | None) -> None:
        """Sends the ACK for the answer."""
        if self.dialog is not None and self._cseq in self.confirming and self.confirming[self._cseq][2] is None:
            self.send_ack(self.dialog, self._cseq, 0, content)

    # --- what the callee does

    def responded(self, sent: Sent, response: Response) -> None:
        """A response to the INVITE, or to a request inside the dialog."""
        if sent.purpose is not Purpose.INVITE:
            super().responded(sent, response)
            return
        status, self._target = response.status, None
        if not self.remote_user_agent:
            self.remote_user_agent = (response.first("Server") or response.first("User-Agent") or "")[:128]
        if status < 200:
            self._progress(response)
        elif status < 300:
            self._answered(sent, response)
        else:
            self._refused(response)

    def _progress(self, response: Response) -> None:
        tag = response.to_tag
        if response.status == 100 or self._cancelled or self.reached:
            return
        if tag:
            dialog = self._early_dialog(response)
            if dialog is None:
                return
        reliable = self._number_of(response) if tag else 0
        if reliable and tag and not self._is_next(self._early[tag], reliable):
            return
        self.learn_methods(response)
        if reliable and response.body:
            self.settled.add(tag)
        if reliable and (not self._relays_prack or response.status == 199):
            self._confirm_progress(self._early[tag], reliable)
            reliable = 0
        if response.status == 199:  # a branch is over (RFC 6228): no sign of life, and nobody asked for it
            return
        headers = self.sip.border.taken(response, self.flow)
        self.tell(
            Progress(self.number, response.status, response.reason, body.content_of(response), tag, reliable, headers)
        )

    def _confirm_progress(self, dialog: Dialog, rseq: int) -> None:
        """A PRACK of our own, for a caller that does not know of it."""
        request = self.request(dialog, "PRACK")
        request.headers.append("RAck", f"{rseq} {self._cseq} INVITE")
        sent = Sent(self, Purpose.ASK, dialog, ask=Ask.CONFIRM_PROGRESS, cseq=dialog.local_cseq)
        self.sip.send(request, self.flow_of(dialog), sent)

    @staticmethod
    def _number_of(response: Response) -> int:
        """RSeq, where the response is sent reliably (RFC 3262 section 4); else 0."""
        rseq = response.first("RSeq") or ""
        if rseq.isdecimal() and len(rseq) <= 10 and "100rel" in response.headers.tokens("Require"):
            return int(rseq)
        return 0

    @staticmethod
    def _is_next(dialog: Dialog, rseq: int) -> bool:
        """Whether a reliable response is the next in order; repetitions and gaps are dropped (RFC 3262 section 4)."""
        if dialog.remote_rseq and rseq != dialog.remote_rseq + 1:
            return False
        dialog.remote_rseq = rseq
        return True

    def _early_dialog(self, response: Response) -> Dialog | None:
        dialog = self._early.get(response.to_tag)
        if dialog is None and len(self._early) < MAX_FORKS:
            dialog = Dialog.as_uac(self._invite_identity(), response)
            self._early[response.to_tag] = dialog
        elif dialog is not None:
            dialog.refresh_target(response)
        return dialog

    def _answered(self, sent: Sent, response: Response) -> None:
        if self.dialog is not None:
            self._answered_again(sent, response)
            return
        dialog = self._early.get(response.to_tag)
        if dialog is None:
            dialog = Dialog.as_uac(self._invite_identity(), response)
        else:
            dialog.confirm(response)
        dialog.confirmed = True
        self.dialog, self.reached, self.final_status = dialog, True, response.status
        self._early[dialog.remote_tag] = dialog
        self.confirming[sent.cseq] = (dialog, 0, None)
        self.accepted.add(sent.cseq)
        self._invite = None
        self.learn_methods(response)
        refreshing.granted(self, response)
        self.tell(
            Answered(
                self.number, body.content_of(response), response.to_tag, self.sip.border.taken(response, self.flow)
            )
        )

    def _answered_again(self, sent: Sent, response: Response) -> None:
        """A repetition of the 200, or the 200 of another fork, which is confirmed and ended at once."""
        assert self.dialog is not None
        if response.to_tag == self.dialog.remote_tag:
            waiting = self.confirming.get(sent.cseq)
            if waiting is not None and waiting[2] is not None:
                self.sip.send_ack(waiting[2], self.flow_of(self.dialog))
            return
        # The early dialog goes on where there is one: PRACK and UPDATE have used CSeq numbers of it.
        other = self._early.get(response.to_tag) or Dialog.as_uac(self._invite_identity(), response)
        repeated = other.confirmed
        if not repeated:
            other.confirm(response)
            if len(self._early) < 2 * MAX_FORKS:
                self._early[response.to_tag] = other
        flow = self.flow_of(other)
        self.sip.send_ack(other.ack(sent.cseq, self.sip.via(flow)), flow)
        if not repeated:
            self.send_bye(other, Cause("answered elsewhere", 26))

    def stray(self, response: Response) -> None:
        """A response that outlived its transaction: another fork's 200 to our INVITE, or a repetition."""
        is_ours = response.call_id == self.call_id and response.cseq_number == self._cseq
        if self.dialog is not None and is_ours and response.to_tag and 200 <= response.status < 300:
            self._answered_again(Sent(self, Purpose.INVITE, cseq=response.cseq_number), response)

    def _refused(self, response: Response) -> None:
        if response.status == 422 and self._invited_again(response):
            return
        self.reached, self.final_status = True, response.status
        self.end()
        retry = wire.seconds(response.first("Retry-After"))
        cause = reason.cause_of(response)
        headers = (*self.sip.border.taken(response, self.flow), *refusal.explanation_of(response))
        users = self.sip.border.users_named(response)
        self.tell(Rejected(self.number, response.status, response.reason, cause, retry, headers=headers, users=users))

    def resent(self, sent: Sent, key: Key) -> None:
        """The INVITE goes another way; so would its CANCEL."""
        if sent.purpose is Purpose.INVITE:
            self._key = key

    @property
    def is_given_up(self) -> bool:
        """See Leg."""
        return self._cancelled or self.terminated

    def failed(self, sent: Sent, transport: bool) -> None:
        """No final answer came, or the INVITE could not be sent."""
        if sent.purpose is not Purpose.INVITE:
            super().failed(sent, transport)
            return
        if self.reached or (transport and self._invited_anew(sent)):
            return
        self.reached, self.final_status = True, 503 if transport else 408
        self.end()
        self.tell(Rejected(self.number, self.final_status, "", Cause(), local=True))

    def hang_up(self, cause: Cause) -> None:
        """BYE where the callee answered; before that there is nothing but CANCEL."""
        if self.dialog is None:
            self.cancel(cause)
        else:
            super().hang_up(cause)

    # --- tools

    def _invite_identity(self) -> Request:
        """As much of our INVITE as a dialog is made of (RFC 3261 section 12.1.2)."""
        headers = Headers([("From", self._from), ("To", self._to), ("Call-ID", self.call_id)])
        headers.append("CSeq", f"{self._cseq} INVITE")
        return Request("INVITE", self._target_uri, headers)

    def _decorate(self, request: Request, command: Pass) -> bool:
        if command.ask is Ask.CONFIRM_PROGRESS:
            request.headers.append("RAck", f"{command.confirms} {self._cseq} INVITE")
        return super()._decorate(request, command)

    def _refusal(self, ask: Ask, request: Request) -> Response | None:
        if ask is Ask.CONFIRM_PROGRESS:  # nothing that we send to a callee is a reliable provisional response
            return response_to(request, 481)
        return super()._refusal(ask, request)

    def _dialog_of(self, request: Request) -> Dialog | None:
        if self.dialog is not None:
            return self.dialog if request.from_tag == self.dialog.remote_tag else None
        return self._early.get(request.from_tag)

    def _dialog_for(self, fork: str) -> Dialog | None:
        return self.dialog or self._early.get(fork)

    def _fork_of(self, dialog: Dialog) -> str:
        return dialog.remote_tag
