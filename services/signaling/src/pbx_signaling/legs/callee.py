"""The callee's leg: the INVITE that we send, its forks, its answer, CANCEL (RFC 3261 sections 13.2 and 9.1).

`InviteUac` has the rules; here is how the INVITE is written, over which way, and what of its progress crosses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from pbx_signaling.border import reason, wire
from pbx_signaling.border.explanation import explanation_of
from pbx_signaling.calls.signals import Answered, Cause, Content, Heard, Progress, Rejected
from pbx_signaling.legs import body
from pbx_signaling.legs.frozen import FrozenOutbound, check
from pbx_signaling.legs.leg import SAID, Leg, reasons
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request, Response
from pbx_sip.message.uri import request_target
from pbx_sip.transaction.events import FailureCause
from pbx_sip.usage import output as out
from pbx_sip.usage.frozen import Clock, thaw_flow
from pbx_sip.usage.invite_client import InviteUac, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pbx_signaling.border.asserted import Presented
    from pbx_signaling.calls.commands import Dial, Pass
    from pbx_signaling.calls.signals import Target
    from pbx_signaling.legs.port import SipPort
    from pbx_sip.address import Flow
    from pbx_sip.transaction.events import ClientKey, ServerKey
    from pbx_sip.usage.output import Pairs
    from pbx_sip.usage.within import InDialog

UNREACHABLE_S: Final = 4.0
"""For a sign of a phone that does not answer its keep-alive any more: three repetitions, in case it is back. A caller
waits for it, and another phone of the same user does."""


class OutboundLeg(Leg):
    """The UAC side of a call."""

    __slots__ = ("_patience", "_relays_prack", "_target", "reached", "uac")

    def __init__(self, sip: SipPort, entry: Any, number: int, flow: Flow) -> None:
        super().__init__(sip, entry, number, flow, sip.origin(secure=False).tokens.call_id())
        self.uac: InviteUac | None = None
        """None before `dial`."""
        self._target: Target | None = None
        """The binding, where it was registered over a connection; None once it has answered."""
        self._patience = 0.0
        """Seconds for its first response; 0: as long as always."""
        self._relays_prack = False
        """The caller takes reliable progress: its PRACK confirms that of the callee."""
        self.reached = False
        """The callee gave a final answer, or none will come."""

    # --- what the call wants

    def dial(self, command: Dial, caller: Presented, max_forwards: int, reliable: bool) -> None:
        """Invites the callee. `caller` is whom it sees, `reliable` what the caller can do."""
        target, content, border = command.target, command.content, self.sip.border
        self.secure = target.uri[:5].lower() == "sips:"
        origin = self.sip.origin(secure=self.secure)
        tag = origin.tokens.tag()
        self.local_tags.append(tag)
        self.sip.listen(tag, self)
        self.first_hop = self.sip.first_hop(target)
        if target.connection:
            self._target = target
        # Reliable progress that the caller does not take is confirmed here, unless it needs the caller's answer.
        self._relays_prack = reliable
        supported = ["100rel"] if reliable or (content is not None and content.is_sdp) else []
        if self.sip.sessions.interval_s:
            supported.append("timer")
        headers = Headers(
            [
                ("Max-Forwards", str(max_forwards)),
                ("From", f"{caller.from_value};tag={tag}"),
                ("To", f"<sip:{target.aor}>"),
                ("Call-ID", self.call_id),
                ("CSeq", "1 INVITE"),
                ("Contact", origin.contact(self.flow)),
                ("Allow", wire.ALLOW),
                ("User-Agent", wire.PRODUCT),
                *self.refresh.wish(),
                *([("Supported", ", ".join(supported))] if supported else ()),
                *[("Route", value) for value in target.path],
                *border.crossing((*command.headers, *caller.headers), self.flow),
                *self._body_fields(content),
            ]
        )
        data = b"" if content is None else content.data
        self._patience = UNREACHABLE_S if target.unreachable else 0.0
        self.uac = InviteUac(Request("INVITE", request_target(target.uri), headers, data), self.flow, origin)
        self._gather(self.uac)
        self.uac.start(self.sip.now)
        self._settle()

    def cancel(self, cause: Cause) -> None:
        """Stops the INVITE; if its 200 comes all the same, it is ended at once."""
        self._refuse_asked()
        self.ended()  # others may ring on: its own BYE is answered now
        if self.uac is not None:
            self.uac.cancel(self.sip.now, reasons(cause))
        self._settle()

    def acknowledge(self, content: Content | None) -> None:
        """Sends the ACK for the answer."""
        if self.within is not None and self.uac is not None:
            data = b"" if content is None else content.data
            self.within.acknowledge(self.uac.invite.cseq_number, self._body_fields(content), data)
            self._settle()

    def hang_up(self, cause: Cause) -> None:
        """BYE where the callee answered; before that there is nothing but CANCEL."""
        if self.within is None:
            self.cancel(cause)
        else:
            super().hang_up(cause)

    @property
    def is_given_up(self) -> bool:
        """See Leg."""
        return self.terminated or (self.uac is not None and self.uac.state is State.CANCELLING)

    # --- what the callee does

    def responded(self, key: ClientKey, response: Response) -> None:
        """A response to the INVITE, or to a request inside the dialog."""
        uac = self.uac
        if uac is None or key != uac.key:
            super().responded(key, response)
            return
        self._target, self._patience = None, 0.0
        if not self.remote_user_agent:
            self.remote_user_agent = (response.first("Server") or response.first("User-Agent") or "")[:128]
        uac.response_received(response, self.sip.now)
        self._gather(uac)
        self._settle()

    def stray(self, response: Response) -> None:
        """A response that outlived its transaction: another fork's 200 to our INVITE, or a repetition."""
        uac = self.uac
        if uac is None or response.call_id != self.call_id or not 200 <= response.status < 300:
            return
        if response.cseq_number == uac.invite.cseq_number and response.to_tag and self.within is not None:
            uac.response_received(response, self.sip.now)
            self._gather(uac)
            self._settle()

    def failed(self, key: ClientKey | ServerKey, cause: FailureCause) -> None:
        """See Leg; or no final answer came, or the INVITE could not be sent."""
        if self.uac is not None and key == self.uac.key:
            self.uac.transaction_failed(cause, self.sip.now)
            self._settle()
        else:
            super().failed(key, cause)

    def resent(self, old: ClientKey, new: ClientKey) -> None:
        """See Leg; the INVITE goes another way: so would its CANCEL."""
        if self.uac is not None and self.uac.key == old:
            self.uac.resent(new)
        else:
            super().resent(old, new)

    def _said_progressed(self, uac: InviteUac, said: out.Progressed) -> None:
        response, fork, rseq = said.response, said.fork, said.rseq
        if response.status == 100:
            self.tell(Heard(self.number))
            return
        self.refresh.note_allow(response)
        if rseq and (not self._relays_prack or response.status == 199):
            # A PRACK of our own, for a caller that does not know of it.
            uac.confirm_progress(fork, rseq, self.sip.now)
            rseq = 0
        if response.status == 199:  # a branch is over (RFC 6228): no sign of life, and nobody asked for it
            return
        content, headers = body.content_of(response), self.sip.border.taken(response, self.flow)
        self.tell(Progress(self.number, response.status, response.reason, content, fork, rseq, headers))

    def _said_answered(self, uac: InviteUac, said: out.Answered) -> None:
        response = said.response
        self.within, self.reached, self.final_status = uac.session, True, response.status
        self._gather(uac)
        self.refresh.granted(response, self.sip.now)
        headers = self.sip.border.taken(response, self.flow)
        self.tell(Answered(self.number, body.content_of(response), said.fork, headers))

    def _said_refused(self, uac: InviteUac, said: out.Refused) -> None:
        response = said.response
        if response.status == 422 and not self._was_cancelled and self.refresh.raised(response):
            uac.again(self.sip.now, self.refresh.wish())  # RFC 4028 section 7.3
            return
        self.reached, self.final_status = True, response.status
        self.end()
        retry, cause = wire.seconds(response.first("Retry-After")), reason.cause_of(response)
        headers = (*self.sip.border.taken(response, self.flow), *explanation_of(response))
        users = self.sip.border.users_named(response)
        self.tell(Rejected(self.number, response.status, response.reason, cause, retry, headers=headers, users=users))

    def _said_gave_up(self, uac: InviteUac, said: out.GaveUp) -> None:
        """No final answer came, or the INVITE could not be sent, or its 200 crossed our CANCEL."""
        transport = said.cause is FailureCause.TRANSPORT
        if transport and self._invited_anew(uac):
            return
        self.reached, self.final_status = True, 200 if said.cause is None else 503 if transport else 408
        self.end()
        self.tell(Rejected(self.number, self.final_status, "", Cause(), local=True))

    def _invited_anew(self, uac: InviteUac) -> bool:
        """Invites over a connection that we make, where the phone's own is gone (RFC 3261 section 18.1.1).

        Where that cannot be made either, the binding goes.
        """
        target = self._target
        if target is None:
            return False
        if not self.flow.connection:
            self.sip.unreachable(target.aor, wire.bound_flow(target))
            return False
        flow = self.sip.anew(self.first_hop, self.flow)
        if flow is None or self._was_cancelled:
            return False
        self.flow = flow
        uac.elsewhere(flow, self.sip.now)
        return True

    # --- tools

    @property
    def _was_cancelled(self) -> bool:
        return self.uac is not None and self.uac.was_cancelled

    def _patience_s(self, method: str) -> float:
        return self._patience if method == "INVITE" else 0.0

    def _asking(self, method: str, command: Pass) -> Pairs:
        if method == "PRACK" and self.uac is not None:
            return (("RAck", f"{command.confirms} {self.uac.invite.cseq_number} INVITE"),)
        return super()._asking(method, command)

    def _move(self, flow: Flow) -> None:
        self.flow = flow
        if self.uac is not None:
            self.uac.move(flow)

    def _gather(self, uac: InviteUac) -> None:
        """Notes the usages.

        The INVITE's own time is left out: it ends nothing but the wait for further forks, as the leg's end does.
        """
        self._usages = (uac, *uac.forks.values(), self.refresh)
        self._timed = () if self.within is None else (self.within, self.refresh)

    def _dialogs(self) -> Iterable[InDialog]:
        if self.within is not None:
            return (self.within,)
        return () if self.uac is None else list(self.uac.forks.values())

    def _dialog_of(self, request: Request) -> InDialog | None:
        if self.within is not None:
            return self.within if request.from_tag == self.within.dialog.remote_tag else None
        return None if self.uac is None else self.uac.forks.get(request.from_tag)

    def _dialog_for(self, fork: str) -> InDialog | None:
        return self.within or (None if self.uac is None else self.uac.forks.get(fork))

    def _fork_of(self, within: InDialog) -> str:
        return within.dialog.remote_tag

    # --- as a value

    def freeze(self, clock: Clock) -> FrozenOutbound:
        """The leg as a value; call it after a step."""
        return FrozenOutbound(
            leg=self._frozen(clock),
            uac=None if self.uac is None else self.uac.freeze(clock),
            is_answered=self.within is not None,
            target=self._target,
            patience_s=self._patience,
            relays_prack=self._relays_prack,
            reached=self.reached,
        )

    @classmethod
    def thaw(cls, frozen: FrozenOutbound, sip: SipPort, entry: Any, clock: Clock) -> OutboundLeg:
        """The leg that a value was made of; `wake` it. Raises LocalError for what cannot be read."""
        check(frozen.version)
        self = cls.__new__(cls)
        Leg.__init__(self, sip, entry, frozen.leg.number, thaw_flow(frozen.leg.flow), frozen.leg.call_id)
        self._thaw(frozen.leg, clock)
        self._target, self._patience = frozen.target, frozen.patience_s
        self._relays_prack, self.reached = frozen.relays_prack, frozen.reached
        self.uac = None
        if frozen.uac is not None:
            self.uac = InviteUac.thaw(frozen.uac, sip.origin(secure=self.secure), clock)
            self.within = self.uac.session if frozen.is_answered else None
            self._gather(self.uac)
        return self

    SAID: ClassVar[Mapping[type, Callable[[Any, Any, Any], None]]] = {
        **SAID,
        out.Progressed: _said_progressed,
        out.Answered: _said_answered,
        out.Refused: _said_refused,
        out.GaveUp: _said_gave_up,
    }
