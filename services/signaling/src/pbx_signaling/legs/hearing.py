"""The part of a leg that hears its peer inside the dialog: requests that go to the other side, and their answers.

Which requests are in order, and whose turn it is, `InDialog` knows; here is what crosses the call, and what does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pbx_signaling.border import reason, wire
from pbx_signaling.calls.signals import (
    Ask,
    Asked,
    Confirmed,
    Content,
    HungUp,
    Pressed,
    Withdrawn,
)
from pbx_signaling.legs import body, composed
from pbx_signaling.legs.composed import Composed
from pbx_signaling.legs.exchange import Waiting
from pbx_sip.message import dtmf
from pbx_sip.message.message import Request, Response, response_to
from pbx_sip.transaction.events import ServerKey
from pbx_sip.usage import output as out
from pbx_sip.usage.refresh import refusal as refusal_of_interval
from pbx_sip.usage.within import InDialog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pbx_signaling.calls.commands import Reply
    from pbx_sip.address import Flow
    from pbx_sip.usage.output import Pairs

METHODS: Final = {
    Ask.MODIFY: "INVITE",
    Ask.UPDATE: "UPDATE",
    Ask.CONFIRM_PROGRESS: "PRACK",
    Ask.INFORM: "INFO",
    Ask.MESSAGE: "MESSAGE",
}
ASKS: Final = {method: ask for ask, method in METHODS.items()}
LEGS_MAX: Final = 256
"""Exchanges are numbered by their leg in steps of this: no two legs of a call give one number."""


class Hearing(Composed):
    """A leg that hears its peer."""

    __slots__ = ()

    # --- requests from the peer

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

    def _confirmed_progress(self, within: InDialog, request: Request) -> int:
        """Which reliable progress of the other side a PRACK confirms; 0: none, it is answered here."""
        return 0

    def _granted(self, within: InDialog, request: Request) -> Pairs:
        """What our 2xx says of the session timer; an early dialog has none."""
        return self.refresh.grant(request, self.sip.now) if within is self.within else ()

    def _bye(self, within: InDialog, key: ServerKey, request: Request) -> None:
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

    # --- their answers

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


def _pressed(content: Content | None) -> Pressed | None:
    """The key of an INFO that tells of one."""
    pressed = None if content is None else dtmf.read(content.type, content.data)
    return None if pressed is None else Pressed(pressed.digit, pressed.duration_ms)


SAID: Final[Mapping[type, Callable[[Any, Any, Any], None]]] = {
    **composed.SAID,
    out.Asked: Hearing._said_asked,
    out.Acknowledged: Hearing._said_acknowledged,
}
"""What becomes of an output: what comes of requests of the peer, too."""
