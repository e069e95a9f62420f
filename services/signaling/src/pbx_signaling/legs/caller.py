"""The caller's leg: an INVITE that came in, its progress, its answer or refusal (RFC 3261 section 13.3).

`InviteUas` has the rules; here is which branch of the callee's leg is which early dialog of the caller's, and which
reliable progress of the callee's a PRACK of the caller confirms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from pbx_signaling.border import reason, wire
from pbx_signaling.calls.signals import CALLER, Acknowledged, Cancelled, Cause, Content
from pbx_signaling.legs import body
from pbx_signaling.legs.frozen import FrozenInbound, check
from pbx_signaling.legs.leg import SAID, Leg, reasons
from pbx_sip.dialog.reliable import RAck
from pbx_sip.errors import RemoteError
from pbx_sip.usage import output as out
from pbx_sip.usage.frozen import Clock, thaw_flow
from pbx_sip.usage.invite_server import FORKS_MAX, InviteUas, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pbx_signaling.calls.commands import Answer, Reject, Ring
    from pbx_signaling.legs.port import SipPort
    from pbx_sip.address import Flow
    from pbx_sip.message.message import Request
    from pbx_sip.transaction.events import ClientKey, FailureCause, ServerKey
    from pbx_sip.usage.output import Pairs
    from pbx_sip.usage.within import InDialog

ANSWERING: Final = (("Allow", wire.ALLOW), ("Server", wire.PRODUCT))
"""What each response of ours to an INVITE says."""


class InboundLeg(Leg):
    """The UAS side of a call."""

    __slots__ = ("_farewell", "_relayed", "_told", "needs_reliable", "takes_reliable", "uas")

    def __init__(self, sip: SipPort, entry: Any, key: ServerKey, request: Request, flow: Flow) -> None:
        super().__init__(sip, entry, CALLER, flow, request.call_id)
        self.secure = request.uri[:5].lower() == "sips:"
        self.uas = InviteUas(key, request, flow, sip.origin(secure=self.secure))
        self.needs_reliable = "Require" in request.headers and "100rel" in request.headers.tokens("Require")
        """The caller takes no provisional responses but reliable ones (RFC 3262 section 3)."""
        self.takes_reliable = self.needs_reliable or "100rel" in request.headers.tokens("Supported")
        self._relayed: dict[tuple[str, int], int] = {}
        """By branch and RSeq of reliable progress, the number by which the callee wants it confirmed."""
        self._farewell: Cause | None = None
        """Why a BYE is due that waits for the caller's ACK."""
        self._told: dict[str, Content] = {}
        """By branch, the session description that the caller got in a provisional response that may be lost."""
        self.refresh.note_allow(request)
        self.remote_user_agent = (request.first("User-Agent") or "")[:128]
        self.first_hop = wire.first_hop(request)
        self._gather()

    @property
    def _is_open(self) -> bool:
        """Whether the INVITE has no final response."""
        return self.uas.state <= State.PROCEEDING

    # --- what the call wants

    def trying(self) -> None:
        """Stops the caller from repeating its INVITE (RFC 3261 section 8.2.6.1)."""
        self.uas.trying()
        self._settle()

    def ring(self, command: Ring) -> None:
        """Passes a provisional answer on."""
        fork, content = command.fork, command.content
        if not self._is_open or self._branch(fork) is None:
            return
        reliable = (bool(command.reliable) and self.takes_reliable) or self.needs_reliable
        if reliable:
            self._told.pop(fork, None)
        elif content is not None and content.is_sdp:
            self._told[fork] = content
        headers, data = self._headers(command.headers, content)
        rseq = self.uas.progress(
            command.status, self.sip.now,
            fork=fork, reliable=reliable, reason=command.reason, headers=headers, body=data,
        )  # fmt: skip
        if rseq and command.reliable:
            self._relayed[fork, rseq] = command.reliable
        self._settle()

    def answer_call(self, command: Answer) -> None:
        """Passes the answer on; it is repeated until the caller's ACK."""
        if not self._is_open:
            return
        within, invite = self._branch(command.fork, last=True), self.uas.invite
        assert within is not None
        # The callee answered reliably on its own leg; here nothing but the 2xx is sure to come (RFC 3261 13.2.1).
        content = command.content or self._told.get(command.fork)
        self._told.clear()
        headers, data = self._headers(command.headers, content)
        headers += (("Supported", wire.SUPPORTED), *self.refresh.grant(invite, self.sip.now))
        self.uas.answer(self.sip.now, fork=command.fork, headers=headers, body=data)
        self.within, self.final_status = within, 200
        self._gather()
        for tag in self.local_tags:
            if tag != within.dialog.local_tag:
                self.sip.forget(tag)
        self.local_tags = [within.dialog.local_tag]
        self._settle()

    def reject(self, command: Reject, challenge: list[str]) -> None:
        """Refuses the INVITE; `challenge` holds values for Proxy-Authenticate."""
        if self.within is not None:
            return
        headers: Pairs = tuple(("Proxy-Authenticate", value) for value in challenge)
        if command.retry_after_s:
            headers += (("Retry-After", str(command.retry_after_s)),)
        if command.warning:
            headers += (("Warning", f'399 pbx "{wire.quoted(command.warning)}"'),)
        headers += (*reasons(command.cause), *self.sip.border.crossing(command.headers, self.flow))
        self.final_status = command.status
        self.uas.refuse(command.status, self.sip.now, reason=command.reason, headers=headers)
        self.end()

    def hang_up(self, cause: Cause) -> None:
        """BYE; only once the caller confirmed our answer, or will not any more (RFC 3261 section 15).

        It may not even have heard the answer, which goes on being repeated until then; the call need not wait.
        """
        within = self.within
        waits = within is not None and within.awaits_ack and not self.answering and not self.sip.draining
        if self.terminated or not waits:
            super().hang_up(cause)
            return
        self._refuse_asked()
        self.refresh.stop()
        self.terminated, self._farewell = True, cause
        self._settle()

    def part(self) -> None:
        """Sends the BYE that is due, where one is."""
        cause, self._farewell = self._farewell, None
        if cause is not None and self.within is not None:
            self.within.send("BYE", self.sip.now, reasons(cause))
            self.end()

    # --- what the caller does

    def cancelled(self, key: ServerKey, request: Request) -> None:
        """See Leg; before the answer it ends the attempt."""
        if key == self.uas.key:
            self.uas.cancel_received(request)
            self._settle()
        else:
            super().cancelled(key, request)

    def _said_cancelled(self, _: object, said: out.Cancelled) -> None:
        if self._is_open:
            self.tell(Cancelled(CALLER, reason.cause_of(said.request)))

    def failed(self, key: ClientKey | ServerKey, cause: FailureCause) -> None:
        """See Leg; before the answer nobody is there to hear one."""
        if key == self.uas.key:
            self.uas.transaction_failed()
            self._settle()
        else:
            super().failed(key, cause)

    def _said_gave_up(self, _: object, said: out.GaveUp) -> None:
        self.tell(Cancelled(CALLER, Cause("transport failure", 38)))

    def _said_acknowledged(self, within: InDialog, said: out.Acknowledged) -> None:
        if said.request.cseq_number in self.answering:
            super()._said_acknowledged(within, said)
        else:
            self.tell(Acknowledged(body.content_of(said.request)))
            self.part()

    def _said_unconfirmed(self, within: object, said: out.Unconfirmed) -> None:
        super()._said_unconfirmed(within, said)
        self.part()

    def _take_prack(self, within: InDialog, key: ServerKey, request: Request) -> None:
        """See Leg; it confirms progress, or nothing."""
        self.uas.take_prack(self._fork_of(within), key, request, self.sip.now)

    def _confirmed_progress(self, within: InDialog, request: Request) -> int:
        try:
            rack = RAck.parse(request.first("RAck") or "")
        except RemoteError:
            return 0
        return self._relayed.pop((self._fork_of(within), rack.rseq), 0)

    def _said_nothing(self, _: object, said: out.ProgressConfirmed) -> None:
        """The PRACK comes as a request, too."""

    def _bye(self, within: InDialog, key: ServerKey, request: Request) -> None:
        if self._farewell is not None:
            self._farewell = None
            self.end()
        super()._bye(within, key, request)

    def end(self) -> None:
        """The dialog is over; where a BYE is due, when that was sent."""
        if self._farewell is None:
            super().end()

    # --- tools

    def _headers(self, carried: Pairs, content: Content | None) -> tuple[Pairs, bytes]:
        """Header fields and body of a response to the INVITE."""
        headers = (*ANSWERING, *self.sip.border.crossing(carried, self.flow), *self._body_fields(content))
        return headers, b"" if content is None else content.data

    def _may_offer(self, within: InDialog) -> bool:
        """See Leg; what was sent reliably counts as heard when it was confirmed."""
        return super()._may_offer(within) and not self.uas.is_waiting(self._fork_of(within))

    def _branch(self, fork: str, *, last: bool = False) -> InDialog | None:
        """The dialog with our own tag for a branch of the callee's leg; None beyond the limit of branches."""
        forks = self.uas.forks
        if fork in forks:
            return forks[fork].within
        if len(forks) >= FORKS_MAX and not last:
            return None
        within = self.uas.fork(fork, last=last)
        tag = within.dialog.local_tag
        self.local_tags.append(tag)
        self.sip.listen(tag, self)
        self._gather()
        return within

    def _move(self, flow: Flow) -> None:
        self.flow = flow
        self.uas.move(flow)

    def _gather(self) -> None:
        """Notes the usages; the dialogs first: a PRACK gets its answer before the progress that waited for it."""
        if self.within is not None:
            self._usages, self._timed = (self.within, self.uas, self.refresh), (self.within, self.refresh)
        else:
            self._usages, self._timed = (*self._dialogs(), self.uas), (self.uas,)

    def _dialogs(self) -> Iterable[InDialog]:
        if self.within is not None:
            return (self.within,)
        return [fork.within for fork in self.uas.forks.values()]

    def _dialog_of(self, request: Request) -> InDialog | None:
        tag, remote = request.to_tag, request.from_tag
        for within in self._dialogs():
            if tag == within.dialog.local_tag:
                return within if remote == within.dialog.remote_tag else None
        return None

    def _dialog_for(self, fork: str) -> InDialog | None:
        if self.within is not None:
            return self.within
        found = self.uas.forks.get(fork)
        return None if found is None else found.within

    def _fork_of(self, within: InDialog) -> str:
        return next((name for name, fork in self.uas.forks.items() if fork.within is within), "")

    # --- as a value

    def freeze(self, clock: Clock) -> FrozenInbound:
        """The leg as a value; call it after a step."""
        return FrozenInbound(
            leg=self._frozen(clock),
            uas=self.uas.freeze(clock),
            needs_reliable=self.needs_reliable,
            takes_reliable=self.takes_reliable,
            relayed=tuple(self._relayed.items()),
            farewell=self._farewell,
            told=tuple(self._told.items()),
        )

    @classmethod
    def thaw(cls, frozen: FrozenInbound, sip: SipPort, entry: Any, clock: Clock) -> InboundLeg:
        """The leg that a value was made of; `wake` it. Raises LocalError for what cannot be read."""
        check(frozen.version)
        self = cls.__new__(cls)
        Leg.__init__(self, sip, entry, frozen.leg.number, thaw_flow(frozen.leg.flow), frozen.leg.call_id)
        self._thaw(frozen.leg, clock)
        self.uas = InviteUas.thaw(frozen.uas, sip.origin(secure=self.secure), clock)
        self.within = self.uas.session
        self.needs_reliable, self.takes_reliable = frozen.needs_reliable, frozen.takes_reliable
        self._relayed, self._told, self._farewell = dict(frozen.relayed), dict(frozen.told), frozen.farewell
        self._gather()
        return self

    SAID: ClassVar[Mapping[type, Callable[[Any, Any, Any], None]]] = {
        **SAID,
        out.Cancelled: _said_cancelled,
        out.GaveUp: _said_gave_up,
        out.ProgressConfirmed: _said_nothing,
        out.Acknowledged: _said_acknowledged,
        out.Unconfirmed: _said_unconfirmed,
    }
