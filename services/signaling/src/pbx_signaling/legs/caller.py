"""The caller's leg: an INVITE that came in, its progress, its answer or refusal (RFC 3261 section 13.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pbx_signaling.border import reason, wire
from pbx_signaling.calls.signals import CALLER, Acknowledged, Ask, Cancelled, Cause, Content, LegLost
from pbx_signaling.legs import refreshing, repeating
from pbx_signaling.legs.leg import Leg
from pbx_signaling.legs.sent import Timer
from pbx_sip.dialog.dialog import Dialog
from pbx_sip.dialog.reliable import Confirmed, RAck, ReliableSender
from pbx_sip.dialog.repetition import Due
from pbx_sip.errors import RemoteError
from pbx_sip.message.message import Request, Response, response_to

if TYPE_CHECKING:
    from pbx_signaling.calls.commands import Answer, Reject, Ring
    from pbx_signaling.legs.port import Key, SipPort
    from pbx_signaling.users.entry import Entry
    from pbx_sip.address import Flow

MAX_FORKS: Final = 8
"""Early dialogs towards one caller. Threat: a callee that forks without end; phones show one or two."""


MAX_PROGRESS: Final = 16
"""Reliable provisional responses of one branch that wait for their PRACKs. Threat: a callee that sends without end."""
FIRST_RSEQ: Final = 1


@dataclass(slots=True)
class ReliableBranch:
    """The reliable provisional responses of one early dialog (RFC 3262 section 3): one is sent, others wait."""

    sender: ReliableSender
    responses: dict[int, tuple[Response, int]] = field(default_factory=dict)
    """RSeq to the response, and the number by which the callee wants it confirmed; 0: it does not ask for that."""
    confirmed: dict[int, int] = field(default_factory=dict)
    """The last RSeq that was confirmed, to that number."""
    handle: object = None


class InboundLeg(Leg):
    """The UAS side of a call."""

    __slots__ = ("_early", "_farewell", "_forks", "_key", "_late", "_reliable", "_request_", "_told")

    def __init__(self, sip: SipPort, entry: Entry, key: Key, request: Request, flow: Flow) -> None:
        super().__init__(sip, entry, CALLER, flow, request.call_id)
        self._key = key
        self._request_: Request | None = request
        self._early: dict[str, Dialog] = {}
        self._forks: dict[str, str] = {}
        """Our tag to the branch of the callee's leg."""
        self._reliable: dict[str, ReliableBranch] = {}
        """By branch of the callee's leg."""
        self._late: set[tuple[int, int]] = set()
        """RSeq and CSeq of reliable responses that a final one overtook: their PRACKs may still come."""
        self._farewell: Cause | None = None
        """Why a BYE is due that waits for the caller's ACK."""
        self._told: dict[str, Content] = {}
        """By branch, the session description that the caller got in a provisional response that may be lost."""
        self.learn_methods(request)
        self.remote_user_agent = (request.first("User-Agent") or "")[:128]
        self.first_hop = wire.first_hop(request)
        self.secure = request.uri[:5].lower() == "sips:"

    @property
    def invite(self) -> Request | None:
        """The INVITE, until it is answered."""
        return self._request_

    @property
    def wants_reliable(self) -> bool:
        """Whether the caller takes reliable provisional responses."""
        request = self._request_
        if request is None:
            return False
        return "100rel" in request.headers.tokens("Supported") or self._needs_reliable

    @property
    def _needs_reliable(self) -> bool:
        """Whether the caller takes no others."""
        request = self._request_
        return request is not None and "100rel" in request.headers.tokens("Require")

    # --- what the call wants

    def trying(self) -> None:
        """Stops the caller from repeating its INVITE (RFC 3261 section 8.2.6.1)."""
        assert self._request_ is not None
        self.sip.respond(self._key, response_to(self._request_, 100))

    def ring(self, command: Ring) -> None:
        """Passes a provisional answer on."""
        request = self._request_
        dialog = self._branch(command.fork)
        if request is None or dialog is None:
            return
        response = self._response(command.status, command.reason, dialog, command.content)
        self.sip.border.put(response, command.headers, self.flow)
        if (command.reliable and self.wants_reliable) or self._needs_reliable:
            self._told.pop(command.fork, None)
            self._ring_reliably(response, command, request)
        else:
            if command.content is not None and command.content.is_sdp:
                self._told[command.fork] = command.content
            self.sip.respond(self._key, response)

    def _ring_reliably(self, response: Response, command: Ring, invite: Request) -> None:
        """Numbers a provisional response; it is sent when the one before it was confirmed (RFC 3262 section 3)."""
        branch = self._reliable.get(command.fork)
        if branch is None:
            sender = ReliableSender(invite.cseq_number, FIRST_RSEQ, self.sip.timers)
            branch = self._reliable[command.fork] = ReliableBranch(sender)
        if len(branch.responses) >= MAX_PROGRESS:
            return
        rseq, is_first = branch.sender.send(self.sip.now)
        response.headers.append("Require", "100rel")
        response.headers.append("RSeq", str(rseq))
        branch.responses[rseq] = (response, command.reliable)
        if is_first:
            self._send_progress(branch, rseq)

    def _send_progress(self, branch: ReliableBranch, rseq: int) -> None:
        self.sip.respond(self._key, branch.responses[rseq][0])
        self._watch(branch)

    def _watch(self, branch: ReliableBranch) -> None:
        """Wakes up for the branch's next repetition."""
        if branch.handle is not None:
            self.sip.unschedule(branch.handle)
        at = branch.sender.next_timeout
        branch.handle = None if at is None else self.sip.schedule(self, at, Timer.REPEAT_PROGRESS)

    def answer_call(self, command: Answer) -> None:
        """Passes the answer on; it is repeated until the caller's ACK."""
        request = self._request_
        dialog = self._branch(command.fork, last=True)
        if request is None or dialog is None:
            return
        self._forget_progress()
        dialog.confirmed = True
        self.dialog, self.final_status = dialog, 200
        for other in self._early.values():
            if other is not dialog:
                self.sip.forget(other.local_tag)
        self._early = {command.fork: dialog}
        self.local_tags = [dialog.local_tag]
        # The callee answered reliably on its own leg; here nothing but the 2xx is sure to come (RFC 3261 13.2.1).
        content, self._told = command.content or self._told.get(command.fork), {}
        response = self._response(200, "", dialog, content)
        self.sip.border.put(response, command.headers, self.flow)
        refreshing.grant(self, request, response)
        self._request_ = None
        self.sip.respond(self._key, response)
        repeating.begin(self, response, self._key, request.cseq_number)

    def reject(self, command: Reject, challenge: list[str]) -> None:
        """Refuses the INVITE; `challenge` holds values for Proxy-Authenticate."""
        request = self._request_
        if request is None:
            return
        self._forget_progress()
        self._request_, self.final_status = None, command.status
        tag = self.local_tags[0] if self.local_tags else self.sip.tag()
        response = response_to(request, command.status, command.reason, tag)
        for value in challenge:
            response.headers.append("Proxy-Authenticate", value)
        if command.retry_after_s:
            response.headers.append("Retry-After", str(command.retry_after_s))
        if command.warning:
            response.headers.append("Warning", f'399 pbx "{wire.quoted(command.warning)}"')
        reason.put(response, command.cause)
        self.sip.border.put(response, command.headers, self.flow)
        self.sip.respond(self._key, response)
        self.end()

    def hang_up(self, cause: Cause) -> None:
        """BYE; only once the caller confirmed our answer, or will not any more (RFC 3261 section 15).

        It may not even have heard the answer, which goes on being repeated until then; the call need not wait.
        """
        waits = self.answer is not None and self.answer.exchange == 0 and not self.sip.draining
        if self.terminated or not waits:
            super().hang_up(cause)
            return
        self.refuse_asked()
        refreshing.keep(self, None)
        self.terminated, self._farewell = True, cause

    def part(self) -> None:
        """Sends the BYE that is due, where one is."""
        cause, self._farewell = self._farewell, None
        if cause is not None and self.dialog is not None:
            self.end()
            self.send_bye(self.dialog, cause)

    # --- what the caller does

    def cancelled(self, key: Key, cause: Cause) -> None:
        """See Leg; before the answer it ends the attempt."""
        if self._request_ is not None:
            self.tell(Cancelled(CALLER, cause))
        else:
            super().cancelled(key, cause)

    def aborted(self) -> None:
        """The INVITE's transaction failed before an answer: nobody is there to hear one."""
        if self._request_ is not None:
            self.tell(Cancelled(CALLER, Cause("transport failure", 38)))

    def _confirmed(self, exchange: int, content: Content | None) -> None:
        if exchange == 0:
            self.tell(Acknowledged(content))
            self.part()
        else:
            super()._confirmed(exchange, content)

    def _ask(self, exchange: int, ask: Ask, request: Request, dialog: Dialog) -> None:
        if ask is Ask.CONFIRM_PROGRESS and not self._is_confirmed(exchange, request):
            return
        super()._ask(exchange, ask, request, dialog)

    def _is_confirmed(self, exchange: int, request: Request) -> bool:
        """Takes a PRACK in: 481 where it confirms nothing; where the callee waits for none, it is answered here.

        Nor does anybody wait for one that crossed our 2xx, but it is right all the same (RFC 3262 section 3).
        """
        key, _ = self.asked[exchange]
        branch, rack = self._reliable.get(self._forks.get(request.to_tag, "")), _rack_of(request)
        verdict, following = (
            (Confirmed.UNKNOWN, 0) if branch is None or rack is None else branch.sender.confirm(rack, self.sip.now)
        )
        if verdict is Confirmed.UNKNOWN or branch is None or rack is None:
            del self.asked[exchange]
            late = rack is not None and (rack.rseq, rack.cseq) in self._late
            self.sip.respond(key, response_to(request, 200 if late else 481))
            return False
        response, remote = branch.responses.pop(rack.rseq)
        if response.body:
            self.settled.add(self._forks.get(request.to_tag, ""))
        branch.confirmed = {rack.rseq: remote}
        if not remote:
            del self.asked[exchange]
            self.sip.respond(key, response_to(request, 200))
        if following:
            self._send_progress(branch, following)
        else:
            self._watch(branch)
        return remote != 0

    def _confirms(self, request: Request) -> int:
        branch, rack = self._reliable.get(self._forks.get(request.to_tag, "")), _rack_of(request)
        return 0 if branch is None or rack is None else branch.confirmed.get(rack.rseq, 0)

    def expired(self, what: int) -> None:
        """Repeats what waits for its confirmation."""
        if what != Timer.REPEAT_PROGRESS:
            super().expired(what)
            if self.answer is None:
                self.part()
            return
        for branch in list(self._reliable.values()):
            due = branch.sender.expire(self.sip.now)
            if due is Due.GIVE_UP:
                self._forget_progress()
                self.tell(LegLost(CALLER, "no_prack"))
                return
            if due is Due.SEND:
                self.sip.respond(self._key, branch.responses[branch.sender.waiting][0])
                branch.handle = None
                self._watch(branch)

    # --- tools

    def _forget_progress(self) -> None:
        for branch in self._reliable.values():
            if branch.handle is not None:
                self.sip.unschedule(branch.handle)
            if branch.sender.waiting:
                self._late.add((branch.sender.waiting, branch.sender.cseq))
        self._reliable.clear()

    def _bye(self, key: Key, request: Request) -> None:
        if self._farewell is not None:
            self._farewell = None
            self.end()
        super()._bye(key, request)

    def end(self) -> None:
        """The dialog is over; where a BYE is due, when that was sent."""
        self._forget_progress()
        if self._farewell is None:
            super().end()

    def _branch(self, fork: str, *, last: bool = False) -> Dialog | None:
        """The dialog with our own tag for a branch of the callee's leg; None beyond the limit of branches."""
        dialog = self._early.get(fork)
        request = self._request_
        if dialog is None and request is not None and (last or len(self._early) < MAX_FORKS):
            tag = self.sip.tag()
            dialog = self._early[fork] = Dialog.as_uas(request, tag)
            self._forks[tag] = fork
            self.local_tags.append(tag)
            self.sip.listen(tag, self)
        return dialog

    def _response(self, status: int, reason: str, dialog: Dialog, content: Content | None) -> Response:
        assert self._request_ is not None
        response = response_to(self._request_, status, reason, dialog.local_tag)
        headers = response.headers
        for value in self._request_.headers.all("Record-Route"):
            headers.append("Record-Route", value)
        headers.append("Contact", self.sip.contact(self.flow, self.secure))
        headers.append("Allow", wire.ALLOW)
        headers.append("Server", wire.PRODUCT)
        if status >= 200:
            headers.append("Supported", wire.SUPPORTED)
        self._put_content(response, content)
        return response

    def _dialog_of(self, request: Request) -> Dialog | None:
        tag, dialog = request.to_tag, self.dialog
        if dialog is None:
            dialog = self._early.get(self._forks.get(tag, ""))
        if dialog is None or tag != dialog.local_tag or request.from_tag != dialog.remote_tag:
            return None
        return dialog

    def _dialog_for(self, fork: str) -> Dialog | None:
        return self.dialog or self._early.get(fork)

    def _fork_of(self, dialog: Dialog) -> str:
        return self._forks.get(dialog.local_tag, "")


def _rack_of(request: Request) -> RAck | None:
    try:
        return RAck.parse(request.first("RAck") or "")
    except RemoteError:
        return None
