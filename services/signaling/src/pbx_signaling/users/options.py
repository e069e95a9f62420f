"""OPTIONS outside of a dialog (RFC 3261 section 11). Pure.

One to the server, or to the address in our Contact, is answered at once and without state: keep-alive and health. One
that asks about a user is verified and looked up as a call would be, and answered here; it is not passed on.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pbx_signaling.border import wire
from pbx_signaling.border.challenge import TRUSTED
from pbx_signaling.calls.signals import Authenticated, Found, Refused, ServiceFailed
from pbx_signaling.users.questions import Authenticate, Find, Question
from pbx_signaling.users.refusals import unavailable
from pbx_signaling.users.step import Ask
from pbx_signaling.users.user import User
from pbx_sip.message.message import Request, Response, response_to
from pbx_sip.message.uri import Uri

if TYPE_CHECKING:
    from pbx_signaling.users.attempt import Attempt
    from pbx_signaling.users.messages import MessagesNeed
    from pbx_signaling.users.user import Load
    from pbx_sip.address import Flow
    from pbx_sip.transaction.events import ServerKey

WAITING_MAX: Final = 5_000
"""Those that wait for the registrar. Threat: memory; beyond, 503."""


@dataclass(slots=True)
class _Waiting:
    key: ServerKey
    request: Request
    flow: Flow
    attempt: Attempt
    is_proved: bool = False


class Options(User):
    """OPTIONS of one instance."""

    methods = ("OPTIONS",)
    always_proves = False

    def __init__(self, need: MessagesNeed, instance: str) -> None:
        """`instance`: the user of our Contacts."""
        self._need = need
        self._sip = need.sip
        self._instance = instance
        self._waiting: dict[int, _Waiting] = {}
        self._numbers = itertools.count(1)

    @property
    def pending(self) -> int:
        """Those that wait."""
        return len(self._waiting)

    def needs_auth(self, request: Request) -> bool:
        """Whether it asks about a user, and not about the server or our Contact."""
        return Uri.parse(request.uri).user_unescaped not in ("", self._instance)

    def refusal(self, request: Request, flow: Flow, load: Load) -> Response | None:
        """420; and to the server the answer itself: 503 while draining or without Redis."""
        refusal = wire.bad_extension(request)
        if refusal is not None or self.needs_auth(request):
            return refusal
        if load.draining or load.stalled:
            return unavailable(request)
        return wire.options_answer(request, self._sip.contact(flow, secure=False))

    def takes(self, load: Load) -> bool:
        """As calls: who may not call now need not know who could be called."""
        return not (load.draining or load.stalled or self._need.is_full())

    def request(self, key: ServerKey, request: Request, flow: Flow) -> None:
        """One that asks about a user."""
        if len(self._waiting) >= WAITING_MAX:
            self._sip.respond(key, self._answer(request, 503))
            return
        attempt = self._need.attempts.read(request, flow, self._sip.now)
        number, waiting = next(self._numbers), _Waiting(key, request, flow, attempt)
        self._waiting[number] = waiting
        if attempt.authorization:
            self._ask(number, Authenticate(attempt, "OPTIONS"))
        else:
            self._proved(number, waiting, attempt.claimed.partition("@")[0])

    def answered(self, number: str | int, answer: object) -> None:
        """The registrar's answer."""
        waiting = self._waiting.get(int(number))
        if waiting is None:
            return
        match answer:
            case Authenticated() if not waiting.is_proved:
                self._proved(int(number), waiting, answer.user)
            case Found() if waiting.is_proved:
                self._finish(int(number), self._found(waiting, answer))
            case Refused():
                self._finish(int(number), self._refused(waiting, answer))
            case ServiceFailed():
                self._finish(int(number), self._answer(waiting.request, 503))
            case _:
                pass

    def _proved(self, number: int, waiting: _Waiting, user: str) -> None:
        need, attempt, now = self._need, waiting.attempt, self._sip.now
        waiting.is_proved = True
        need.proved(attempt.source, now)
        trusted = attempt.nonce_source == TRUSTED
        if attempt.authorization and need.quotas.attempt(user, attempt.source, now, trusted=trusted):
            self._finish(number, self._answer(waiting.request, 503))
        else:
            self._ask(number, Find(attempt.aor))

    def _found(self, waiting: _Waiting, found: Found) -> Response:
        request = waiting.request
        is_secure = request.uri[:5].lower() == "sips:"
        if not found.known:
            return self._answer(request, 404)
        if not any(wire.is_secure(target) for target in found.targets) if is_secure else not found.targets:
            return self._answer(request, 480)
        response = self._answer(request, 200)
        wire.put_capabilities(response, self._sip.contact(waiting.flow, is_secure))
        return response

    def _refused(self, waiting: _Waiting, refused: Refused) -> Response:
        if not refused.stale:
            return self._answer(waiting.request, refused.status)
        response = self._answer(waiting.request, 407)
        source, agent = waiting.attempt.nonce_source, waiting.request.first("User-Agent") or ""
        for value in self._need.challenges.challenge(self._sip.wall_s, source, agent, stale=True):
            response.headers.append("Proxy-Authenticate", value)
        return response

    def _ask(self, number: int, question: Question) -> None:
        self._need.steps.ask(Ask(self, number, question))

    def _answer(self, request: Request, status: int) -> Response:
        if status == 503:
            return unavailable(request, self._sip.tag())
        return response_to(request, status, "", self._sip.tag())

    def _finish(self, number: int, response: Response) -> None:
        self._sip.respond(self._waiting.pop(number).key, response)
