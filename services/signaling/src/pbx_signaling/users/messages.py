"""MESSAGE outside of a dialog (RFC 3428): verified, looked up, sent on, its answer passed back. No session, no CDR.

Each waits in a bounded table for the registrar, then for the recipient. Where a message goes on to and what its sender
is told are the rules of calls: `refusal`, `redirect`, `wire.is_secure`, the large requests of `oversize`. Of each that
was taken on two events tell: message.sent, then delivered or failed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pbx_signaling.border import wire
from pbx_signaling.border.challenge import TRUSTED
from pbx_signaling.border.explanation import explanation_of
from pbx_signaling.calls import refusal
from pbx_signaling.calls.signals import Authenticated, Found, Refused, ServiceFailed, Target
from pbx_signaling.legs import body
from pbx_signaling.users.message import Delivery, PagerMessage, Stage, Wait
from pbx_signaling.users.questions import Authenticate, Find, Question
from pbx_signaling.users.refusals import RETRY_AFTER_S, unpassable
from pbx_signaling.users.step import Ask
from pbx_signaling.users.told import MessageRecord, Told
from pbx_signaling.users.user import User
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request, Response, response_to
from pbx_sip.message.uri import request_target
from pbx_sip.transaction.events import FailureCause

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbx_signaling.border.border import Border
    from pbx_signaling.border.challenge import Challenges
    from pbx_signaling.calls.signals import Carried
    from pbx_signaling.config import CoreConfig
    from pbx_signaling.domains import Domains
    from pbx_signaling.users.attempt import Attempts
    from pbx_signaling.users.quota import Quotas
    from pbx_signaling.users.sip import Sip
    from pbx_signaling.users.step import Steps
    from pbx_signaling.users.user import Load, Owner, Sending
    from pbx_sip.address import Flow, HostPort
    from pbx_sip.transaction.events import ClientKey, Key, ServerKey

WAITING_MAX: Final = 5_000
"""Messages under way. Threat: memory; beyond, 503. A message lives 20 s at the most."""
TARGET_S: Final = 4.0
"""For the answer of one binding where there is another: four repetitions have gone by then."""
PATIENCE_S: Final = 20.0
"""For the answer of all. The sender's own transaction ends after 32 s (RFC 3261 timer F), and a later answer would find
nobody; a 408 is not for others than INVITEs (RFC 4320 section 4.2)."""
OF_MESSAGE: Final = ("Date", "Expires")
"""What a MESSAGE says of itself (RFC 3428 sections 4 and 5): when it was written, and how long it is of use."""
OF_MESSAGE_MAX: Final = 64
"""Characters of each. Threat: memory; a date has 29."""


@dataclass(frozen=True, slots=True)
class MessagesNeed:
    """What requests about a user need around them."""

    config: CoreConfig
    sip: Sip
    steps: Steps
    border: Border
    challenges: Challenges
    attempts: Attempts
    domains: Domains
    quotas: Quotas
    proved: Callable[[HostPort, float], None]
    """A request outside of a dialog proved its user."""
    unreachable: Callable[[str, Flow], None]
    """Removes a binding whose connection is gone, and in whose place no other could be made."""
    is_full: Callable[[], bool]
    """Whether there are as many calls as may be: then nothing else is taken either."""


class Messages(User):
    """All messages under way."""

    methods = ("MESSAGE",)

    def __init__(self, need: MessagesNeed) -> None:
        self._need = need
        self._sip = need.sip
        self._waiting: dict[int, PagerMessage] = {}
        self._numbers = itertools.count(1)

    @property
    def pending(self) -> int:
        """Messages under way."""
        return len(self._waiting)

    def refusal(self, request: Request, flow: Flow, load: Load) -> Response | None:
        """What answers a MESSAGE whoever sends it: 483, 420, 416, 500."""
        return unpassable(request, self._need.domains)

    def takes(self, load: Load) -> bool:
        """Whether messages are taken."""
        return not (load.draining or load.stalled or self._need.is_full())

    def request(self, key: ServerKey, request: Request, flow: Flow) -> None:
        """Takes an admitted MESSAGE on: its sender is verified and its recipient looked up before it goes anywhere."""
        if len(self._waiting) >= WAITING_MAX:
            self._sip.respond(key, self._refusal(request, 503))
            return
        attempt = self._need.attempts.read(request, flow, self._sip.now)
        message = PagerMessage(next(self._numbers), key, request, attempt, self, flow, attempt.aor)
        self._waiting[message.number] = message
        if attempt.authorization:
            self._ask(message, Authenticate(attempt, "MESSAGE"))
        else:
            self._authenticated(message, Authenticated(attempt.claimed.partition("@")[0], ""))

    def answered(self, number: str | int, answer: object) -> None:
        """The registrar's answer to what was asked last."""
        message = self._waiting.get(int(number))
        if message is None:
            return
        match answer:
            case Authenticated() if message.stage is Stage.AUTHENTICATION:
                self._authenticated(message, answer)
            case Found() if message.stage is Stage.TARGETS:
                self._found(message, answer)
            case Refused():
                self._finish(message, answer.status, stale=answer.stale)
            case ServiceFailed():
                self._finish(message, 503, cause="service_unavailable")
            case _:
                pass

    def response(self, owner: Owner, response: Response) -> None:
        """A recipient's answer; provisional ones say nothing here (RFC 4320)."""
        assert isinstance(owner, Delivery)
        message, status = owner.message, response.status
        if status < 200 or message.is_over:
            return
        if status < 300:
            self._finish(message, status, response.reason, cause="delivered")
        elif owner is message.current:  # one that was given up can only say that it took it after all
            self._refused(message, response)

    def failed(self, owner: Owner, key: Key, cause: FailureCause) -> None:
        """No answer came, or it could not be sent."""
        assert isinstance(owner, Delivery)
        message, transport = owner.message, cause is FailureCause.TRANSPORT
        if message.is_over or owner is not message.current or (transport and self._sent_anew(owner)):
            return
        if not self._try_next(message):
            self._finish(message, 480, cause="transport" if transport else "no_response")

    def resent(self, owner: Sending, key: ClientKey) -> None:
        """It goes another way; nothing hangs on its transaction."""

    def expired(self, owner: Owner, what: int) -> None:
        """A recipient was silent for too long, or all were."""
        assert isinstance(owner, PagerMessage)
        message, wait = owner, Wait(what)
        message.deadlines.pop(wait, None)
        if not message.is_over and (wait is Wait.ALL or not self._try_next(message)):
            self._finish(message, 480, cause="no_response")

    # --- steps

    def _authenticated(self, message: PagerMessage, signal: Authenticated) -> None:
        message.caller, message.stage = signal.user, Stage.TARGETS
        need, source, now = self._need, message.attempt.source, self._sip.now
        need.proved(source, now)
        trusted = message.attempt.nonce_source == TRUSTED
        if message.attempt.authorization and need.quotas.attempt(signal.user, source, now, trusted=trusted):
            self._finish(message, 503)
            return
        message.since = now
        self._note(message, MessageRecord.SENT)
        self._ask(message, Find(message.aor))

    def _ask(self, message: PagerMessage, question: Question) -> None:
        self._need.steps.ask(Ask(self, message.number, question))

    def _found(self, message: PagerMessage, signal: Found) -> None:
        message.targets = [target for target in signal.targets if not message.is_secure or wire.is_secure(target)]
        if not signal.known:
            self._finish(message, 404, cause="user_unknown")
        elif not message.targets:
            self._finish(message, 480, cause="no_secure_binding" if signal.targets else "not_registered")
        else:
            message.stage = Stage.ANSWER
            if Wait.ALL not in message.deadlines:
                self._watch(message, Wait.ALL, PATIENCE_S)
            self._try_next(message)

    def _try_next(self, message: PagerMessage) -> bool:
        """Sends a message to the next binding; False where there is none."""
        if not message.targets:
            return False
        target = message.targets.pop(0)
        message.tried += 1
        if message.targets:
            self._watch(message, Wait.TARGET, TARGET_S)
        else:
            self._forget(message, Wait.TARGET)
        self._send(message, target, self._sip.flow_of(target))
        return True

    def _send(self, message: PagerMessage, target: Target, flow: Flow) -> None:
        request = self._forwarded(message, target, flow)
        is_bound = not self._sip.names_hop(self._sip.first_hop(target), flow)
        message.current = Delivery(message, target, flow, request, is_bound)
        self._sip.send(request, flow, message.current)

    def _sent_anew(self, delivery: Delivery) -> bool:
        """Sends a message over a connection that we make, where the phone's own is gone; else the binding goes."""
        target = delivery.target
        if not target.connection:
            return False
        if not delivery.flow.connection:
            self._need.unreachable(target.aor, wire.bound_flow(target))
            return False
        flow = self._sip.anew(self._sip.first_hop(target), delivery.flow)
        if flow is None:
            return False
        self._send(delivery.message, target, flow)
        return True

    def _refused(self, message: PagerMessage, response: Response) -> None:
        """The next binding, another user of ours to whom a 3xx points, or the end."""
        status = response.status
        if refusal.tries_next(status, local=False) and self._try_next(message):
            return
        onward = next((aor for aor in self._need.border.users_named(response) if self._is_new(message, aor)), "")
        if onward:
            message.been.append(message.aor)
            message.aor, message.stage, message.current = onward, Stage.TARGETS, None
            self._ask(message, Find(onward))
            return
        explanation = explanation_of(response)
        told = refusal.outside(status, explanation)
        reason = response.reason if told == status else ""
        self._finish(message, told, reason, cause="refused", headers=explanation if told == status else ())

    def _is_new(self, message: PagerMessage, aor: str) -> bool:
        """Whether a message may be sent on to an address, not for ever."""
        been = message.been
        return len(been) < self._need.config.calls.hunt.redirects and aor != message.aor and aor not in been

    def _forwarded(self, message: PagerMessage, target: Target, flow: Flow) -> Request:
        border, claim = self._need.border, message.attempt.claim
        sender = border.presented(claim, message.caller, flow, proved=bool(message.attempt.authorization))
        headers = Headers(
            [
                ("Via", self._sip.via(flow)),
                ("Max-Forwards", str(message.attempt.max_forwards)),
                ("From", f"{sender.from_value};tag={self._sip.tag()}"),
                ("To", f"<sip:{target.aor}>"),
                ("Call-ID", self._sip.sip_call_id()),
                ("CSeq", "1 MESSAGE"),
                ("User-Agent", wire.PRODUCT),
            ]
        )
        for value in target.path:
            headers.append("Route", value)
        request = Request("MESSAGE", request_target(target.uri), headers)
        border.put(request, (*claim.shown(border.fields(message.request)), *sender.headers), flow)
        for name in OF_MESSAGE:
            said = message.request.first(name) or ""
            if 0 < len(said) <= OF_MESSAGE_MAX:
                headers.append(name, said)
        body.put_content(request, body.content_of(message.request))
        return request

    def _watch(self, message: PagerMessage, wait: Wait, after_s: float) -> None:
        self._forget(message, wait)
        message.deadlines[wait] = self._sip.schedule(message, self._sip.now + after_s, wait)

    def _forget(self, message: PagerMessage, wait: Wait) -> None:
        handle = message.deadlines.pop(wait, None)
        if handle is not None:
            self._sip.unschedule(handle)

    def _note(self, message: PagerMessage, record: MessageRecord, status: int = 0, cause: str = "") -> None:
        request, sender = message.request, message.attempt.claimed.partition("@")[0]
        self._need.steps.tell(
            Told(
                record,
                message.attempt.call_id,
                message.caller or sender,
                message.aor,
                request.content_type,
                len(request.body),
                message.tried,
                status,
                cause,
                self._sip.now,
                self._sip.now - message.since,
            )
        )

    def _finish(
        self,
        message: PagerMessage,
        status: int,
        reason: str = "",
        *,
        stale: bool = False,
        cause: str = "",
        headers: Carried = (),
    ) -> None:
        if self._waiting.pop(message.number, None) is None:
            return
        message.is_over, message.targets, message.current = True, [], None
        for wait in Wait:
            self._forget(message, wait)
        response = self._refusal(message.request, 407 if stale else status, reason)
        if stale:
            source, agent = message.attempt.nonce_source, message.request.first("User-Agent") or ""
            for value in self._need.challenges.challenge(self._sip.wall_s, source, agent, stale=True):
                response.headers.append("Proxy-Authenticate", value)
        for name, value in headers:
            response.headers.append(name, value)
        self._sip.respond(message.key, response)
        if message.stage is not Stage.AUTHENTICATION:
            record = MessageRecord.DELIVERED if status < 300 else MessageRecord.FAILED
            self._note(message, record, status, cause)

    def _refusal(self, request: Request, status: int, reason: str = "") -> Response:
        response = response_to(request, status, reason, self._sip.tag())
        if status == 503:
            response.headers.append("Retry-After", str(RETRY_AFTER_S))
        return response
