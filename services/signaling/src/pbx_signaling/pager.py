"""MESSAGE outside of a dialog (RFC 3428): verified, looked up, sent on, its answer passed back. No session, no CDR.

Each waits in a bounded table for the registrar, then for the callee; the executor asks and calls back.
"""

from __future__ import annotations

import enum
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pbx_signaling.call import body, wire
from pbx_signaling.call.events import Authenticated, Found, Refused, ServiceFailed, Signal, Target
from pbx_signaling.gate import TRUSTED
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request, Response, response_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbx_signaling.addressing import Addressing
    from pbx_signaling.call.entry import Attempt
    from pbx_signaling.core import Core
    from pbx_signaling.gate import Gate
    from pbx_signaling.identity import Identity
    from pbx_sip.address import Flow

WAITING_MAX: Final = 5_000
"""Messages under way. Threat: memory; beyond, 503. A message lives 32 s at the most."""
RETRY_AFTER_S: Final = 5


class Stage(enum.IntEnum):
    """What a message waits for."""

    AUTHENTICATION = 0
    TARGETS = 1
    ANSWER = 2


@dataclass(slots=True, eq=False)
class PagerMessage:
    """One message under way; the owner of both of its transactions."""

    number: int
    key: Any
    request: Request
    attempt: Attempt
    stage: Stage = Stage.AUTHENTICATION
    caller: str = ""


class Pager:
    """All messages under way."""

    def __init__(
        self,
        core: Core,
        gate: Gate,
        identity: Identity,
        addressing: Addressing,
        ask: Callable[[PagerMessage], None],
    ) -> None:
        self._core = core
        self._gate = gate
        self._identity = identity
        self._addressing = addressing
        self._ask = ask
        self._waiting: dict[int, PagerMessage] = {}
        self._numbers = itertools.count(1)

    @property
    def pending(self) -> int:
        """Messages under way."""
        return len(self._waiting)

    def received(self, key: Any, request: Request, flow: Flow) -> None:
        """A MESSAGE that passed the gate."""
        if len(self._waiting) >= WAITING_MAX:
            self._core.respond(key, self._refusal(request, 503))
            return
        attempt = self._gate.attempt(request, flow, self._identity, self._core)
        message = PagerMessage(next(self._numbers), key, request, attempt)
        self._waiting[message.number] = message
        if not attempt.authorization:
            self._authenticated(message, Authenticated(attempt.claimed.partition("@")[0], ""))
        else:
            self._ask(message)

    def signal(self, number: int, signal: Signal, now: float) -> None:
        """The registrar's answer to what was asked last."""
        message = self._waiting.get(number)
        if message is None:
            return
        self._core.now = now
        match signal:
            case Authenticated() if message.stage is Stage.AUTHENTICATION:
                self._authenticated(message, signal)
            case Found() if message.stage is Stage.TARGETS:
                self._found(message, signal)
            case Refused():
                self._finish(message, signal.status, stale=signal.stale)
            case ServiceFailed():
                self._finish(message, 503)
            case _:
                pass
        self._core.settle()

    def responded(self, message: PagerMessage, response: Response) -> None:
        """The callee's answer; provisional ones say nothing here (RFC 4320)."""
        if response.status >= 200:
            self._finish(message, response.status, response.reason)

    def failed(self, message: PagerMessage, transport: bool) -> None:
        """No answer came, or it could not be sent."""
        self._finish(message, 503 if transport else 408)

    # --- steps

    def _authenticated(self, message: PagerMessage, signal: Authenticated) -> None:
        message.caller, message.stage = signal.user, Stage.TARGETS
        core, source = self._core, message.attempt.source
        core.proved(source)
        trusted = message.attempt.nonce_source == TRUSTED
        if message.attempt.authorization and core.quotas.attempt(signal.user, source, core.now, trusted=trusted):
            self._finish(message, 503)
            return
        self._ask(message)

    def _found(self, message: PagerMessage, signal: Found) -> None:
        if not signal.targets:
            self._finish(message, 480 if signal.known else 404)
            return
        message.stage = Stage.ANSWER
        target = signal.targets[0]
        flow = self._addressing.flow_of(target)
        self._core.layer.request(self._forwarded(message, target, flow), flow, self._core.now, message)

    def _forwarded(self, message: PagerMessage, target: Target, flow: Flow) -> Request:
        border, claim = self._core.border, message.attempt.claim
        sender = border.presented(claim, message.caller, flow, proved=bool(message.attempt.authorization))
        headers = Headers(
            [
                ("Via", self._core.via(flow)),
                ("Max-Forwards", str(message.attempt.max_forwards)),
                ("From", f"{sender.from_value};tag={self._core.tag()}"),
                ("To", f"<sip:{target.aor}>"),
                ("Call-ID", self._core.sip_call_id()),
                ("CSeq", "1 MESSAGE"),
                ("User-Agent", wire.PRODUCT),
            ]
        )
        for value in target.path:
            headers.append("Route", value)
        request = Request("MESSAGE", target.uri, headers)
        border.put(request, (*claim.shown(border.fields(message.request)), *sender.headers), flow)
        body.put_content(request, body.content_of(message.request))
        return request

    def _finish(self, message: PagerMessage, status: int, reason: str = "", *, stale: bool = False) -> None:
        if self._waiting.pop(message.number, None) is None:
            return
        response = self._refusal(message.request, 407 if stale else status, reason)
        if stale:
            source, agent = message.attempt.nonce_source, message.request.first("User-Agent") or ""
            for value in self._gate.challenge(self._core.wall_s, source, agent, stale=True):
                response.headers.append("Proxy-Authenticate", value)
        self._core.respond(message.key, response)

    def _refusal(self, request: Request, status: int, reason: str = "") -> Response:
        response = response_to(request, status, reason, self._core.tag())
        if status == 503:
            response.headers.append("Retry-After", str(RETRY_AFTER_S))
        return response
