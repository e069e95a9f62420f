"""A scripted SIP phone on `pbx_sip.usage`, for simulations: acts by its plan, at its times; notes what it saw.

It follows the RFCs where a peer could tell: it confirms every 2xx, ends calls that cross its CANCEL, waits after glare,
answers digests, confirms reliable progress. Nothing in it knows of the B2BUA.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.auth.digest import Challenge, respond
from pbx_sip.dialog.offer_answer import Turn, glare_wait_s
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request, Response
from pbx_sip.tokens import CountingTokens
from pbx_sip.transaction.events import Transmit
from pbx_sip.usage import agent as ag
from pbx_sip.usage import output as out
from pbx_sip.usage.frozen import Clock
from pbx_sip.usage.invite_client import InviteUac
from pbx_sip.usage.invite_server import InviteUas
from pbx_sip.usage.origin import at_address
from pbx_sip.usage.within import InDialog
from pbx_sip.usage.within import State as Dialog

SDP_TYPE = (("Content-Type", "application/sdp"),)


class Stage(enum.IntEnum):
    """Where a call of a phone stands."""

    INVITING = 0
    ALERTING = 1
    UP = 2
    OVER = 3


@dataclass(slots=True)
class Plan:
    """What a phone does when it is called. Times in seconds after the INVITE."""

    ring_after: float | None = 0.1
    ring_status: int = 180
    ring_sdp: bool = False
    reliable: bool = False
    """Provisional responses want a PRACK, where the caller takes that."""
    answer_after: float | None = 1.0
    """None: never."""
    answer_status: int = 200
    contacts: tuple[str, ...] = ()
    """Contact values of a failure: where a 3xx sends the caller."""
    answer_sdp: bool = True
    reply_inside: int = 200
    """To a re-INVITE or UPDATE."""
    rings_s: float = 150.0
    """Then it stops ringing by itself, with 480: a CANCEL may never come."""


@dataclass(slots=True, eq=False)
class UaCall:
    """One call as its phone sees it."""

    stage: Stage
    invite: str
    """Call-ID of its INVITE: by it the phone finds the usage, which may have been thawed in the meantime."""
    received: bool = False
    """The peer called."""
    tag: str = ""
    """Our tag in the dialog that counts."""
    status: int = 0
    """Final status of the INVITE; 0: none came."""
    ended_by: str = ""
    """"self", "peer", or how it failed."""
    modifying: bool = False
    """A re-INVITE or UPDATE of ours is under way."""
    hold: bool = False
    early: str = ""
    """The peer's tag in the last early dialog that a provisional response made."""
    cancelled: bool = False
    attempts: int = 1


@dataclass(slots=True)
class Notes:
    """What a phone saw: "INVITE", "180 INVITE", ... in order."""

    seen: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    acks: int = 0
    strays: int = 0


class Ua:
    """A phone with one address. Implements `netem.Node`."""

    def __init__(self, user: str, address: HostPort, proxy: HostPort, password: str = "") -> None:
        self.user = user
        self.address = address
        self.password = password
        self.plan = Plan()
        self.notes = Notes()
        self.calls: list[UaCall] = []
        self.registered = 0
        """Status of the last REGISTER."""
        self.clock = Clock(0.0)
        self.thaws: Callable[[], bool] = lambda: False
        """Asked after each step: whether the agent goes on as one that was made of its frozen value."""
        self.tokens = CountingTokens(user)
        self._origin = at_address(self.tokens, str(address), f"<sip:{user}@{address}>")
        self.agent = ag.Agent(self._origin)
        self.now = 0.0
        self._proxy = Flow(Transport.UDP, proxy, "udp")
        self._todo: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._sent: list[tuple[bytes, HostPort]] = []
        self._cseq = itertools.count(1)
        self._version = itertools.count(1)

    # --- netem.Node

    def receive(self, data: bytes, source: HostPort, now: float) -> None:
        """A datagram arrives."""
        self.now = now
        self.agent.receive(data, Flow(Transport.UDP, source, "udp"), now)
        self._drain()
        self._thaw()

    def handle_timeout(self, now: float) -> None:
        """Acts by plan, and lets the agent's timers fire."""
        self.now = now
        while self._todo and self._todo[0][0] <= now:
            heapq.heappop(self._todo)[2]()
            self._drain()
            self._thaw()
        self.agent.handle_timeout(now)
        self._drain()
        self._thaw()

    @property
    def next_timeout(self) -> float | None:
        """The next of both."""
        times = [self._todo[0][0]] if self._todo else []
        if self.agent.next_timeout is not None:
            times.append(self.agent.next_timeout)
        return min(times, default=None)

    def outgoing(self) -> list[tuple[bytes, HostPort]]:
        """What is to be sent."""
        sent, self._sent = self._sent, []
        return sent

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Does something at a time of the virtual clock."""
        heapq.heappush(self._todo, (when, next(self._order), act))

    def _thaw(self) -> None:
        if self.thaws():
            frozen = self.agent.freeze(self.clock)
            self.agent = ag.Agent.thaw(frozen, self._origin, self.clock)

    # --- acting

    def sdp(self, *, hold: bool = False) -> bytes:
        """A session description of ours, with a new version."""
        host, version = self.address.host, next(self._version)
        family = "IP6" if ":" in host else "IP4"
        direction = "sendonly" if hold else "sendrecv"
        return (
            f"v=0\r\no=- 1 {version} IN {family} {host}\r\ns=-\r\nc=IN {family} {host}\r\nt=0 0\r\n"
            f"m=audio {self.address.port + 2} RTP/AVP 0 8\r\na={direction}\r\n"
        ).encode()

    def register(self, expires_s: int = 300, domain: str = "pbx.local") -> None:
        """Registers; answers one challenge."""
        aor = f"<sip:{self.user}@{domain}>"
        headers = (
            *(("From", f"{aor};tag={self.tokens.tag()}"), ("To", aor)),
            *(("Call-ID", f"reg-{self.user}"), ("CSeq", f"{next(self._cseq)} REGISTER"), ("Expires", str(expires_s))),
        )
        self.send(new_request("REGISTER", f"sip:{domain}", headers))

    def send(self, request: Request) -> None:
        """Sends a request other than INVITE outside of a dialog."""
        self.agent.request(request, self._proxy, self.now)
        self._drain()

    def call(self, user: str, *, offer: bool = True, reliable: bool = False, domain: str = "pbx.local") -> UaCall:
        """Calls somebody."""
        headers: out.Pairs = (
            ("From", f"<sip:{self.user}@{domain}>;tag={self.tokens.tag()}"),
            ("To", f"<sip:{user}@{domain}>"),
            ("Call-ID", self.tokens.call_id()),
            ("CSeq", f"{next(self._cseq)} INVITE"),
            ("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE, PRACK, INFO, MESSAGE, OPTIONS"),
        )
        if reliable:
            headers += (("Supported", "100rel"),)
        if offer:
            headers += SDP_TYPE
        request = new_request("INVITE", f"sip:{user}@{domain}", headers, self.sdp() if offer else b"")
        call = UaCall(Stage.INVITING, request.call_id)
        self.calls.append(call)
        self.agent.invite(request, self._proxy, self.now)
        self._drain()
        return call

    def cancel(self, call: UaCall) -> None:
        """Gives up before the answer."""
        usage = self._inviting(call)
        if call.stage in (Stage.INVITING, Stage.ALERTING) and usage is not None and not call.cancelled:
            call.cancelled = True
            usage.cancel(self.now)
            self._drain()

    def hang_up(self, call: UaCall) -> None:
        """Ends an answered call."""
        if call.stage is Stage.UP and self._session(call) is not None:
            self._within(call, "BYE")
            self._over(call, "self")

    def modify(self, call: UaCall, method: str = "INVITE", *, hold: bool = False, offer: bool = True) -> None:
        """Changes the session: re-INVITE or UPDATE, unless one is under way."""
        if call.stage is not Stage.UP or call.modifying:
            return
        session = self._session(call)
        if session is not None and (session.turn is not Turn.STABLE or session.is_modifying):
            self.at(self.now + 0.2, lambda: self.modify(call, method, hold=hold, offer=offer))
            return
        call.modifying, call.hold = True, hold
        body = self.sdp(hold=hold) if offer else b""
        self._within(call, method, SDP_TYPE if offer else (), body)

    def tell(self, call: UaCall, method: str = "INFO", body: bytes = b"Signal=1") -> None:
        """Sends INFO or MESSAGE inside the call."""
        if call.stage is Stage.UP:
            self._within(call, method, (("Content-Type", "application/dtmf-relay"),), body)

    def tell_early(self, call: UaCall, method: str = "UPDATE", *, offer: bool = True) -> None:
        """Sends a request inside the early dialog, allowed or not: its answer is only noted."""
        early = self._early(call)
        if call.stage is not Stage.ALERTING or early is None or early.state is Dialog.ENDED:
            return
        offer = offer and early.turn is Turn.STABLE
        call.cancelled = call.cancelled or method == "BYE"
        early.send(method, self.now, SDP_TYPE if offer else (), self.sdp() if offer else b"")
        self._drain()

    def _within(self, call: UaCall, method: str, headers: out.Pairs = (), body: bytes = b"") -> None:
        session = self._session(call)
        if session is not None and session.state is not Dialog.ENDED:
            session.send(method, self.now, headers, body)
            self._drain()

    def _over(self, call: UaCall, how: str) -> None:
        if call.stage is not Stage.OVER:
            call.stage, call.ended_by = Stage.OVER, how

    # --- finding usages

    def _inviting(self, call: UaCall) -> InviteUac | None:
        found = (usage for usage in self.agent.usages if isinstance(usage, InviteUac))
        return next((usage for usage in found if usage.invite.call_id == call.invite), None)

    def _invited_by(self, call: UaCall) -> InviteUas | None:
        found = (usage for usage in self.agent.usages if isinstance(usage, InviteUas))
        return next((usage for usage in found if usage.invite.call_id == call.invite), None)

    def _session(self, call: UaCall) -> InDialog | None:
        found = (usage for usage in self.agent.usages if isinstance(usage, InDialog) and usage.dialog.confirmed)
        return next((each for each in found if (each.dialog.call_id, each.dialog.local_tag + each.dialog.remote_tag)
                     == (call.invite, call.tag)), None)  # fmt: skip

    def _early(self, call: UaCall) -> InDialog | None:
        usage = self._inviting(call)
        if usage is not None:
            return usage.forks.get(call.early)
        callee = self._invited_by(call)
        return callee.forks[""].within if callee is not None and callee.forks else None

    def _call_of(self, usage: ag.Usage) -> UaCall | None:
        call_id = usage.dialog.call_id if isinstance(usage, InDialog) else usage.invite.call_id
        return next((call for call in self.calls if call.invite == call_id), None)

    # --- reacting

    def _drain(self) -> None:
        self.agent.carry_out(self.now)
        while events := self.agent.drain():
            for event in events:
                REACTIONS[type(event)](self, event)
            self.agent.carry_out(self.now)

    def _transmit(self, event: Transmit) -> None:
        self._sent.append((event.data, event.flow.remote))

    def _stray(self, event: ag.Stray) -> None:
        self.notes.strays += 1

    def _happened(self, event: ag.Happened) -> None:
        call = self._call_of(event.usage)
        if call is not None:
            SAID[type(event.what)](self, call, event.usage, event.what)

    def _acknowledged(self, call: UaCall, usage: ag.Usage, what: out.Acknowledged) -> None:
        self.notes.acks += 1
        self._saw("ACK", what.request)

    def _saw(self, what: str, message: Request | Response) -> None:
        self.notes.seen.append(what)
        if message.body:
            self.notes.bodies.append(message.body)

    def _received(self, event: ag.Received) -> None:
        self._saw(event.request.method, event.request)
        self.agent.respond(event, 200, self.now)

    def _asked(self, call: UaCall, usage: InDialog, what: out.Asked) -> None:
        request = what.request
        self._saw(request.method, request)
        if request.method == "BYE":
            usage.reply(what.key, 200, self.now)
            if usage.dialog.confirmed or not call.received:
                self._over(call, "peer")
        elif request.method in ("INVITE", "UPDATE"):
            self._modified(call, usage, what)
        else:
            usage.reply(what.key, 200, self.now)

    def _invited(self, event: ag.Invited) -> None:
        usage, plan = event.usage, self.plan
        self._saw("INVITE", usage.invite)
        if any(call.stage is not Stage.OVER for call in self.calls):
            usage.refuse(486, self.now)
            return
        call = UaCall(Stage.ALERTING, usage.invite.call_id, received=True)
        self.calls.append(call)
        if plan.ring_after is not None:
            self.at(self.now + plan.ring_after, lambda: self._ring(call))
        if plan.answer_after is not None:
            self.at(self.now + plan.answer_after, lambda: self._answer(call))
        self.at(self.now + plan.rings_s, lambda: self._stop_ringing(call))

    def _ring(self, call: UaCall) -> None:
        usage = self._invited_by(call)
        if call.stage is Stage.ALERTING and usage is not None and not call.status:
            reliable = self.plan.reliable and "100rel" in usage.invite.headers.tokens("Supported")
            body = self.sdp() if self.plan.ring_sdp else b""
            headers = SDP_TYPE if body else ()
            usage.progress(self.plan.ring_status, self.now, reliable=reliable, headers=headers, body=body)

    def _answer(self, call: UaCall) -> None:
        usage = self._invited_by(call)
        if call.stage is not Stage.ALERTING or usage is None:
            return
        if usage.waiting:
            self.at(self.now + 0.2, lambda: self._answer(call))  # "MUST NOT send the 2xx before" (RFC 3262 section 3)
            return
        status = call.status = self.plan.answer_status
        if status >= 300:
            usage.refuse(status, self.now, headers=tuple(("Contact", contact) for contact in self.plan.contacts))
            self._over(call, "self")
            return
        call.stage = Stage.UP
        body = self.sdp() if self.plan.answer_sdp else b""
        usage.answer(self.now, headers=SDP_TYPE if body else (), body=body)
        assert usage.session is not None
        call.tag = usage.session.dialog.local_tag + usage.session.dialog.remote_tag

    def _stop_ringing(self, call: UaCall) -> None:
        usage = self._invited_by(call)
        if call.stage is Stage.ALERTING and usage is not None:
            call.status = 480
            usage.refuse(480, self.now)
            self._over(call, "self")

    def _modified(self, call: UaCall, usage: InDialog, what: out.Asked) -> None:
        request, status = what.request, self.plan.reply_inside
        if call.modifying or (usage.awaits_ack and request.method == "INVITE"):
            usage.reply(what.key, 491, self.now)
        elif status >= 300:
            usage.reply(what.key, status, self.now)
        else:
            body = self.sdp() if request.method == "INVITE" or request.body else b""
            usage.reply(what.key, status, self.now, SDP_TYPE if body else (), body)

    def _cancelled(self, call: UaCall, usage: InviteUas, what: out.Cancelled) -> None:
        self.notes.seen.append("CANCEL")
        if call.stage is Stage.ALERTING:
            call.status = 487
            usage.refuse(487, self.now)
            self._over(call, "cancelled")

    def _unconfirmed(self, call: UaCall, usage: ag.Usage, what: out.Unconfirmed) -> None:
        if what.waits is out.Waits.ANSWER and isinstance(usage, InDialog):
            usage.send("BYE", self.now)
        elif isinstance(usage, InviteUas):
            usage.refuse(504, self.now)
        self._over(call, f"unconfirmed {what.waits.name.lower()}")

    def _responded(self, event: ag.Responded) -> None:
        request, response = event.request, event.response
        self._saw(f"{response.status} {request.method}", response)
        if request.method != "REGISTER":
            return
        credentials = self._credentials(request, response)
        if credentials is not None:
            again = Request(request.method, request.uri, request.headers.copy(), request.body)
            again.headers.remove("Via")
            again.headers.set("CSeq", f"{next(self._cseq)} {request.method}")
            again.headers.set(*credentials)
            self.agent.request(again, self._proxy, self.now)
        elif response.status >= 200:
            self.registered = response.status

    def _credentials(self, request: Request, response: Response) -> tuple[str, str] | None:
        """The header field that answers a challenge; None where that was tried, or there is no password."""
        name = {401: ("WWW-Authenticate", "Authorization"), 407: ("Proxy-Authenticate", "Proxy-Authorization")}
        if response.status not in name or not self.password or name[response.status][1] in request.headers:
            return None
        challenge = Challenge.parse(response.headers.all(name[response.status][0])[0])
        answer = respond(
            challenge, self.user, self.password, request.method, request.uri, cnonce="0a1b", body=request.body
        )
        return name[response.status][1], str(answer)

    def _progressed(self, call: UaCall, usage: InviteUac, what: out.Progressed) -> None:
        self._saw(f"{what.response.status} INVITE", what.response)
        if what.rseq:
            early = usage.forks[what.fork]
            body = self.sdp() if early.turn is Turn.THEY_OFFERED else b""
            usage.confirm_progress(what.fork, what.rseq, self.now, SDP_TYPE if body else (), body)
        call.stage = max(call.stage, Stage.ALERTING)
        call.early = what.fork or call.early

    def _answered(self, call: UaCall, usage: InviteUac, what: out.Answered) -> None:
        self._saw(f"{what.response.status} INVITE", what.response)
        session = usage.session
        assert session is not None
        body = self.sdp() if session.turn is Turn.THEY_OFFERED else b""
        session.acknowledge(what.response.cseq_number, SDP_TYPE if body else (), body)
        call.tag = session.dialog.local_tag + session.dialog.remote_tag
        call.status, call.stage = what.response.status, Stage.UP

    def _refused(self, call: UaCall, usage: InviteUac, what: out.Refused) -> None:
        response = what.response
        self._saw(f"{response.status} INVITE", response)
        credentials = self._credentials(usage.invite, response)
        if credentials is None:
            call.status = response.status
            self._over(call, "cancelled" if call.cancelled else "refused")
            return
        usage.again(self.now, (credentials,))
        call.attempts += 1
        if call.cancelled:
            usage.cancel(self.now)

    def _gave_up(self, call: UaCall, usage: ag.Usage, what: out.GaveUp) -> None:
        crossed = isinstance(usage, InviteUac) and usage.session is not None
        call.status = call.status or (200 if crossed else 408)
        self._over(call, "cancelled" if crossed else "no answer")

    def _replied(self, call: UaCall, usage: InDialog, what: out.Replied) -> None:
        request, response = what.request, what.response
        self._saw(f"{response.status} {request.method}", response)
        if request.method == "INVITE" and 200 <= response.status < 300:
            body = self.sdp() if usage.turn is Turn.THEY_OFFERED else b""
            usage.acknowledge(request.cseq_number, SDP_TYPE if body else (), body)
        if response.status < 200 or request.method not in ("INVITE", "UPDATE") or not usage.dialog.confirmed:
            return
        call.modifying = False
        if response.status == 491:
            wait = glare_wait_s(not call.received, 0.5)
            self.at(self.now + wait, lambda: self.modify(call, request.method, hold=call.hold))
        elif response.status in (408, 481) and call.stage is Stage.UP:
            self._within(call, "BYE")
            self._over(call, "lost")

    def _unanswered(self, call: UaCall, usage: InDialog, what: out.Unanswered) -> None:
        call.modifying = False
        if call.stage is Stage.UP and usage is self._session(call):
            self._within(call, "BYE")
            self._over(call, "lost")

    def _failed(self, event: ag.Failed) -> None:
        if event.request.method == "REGISTER":
            self.registered = 408

    def _nothing(self, call: UaCall, usage: ag.Usage, what: out.Up) -> None:
        """Nothing to do."""

    # --- what must be true in the end

    def assert_clean(self) -> None:
        """Nothing is under way or remembered."""
        assert all(call.stage is Stage.OVER for call in self.calls), self.calls
        assert not self.agent.usages, self.agent.usages
        assert self.agent.layer.active == 0, self.agent.layer
        assert self.agent.next_timeout is None


REACTIONS: dict[type, Callable[[Ua, Any], None]] = {
    Transmit: Ua._transmit,
    ag.Happened: Ua._happened,
    ag.Invited: Ua._invited,
    ag.Received: Ua._received,
    ag.Responded: Ua._responded,
    ag.Failed: Ua._failed,
    ag.Stray: Ua._stray,
}
SAID: dict[type, Callable[[Ua, UaCall, Any, Any], None]] = {
    out.Progressed: Ua._progressed,
    out.Answered: Ua._answered,
    out.Refused: Ua._refused,
    out.GaveUp: Ua._gave_up,
    out.Asked: Ua._asked,
    out.Replied: Ua._replied,
    out.Unanswered: Ua._unanswered,
    out.Acknowledged: Ua._acknowledged,
    out.Unconfirmed: Ua._unconfirmed,
    out.ProgressConfirmed: Ua._nothing,
    out.Cancelled: Ua._cancelled,
}


def new_request(method: str, uri: str, headers: out.Pairs, body: bytes = b"") -> Request:
    """A request outside of a dialog, with Max-Forwards; From, To, Call-ID and CSeq are among `headers`."""
    return Request(method, uri, Headers([("Max-Forwards", "70"), *headers]), body)


def statuses(ua: Ua, method: str) -> list[int]:
    """Statuses that a phone got for requests of a method, in order."""
    return [int(seen.split()[0]) for seen in ua.notes.seen if seen.endswith(f" {method}")]
