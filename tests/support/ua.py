"""A scripted SIP phone on `pbx_sip.endpoint`, for simulations: acts by its plan, at its times; notes what it saw.

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

from pbx_sip import endpoint as ep
from pbx_sip import endpoint_events as ev
from pbx_sip.address import Flow, HostPort, Transport
from pbx_sip.auth.digest import Challenge, respond
from pbx_sip.dialog.offer_answer import glare_wait_s
from pbx_sip.message.message import Request
from pbx_sip.tokens import CountingTokens
from pbx_sip.transaction.events import ClientKey, Transmit

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
    received: ev.Received | None = None
    """The INVITE, on the called side."""
    key: ClientKey | None = None
    live: ev.LiveDialog | None = None
    status: int = 0
    """Final status of the INVITE; 0: none came."""
    ended_by: str = ""
    """"self", "peer", or how it failed."""
    modifying: bool = False
    """A re-INVITE or UPDATE of ours is under way."""
    hold: bool = False
    early: ev.LiveDialog | None = None
    """The last early dialog that a provisional response made."""
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
        self.endpoint = ep.Endpoint(CountingTokens(user), str(address), f"<sip:{user}@{address}>")
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
        self.endpoint.receive(data, Flow(Transport.UDP, source, "udp"), now)
        self._drain()

    def handle_timeout(self, now: float) -> None:
        """Acts by plan, and lets the endpoint's timers fire."""
        self.now = now
        while self._todo and self._todo[0][0] <= now:
            heapq.heappop(self._todo)[2]()
            self._drain()
        self.endpoint.handle_timeout(now)
        self._drain()

    @property
    def next_timeout(self) -> float | None:
        """The next of both."""
        times = [self._todo[0][0]] if self._todo else []
        if self.endpoint.next_timeout is not None:
            times.append(self.endpoint.next_timeout)
        return min(times, default=None)

    def outgoing(self) -> list[tuple[bytes, HostPort]]:
        """What is to be sent."""
        sent, self._sent = self._sent, []
        return sent

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Does something at a time of the virtual clock."""
        heapq.heappush(self._todo, (when, next(self._order), act))

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
            *(("From", f"{aor};tag={self.endpoint.tokens.tag()}"), ("To", aor)),
            *(("Call-ID", f"reg-{self.user}"), ("CSeq", f"{next(self._cseq)} REGISTER"), ("Expires", str(expires_s))),
        )
        self._request(ep.new_request("REGISTER", f"sip:{domain}", headers))

    def call(self, user: str, *, offer: bool = True, reliable: bool = False, domain: str = "pbx.local") -> UaCall:
        """Calls somebody."""
        headers: ep.Pairs = (
            ("From", f"<sip:{self.user}@{domain}>;tag={self.endpoint.tokens.tag()}"),
            ("To", f"<sip:{user}@{domain}>"),
            ("Call-ID", self.endpoint.tokens.call_id()),
            ("CSeq", f"{next(self._cseq)} INVITE"),
            ("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE, PRACK, INFO, MESSAGE, OPTIONS"),
        )
        if reliable:
            headers += (("Supported", "100rel"),)
        if offer:
            headers += SDP_TYPE
        request = ep.new_request("INVITE", f"sip:{user}@{domain}", headers, self.sdp() if offer else b"")
        call = UaCall(Stage.INVITING)
        self.calls.append(call)
        call.key = self._request(request)
        return call

    def _request(self, request: Request) -> ClientKey:
        key = self.endpoint.send_request(request, self._proxy, self.now)
        self._drain()
        return key

    def cancel(self, call: UaCall) -> None:
        """Gives up before the answer."""
        if call.stage in (Stage.INVITING, Stage.ALERTING) and call.key is not None and not call.cancelled:
            call.cancelled = True
            self.endpoint.send_cancel(call.key, self.now)
            self._drain()

    def hang_up(self, call: UaCall) -> None:
        """Ends an answered call."""
        if call.stage is Stage.UP and call.live is not None:
            self._within(call, "BYE")
            self._over(call, "self")

    def modify(self, call: UaCall, method: str = "INVITE", *, hold: bool = False, offer: bool = True) -> None:
        """Changes the session: re-INVITE or UPDATE, unless one is under way."""
        if call.stage is Stage.UP and not call.modifying:
            call.modifying, call.hold = True, hold
            body = self.sdp(hold=hold) if offer else b""
            self._within(call, method, SDP_TYPE if offer else (), body)

    def tell(self, call: UaCall, method: str = "INFO", body: bytes = b"Signal=1") -> None:
        """Sends INFO or MESSAGE inside the call."""
        if call.stage is Stage.UP:
            self._within(call, method, (("Content-Type", "application/dtmf-relay"),), body)

    def tell_early(self, call: UaCall, method: str = "UPDATE", *, offer: bool = True) -> None:
        """Sends a request inside the early dialog, allowed or not: its answer is only noted."""
        live = call.early or call.live
        if call.stage is Stage.ALERTING and live is not None and live.dialog.key in self.endpoint.dialogs:
            body = self.sdp() if offer else b""
            call.cancelled = call.cancelled or method == "BYE"
            self.endpoint.send_within(live, method, self.now, headers=SDP_TYPE if offer else (), body=body)
            self._drain()

    def _within(self, call: UaCall, method: str, headers: ep.Pairs = (), body: bytes = b"") -> None:
        if call.live is not None:
            self.endpoint.send_within(call.live, method, self.now, headers=headers, body=body)
            self._drain()

    def _over(self, call: UaCall, how: str) -> None:
        if call.stage is not Stage.OVER:
            call.stage, call.ended_by = Stage.OVER, how

    # --- reacting

    def _drain(self) -> None:
        while events := self.endpoint.drain():
            for event in events:
                REACTIONS[type(event)](self, event)

    def _transmit(self, event: Transmit) -> None:
        self._sent.append((event.data, event.flow.remote))

    def _acknowledged(self, event: ev.Acknowledged) -> None:
        self.notes.acks += 1
        self.notes.seen.append("ACK")
        if event.request.body:
            self.notes.bodies.append(event.request.body)

    def _stray(self, event: ev.Stray) -> None:
        self.notes.strays += 1

    def _call_of(self, live: ev.LiveDialog | None) -> UaCall | None:
        return next((call for call in self.calls if live is not None and call.live is live), None)

    def _received(self, event: ev.Received) -> None:
        request = event.request
        self.notes.seen.append(request.method)
        if request.body:
            self.notes.bodies.append(request.body)
        if event.live is None:
            if request.method == "INVITE":
                self._invited(event)
            else:
                self._respond(event, 200)
            return
        call = self._call_of(event.live)
        if request.method == "BYE":
            self._respond(event, 200)
            if call is not None:
                self._over(call, "peer")
        elif request.method in ("INVITE", "UPDATE") and call is not None:
            self._modified(event, call)
        else:
            self._respond(event, 200)

    def _respond(self, event: ev.Received, status: int, body: bytes = b"", rseq: int = 0) -> ev.LiveDialog | None:
        return self.endpoint.send_response(
            event, status, self.now, headers=SDP_TYPE if body else (), body=body, rseq=rseq
        )

    def _invited(self, event: ev.Received) -> None:
        if any(call.stage is not Stage.OVER for call in self.calls):
            self._respond(event, 486)
            return
        call, plan = UaCall(Stage.ALERTING, event), self.plan
        self.calls.append(call)
        if plan.ring_after is not None:
            self.at(self.now + plan.ring_after, lambda: self._ring(call))
        if plan.answer_after is not None:
            self.at(self.now + plan.answer_after, lambda: self._answer(call))
        self.at(self.now + plan.rings_s, lambda: self._stop_ringing(call))

    def _ring(self, call: UaCall) -> None:
        if call.stage is Stage.ALERTING and call.received is not None and not call.status:
            takes = "100rel" in call.received.request.headers.tokens("Supported")
            body = self.sdp() if self.plan.ring_sdp else b""
            rseq = 7000 if self.plan.reliable and takes else 0
            call.live = self._respond(call.received, self.plan.ring_status, body, rseq)

    def _answer(self, call: UaCall) -> None:
        if call.stage is not Stage.ALERTING or call.received is None:
            return
        if call.live is not None and call.live.progress is not None and call.live.progress.waiting:
            self.at(self.now + 0.2, lambda: self._answer(call))  # "MUST NOT send the 2xx before" (RFC 3262 section 3)
            return
        status = call.status = self.plan.answer_status
        if status >= 300:
            headers = tuple(("Contact", contact) for contact in self.plan.contacts)
            self.endpoint.send_response(call.received, status, self.now, headers=headers)
            self._over(call, "self")
            return
        call.stage = Stage.UP
        call.live = self._respond(call.received, status, self.sdp() if self.plan.answer_sdp else b"")

    def _stop_ringing(self, call: UaCall) -> None:
        if call.stage is Stage.ALERTING and call.received is not None:
            call.status = 480
            self._respond(call.received, 480)
            self._over(call, "self")

    def _modified(self, event: ev.Received, call: UaCall) -> None:
        unanswered = call.live is not None and call.live.answer is not None
        if call.modifying or (unanswered and event.request.method == "INVITE"):
            self._respond(event, 491)
        elif self.plan.reply_inside >= 300:
            self._respond(event, self.plan.reply_inside)
        else:
            wants = event.request.method == "INVITE" or event.request.body
            self._respond(event, self.plan.reply_inside, self.sdp() if wants else b"")

    def _cancelled(self, event: ev.Cancelled) -> None:
        self.notes.seen.append("CANCEL")
        for call in self.calls:
            received = call.received
            if received is not None and received.key == event.key and call.stage is Stage.ALERTING:
                call.status = 487
                self._respond(received, 487)
                self._over(call, "cancelled")

    def _unconfirmed(self, event: ev.Unconfirmed) -> None:
        call = self._call_of(event.live)
        if call is None:
            return
        if event.waits is ev.Waits.ANSWER:
            self._within(call, "BYE")
        elif call.received is not None and call.stage is Stage.ALERTING:
            self._respond(call.received, 504)
        self._over(call, f"unconfirmed {event.waits.name.lower()}")

    def _responded(self, event: ev.Responded) -> None:
        request, response = event.request, event.response
        self.notes.seen.append(f"{response.status} {request.method}")
        if response.body:
            self.notes.bodies.append(response.body)
        if request.method == "REGISTER":
            if not self._authenticated(event) and response.status >= 200:
                self.registered = response.status
            return
        if request.method == "INVITE" and not request.to_tag:
            self._invite_responded(event)
            return
        call = self._call_of(event.live)
        if request.method == "INVITE" and 200 <= response.status < 300 and event.live is not None:
            self._ack(event)
        if call is None or response.status < 200 or request.method not in ("INVITE", "UPDATE"):
            return
        call.modifying = False
        if response.status == 491:
            wait = glare_wait_s(call.received is None, 0.5)
            self.at(self.now + wait, lambda: self.modify(call, request.method, hold=call.hold))
        elif response.status in (408, 481) and call.stage is Stage.UP:
            self._within(call, "BYE")
            self._over(call, "lost")

    def _ack(self, event: ev.Responded) -> None:
        assert event.live is not None
        answers = bool(event.response.body) and not event.request.body
        body = self.sdp() if answers else b""
        self.endpoint.send_ack(
            event.live, event.request.cseq_number, self.now, headers=SDP_TYPE if body else (), body=body
        )

    def _invite_responded(self, event: ev.Responded) -> None:
        response, live = event.response, event.live
        call = next((call for call in self.calls if call.key == event.key), None)
        if call is None:
            return
        if response.status < 200:
            if event.rseq and live is not None:
                rack = (("RAck", f"{event.rseq} {event.request.cseq_number} INVITE"),)
                self.endpoint.send_within(live, "PRACK", self.now, headers=rack)
            call.stage = max(call.stage, Stage.ALERTING)
            call.early = live or call.early
            return
        if response.status >= 300:
            if not self._authenticated(event, call):
                call.status = response.status
                self._over(call, "cancelled" if call.cancelled else "refused")
            return
        assert live is not None
        self._ack(event)
        if call.live is not None or call.cancelled:
            # Another fork, or the 200 was faster than our CANCEL (RFC 3261 section 13.2.2.4 and 15).
            self.endpoint.send_within(live, "BYE", self.now)
            call.status = call.status or response.status
            self._over(call, "cancelled")
            return
        call.live, call.status, call.stage = live, response.status, Stage.UP

    def _authenticated(self, event: ev.Responded, call: UaCall | None = None) -> bool:
        """Sends the request again with credentials; False where that was tried, or there are none."""
        name = {401: ("WWW-Authenticate", "Authorization"), 407: ("Proxy-Authenticate", "Proxy-Authorization")}
        old, response = event.request, event.response
        if response.status not in name or not self.password or name[response.status][1] in old.headers:
            return False
        challenge = Challenge.parse(response.headers.all(name[response.status][0])[0])
        answer = respond(challenge, self.user, self.password, old.method, old.uri, cnonce="0a1b", body=old.body)
        again = Request(old.method, old.uri, old.headers.copy(), old.body)
        again.headers.remove("Via")
        again.headers.set("CSeq", f"{next(self._cseq)} {old.method}")
        again.headers.set(name[response.status][1], str(answer))
        key = self._request(again)
        if call is not None:
            call.key, call.attempts = key, call.attempts + 1
            if call.cancelled:
                self.endpoint.send_cancel(key, self.now)
        return True

    def _failed(self, event: ev.Failed) -> None:
        for call in self.calls:
            if call.key == event.key:
                call.status = call.status or 408
                self._over(call, "no answer")
            elif event.live is not None and call.live is event.live:
                call.modifying = False
                if event.request is not None and event.request.method != "BYE" and call.stage is Stage.UP:
                    self._within(call, "BYE")
                    self._over(call, "lost")
        if event.request is not None and event.request.method == "REGISTER":
            self.registered = 408

    # --- what must be true in the end

    def assert_clean(self) -> None:
        """Nothing is under way or remembered."""
        assert all(call.stage is Stage.OVER for call in self.calls), self.calls
        assert not self.endpoint.dialogs, self.endpoint.dialogs
        assert self.endpoint.layer.active == 0, self.endpoint.layer
        assert self.endpoint.next_timeout is None


REACTIONS: dict[type, Callable[[Ua, Any], None]] = {
    Transmit: Ua._transmit,
    ev.Received: Ua._received,
    ev.Responded: Ua._responded,
    ev.Cancelled: Ua._cancelled,
    ev.Acknowledged: Ua._acknowledged,
    ev.Unconfirmed: Ua._unconfirmed,
    ev.Failed: Ua._failed,
    ev.Stray: Ua._stray,
}


def statuses(ua: Ua, method: str) -> list[int]:
    """Statuses that a phone got for requests of a method, in order."""
    return [int(seen.split()[0]) for seen in ua.notes.seen if seen.endswith(f" {method}")]
