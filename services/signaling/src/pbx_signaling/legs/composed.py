"""What a leg is composed of: the usages of one SIP dialog, the port, one deadline; and the leg as a value.

Takes what the usages say, hands on what is for the transaction layer, and wakes up for the next deadline of any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final
from weakref import ref

from pbx_signaling.border import wire
from pbx_signaling.calls.signals import (
    CALLER,
    Content,
)
from pbx_signaling.legs import body
from pbx_signaling.legs.exchange import Question, Waiting
from pbx_signaling.legs.frozen import FrozenLeg
from pbx_sip.dialog.dialog import REFRESHING
from pbx_sip.message.message import Request
from pbx_sip.transaction.events import ClientKey, ServerKey
from pbx_sip.usage import output as out
from pbx_sip.usage.frozen import Clock, freeze_flow, thaw_flow
from pbx_sip.usage.refresh import Refresh
from pbx_sip.usage.within import InDialog
from pbx_sip.usage.within import State as Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pbx_signaling.legs.port import SipPort
    from pbx_sip.address import Flow
    from pbx_sip.dialog.dialog import Dialog
    from pbx_sip.usage.output import Pairs

ALARM: Final = 0
"""The one deadline of a leg: the next of those of its usages."""


class Composed:
    """A leg without what it says and hears inside its dialog."""

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

    # --- flows

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
        self.asked.clear()
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

    def resent(self, old: ClientKey, new: ClientKey) -> None:
        """A request was sent again over another transport, in another transaction."""
        question = self.sent.pop(old, None)
        if question is not None:
            self.sent[new] = question
        for within in self._dialogs():
            within.resent(old, new)

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


def _nobody() -> None:
    """The call of a leg that has outlived it."""


SAID: Final[Mapping[type, Callable[[Any, Any, Any], None]]] = {
    out.Send: Composed._said_send,
    out.Respond: Composed._said_respond,
    out.SendAck: Composed._said_ack,
    out.CancelInvite: Composed._said_cancel,
}
"""What becomes of an output that is for the transaction layer."""
