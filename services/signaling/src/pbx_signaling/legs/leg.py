"""One side of a call: a SIP dialog on one hand, call-control events on the other.

`Leg` translates what both sides do alike once there is a dialog, by composition: `InDialog` has the requests inside the
dialog in both directions, `Refresh` its session timer. `InboundLeg` and `OutboundLeg` add the INVITE that makes it. A
leg decides nothing about the call, and no rule of SIP: those are the usages'.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pbx_signaling.border import reason, wire
from pbx_signaling.border.explanation import explanation_of
from pbx_signaling.calls.signals import (
    Cause,
    Content,
    LegLost,
    Refreshed,
    Replied,
)
from pbx_signaling.legs import body, hearing
from pbx_signaling.legs.exchange import Question
from pbx_signaling.legs.hearing import METHODS, Hearing
from pbx_sip.dialog.offer_answer import Turn
from pbx_sip.message.message import Request, Response
from pbx_sip.transaction.events import ClientKey, FailureCause, ServerKey
from pbx_sip.usage import output as out
from pbx_sip.usage.within import InDialog
from pbx_sip.usage.within import State as Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pbx_signaling.calls.commands import Confirm, Pass, Withdraw
    from pbx_sip.usage.output import Pairs


class Leg(Hearing):
    """What the two kinds of legs share: it hears its peer (`Hearing`), and asks it what the other side asks."""

    __slots__ = ()

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


def reasons(cause: Cause) -> Pairs:
    """The Reason headers for a cause."""
    return tuple(("Reason", value) for value in reason.values(cause))


SAID: Final[Mapping[type, Callable[[Any, Any, Any], None]]] = {
    **hearing.SAID,
    out.Replied: Leg._said_replied,
    out.Unanswered: Leg._said_unanswered,
    out.Unconfirmed: Leg._said_unconfirmed,
    out.RefreshDue: Leg._said_refresh_due,
    out.SessionExpired: Leg._said_expired,
}
"""What becomes of an output of the usages that both kinds of legs have."""
