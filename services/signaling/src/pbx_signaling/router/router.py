"""The B2BUA without I/O: bytes and time in; transmissions, questions to the world and events out.

    core.receive(data, flow, now)     a datagram, or a framed message of a stream
    core.signal(call_id, signal, now) an answer of the world (registrar, relay, administrator)
    core.handle_timeout(now)          when next_timeout is due
    core.drain()                      what is to be done, in order; call it after each of the others

One `Step` is what one input caused: the events of a call that must be written before the transmissions of the
same step are sent (write-ahead), and the transmissions.
Everything that happens to one call happens in the order of its steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pbx_signaling.border import wire
from pbx_signaling.border.border import Border
from pbx_signaling.calls import commands as c
from pbx_signaling.calls.signals import Signal, Target
from pbx_signaling.counters import Counters
from pbx_signaling.effects.step import Ask, Output, Step
from pbx_signaling.legs.caller import InboundLeg
from pbx_signaling.legs.leg import Leg
from pbx_signaling.legs.sent import Sent
from pbx_signaling.router.admission import Gate
from pbx_signaling.router.oversize import Oversize
from pbx_signaling.router.quota import Quotas
from pbx_signaling.users.calls import Calls
from pbx_signaling.users.entry import Entry
from pbx_signaling.users.messages import Delivery
from pbx_signaling.users.waiting import WaitingRoom
from pbx_sip.address import Transport
from pbx_sip.errors import RemoteError
from pbx_sip.message.message import Request, Response
from pbx_sip.message.parse import parse
from pbx_sip.message.validate import validate_request, validate_response
from pbx_sip.transaction import events as tx
from pbx_sip.transaction.deadlines import Deadlines
from pbx_sip.transaction.key import invite_key_of, reply_flow, server_key, take_via, via_of
from pbx_sip.transaction.layer import TransactionLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pbx_signaling.config import CoreConfig
    from pbx_signaling.identity import Identity
    from pbx_signaling.replicas.peering import Peering
    from pbx_signaling.router.addressing import Addressing
    from pbx_signaling.users.keepalive import KeepAlive
    from pbx_signaling.users.messages import Pager
    from pbx_signaling.users.registrations import Registration
    from pbx_sip.address import Flow, HostPort


class Core:
    """Joins the transaction layer, the users of transactions and the steps. Implements SipPort for legs."""

    def __init__(self, config: CoreConfig, addressing: Addressing, identity: Identity, gate: Gate) -> None:
        self.now = 0.0
        self.config = config
        self.timers = config.timers
        self.sessions = config.sessions
        addressing.hops.proxies, addressing.hops.reachable = config.proxies, config.reachable
        self.border = Border(config.domain, config.headers, config.trusted, addressing.hops.means_us)
        self.counters = Counters()
        self.quotas = Quotas(config.quotas)
        self.layer = TransactionLayer(config.timers, config.transactions_max, tells_ends=False, admit=self._admit)
        self.draining = False
        self.journal_ready = True
        """Whether events can be written; without it no new call begins."""
        self.call_user = Calls(config, self, gate, identity, addressing)
        self.calls = self.call_user.table
        self.legs = self.call_user.legs
        """Local tag to leg."""
        self._addressing = addressing
        self._identity = identity
        self._gate = gate
        self._deadlines = Deadlines()
        self.waiting = WaitingRoom(self, gate, self._deadlines.schedule)
        self._output: list[Output] = []
        self._octets = 0
        """Of the message under way: an answer to a stranger is measured by it."""
        self._step = Step(None)
        self.oversize = Oversize(addressing)
        self.registration: Registration | None = None
        """Set by the composition root; REGISTER is answered 503 without it."""
        self.keepalive: KeepAlive | None = None
        """Set by the composition root where phones behind NATs are kept reachable."""
        self.peering: Peering | None = None
        """Set by the composition root where there may be other replicas."""
        self.pager: Pager | None = None
        """Set by the composition root; MESSAGE outside of a dialog is answered 503 without it."""

    # --- the four verbs

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """Takes one message in; never raises for anything that a peer can send. `drain` next."""
        self.now = now
        self._octets = len(data)
        self.counters.messages_in += 1
        sources = self._gate.sources
        if (
            sources.unread
            and sources.is_unread(data, flow.remote, now)
            and not self._gate.holds_nonce(data, flow, self)
        ):
            self.counters.messages_unread += 1
            return
        answer = self._gate.glance(data, flow, self)
        if answer is not None:
            if answer[0]:
                self._step.transmits.append(answer)
            self.settle()
            return
        try:
            message = parse(data)
            if self.peering is not None and (owner := self.peering.owner_of(message, flow)):
                if sources.carries(flow.remote, now):
                    self.peering.hand_over(owner, data, flow)
                else:
                    self.counters.messages_unread += 1
                return
            if type(message) is Request:
                self._request_in(message, flow)
            else:
                assert isinstance(message, Response)
                validate_response(message)
                self.layer.receive(message, flow, now)
        except RemoteError as error:
            self._reject_bytes(data, error, flow)
        self.settle()

    def signal(self, call_id: str, signal: Signal, now: float) -> None:
        """Takes an answer of the world in; dropped where the call has ended. `drain` next."""
        if call_id not in self.calls:
            return
        self.now = now
        self.call_user.signal(call_id, signal)
        self.settle()

    def proved(self, source: HostPort) -> None:
        """A request outside of a dialog proved its user."""
        self._gate.sources.proved(source, self.now)

    def handle_timeout(self, now: float) -> None:
        """Lets everything happen that was due at `now`. `drain` next."""
        self.now = now
        self.layer.handle_timeout(now)
        self.settle()
        for owner, what in self._deadlines.expire(now):
            if isinstance(owner, Entry):
                self.call_user.expired(owner, what)
            else:
                owner.expired(what)
            self.settle()

    @property
    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due."""
        mine, layers = self._deadlines.next_timeout, self.layer.next_timeout
        if mine is None or layers is None:
            return mine if layers is None else layers
        return min(mine, layers)

    def drain(self) -> list[Output]:
        """What is to be done, in order."""
        output, self._output = self._output, []
        return output

    @property
    def stalled(self) -> bool:
        """Events cannot be written, and not only for a moment: no call is taken."""
        return not self.journal_ready and not self.waiting.is_open

    @property
    def unanswered(self) -> int:
        """Requests of ours that wait for their final response: BYEs among them."""
        return self.layer.awaiting

    @property
    def instance(self) -> str:
        """Our id: also the user of our Contacts."""
        return self._addressing.instance

    def means_us(self, host: str, view: str = "") -> bool:
        """Whether a host in a URI may be this product, for a peer whose own address has the host `view`."""
        return self._addressing.hops.means_us(host, view)

    @property
    def wall_s(self) -> float:
        """Now in seconds since the Unix epoch: what nonces are dated with, here and at the registrar."""
        return self._identity.wall_ms(self.now) / 1000

    def awaits_cancel(self, data: bytes, flow: Flow) -> bool:
        """Whether a CANCEL is for a transaction that is here, or for none that anybody could have."""
        try:
            request = parse(data)
        except RemoteError:
            return True  # answered, or dropped, where it came
        if not isinstance(request, Request):
            return True
        key = server_key(request, take_via(request, flow))
        return self.layer.knows(key) or self.layer.knows(invite_key_of(key))

    # --- administration

    def end_all(self, reason: str, now: float) -> None:
        """Takes no new call from now on and ends those there are: BYE to both legs, or a final response."""
        self.draining, self.now = True, now
        self.waiting.close()
        self.settle()
        for call_id in list(self.calls):
            self.call_user.end(call_id, reason)
            self.settle()
        for leg in list(self.legs.values()):
            self.call_user.part(leg)
            self.settle()

    def journal(self, ready: bool, now: float) -> None:
        """Events can be written again, or not any more. `drain` next."""
        self.now, self.journal_ready = now, ready
        if not ready:
            self.waiting.open()
        else:
            self.waiting.over()
        self.settle()

    def transport_failed(self, flow: Flow, now: float) -> None:
        """A flow broke: what was under way on it fails at once. `drain` next."""
        self.now = now
        self.layer.transport_failed(flow, now)
        if self.registration is not None:
            self.registration.flow_broken(flow, now)
        self.settle()

    # --- messages

    def _request_in(self, request: Request, flow: Flow) -> None:
        validate_request(request)
        self.counters.count(request.method if request.method in wire.KNOWN_METHODS else "other")
        self.layer.receive(request, flow, self.now)

    def _admit(self, request: Request, flow: Flow) -> bytes | None:
        return self._gate.screen(request, flow, self, self._octets)

    def _reject_bytes(self, data: bytes, error: RemoteError, flow: Flow) -> None:
        """Answers what can be answered of a message that is none (RFC 3261 section 16.3, RFC 4475)."""
        self.counters.messages_rejected += 1
        if not self.border.trusts(flow) and not self._gate.sources.admits(flow.remote, self.now):
            return
        answer = self._gate.answer_to_garbage(data, error)
        if answer is None:
            return
        octets = self._gate.answer(answer, flow, len(data))
        if octets:
            self._step.transmits.append((octets, reply_flow(via_of(answer), flow)))

    def settle(self) -> None:
        """Handles what the transaction layer has to say until it is silent, and closes the step."""
        layer = self.layer
        while outputs := layer.drain():
            for output in outputs:
                HANDLERS[type(output)](self, output)
        step = self._step
        if step.transmits or step.records:
            self._output.append(step)
            self._step = Step(None)
        else:
            step.entry = None  # what comes next may be about another call

    def _transmit(self, output: tx.Transmit) -> None:
        self._step.transmits.append((output.data, output.flow))

    def _request_received(self, output: tx.RequestReceived) -> None:
        request = output.request
        to_tag = request.to_tag
        if to_tag:
            self.call_user.request(output.key, request, output.flow)
        elif request.method == "INVITE":
            if self.journal_ready:
                self.begin(output.key, request, output.flow)
            else:
                self.layer.own(output.key, self.waiting)
                self.waiting.enter(output.key, request, output.flow)
        elif request.method in ("MESSAGE", "OPTIONS"):
            assert self.pager is not None
            self.pager.received(output.key, request, output.flow)
        else:
            assert self.registration is not None
            self.registration.received(output.key, request, output.flow)

    def _cancel_received(self, output: tx.CancelReceived) -> None:
        leg = output.invite_owner
        if isinstance(leg, Leg):
            self.call_user.cancelled(leg, output.invite_key, output.request)
        elif leg is self.waiting:
            self.waiting.cancelled(output.invite_key)

    def _ack_received(self, output: tx.AckReceived) -> None:
        self.call_user.acknowledged(output.request)

    def _response_received(self, output: tx.ResponseReceived) -> None:
        sent = output.owner
        self.oversize.answered(output.key)
        if isinstance(sent, Sent):
            self.call_user.response(sent, output.response)
        elif isinstance(sent, Delivery) and self.pager is not None:
            self.pager.responded(sent, output.response)

    def _stray_response(self, output: tx.StrayResponse) -> None:
        if self.keepalive is not None and self.keepalive.answered(output.response, self.now):
            return
        self.call_user.stray(output.response)

    def _transaction_failed(self, output: tx.TransactionFailed) -> None:
        owner = output.owner
        if isinstance(owner, Sent):
            self.call_user.about(owner.leg)
            if not self.oversize.sent_again(output.key, owner, self):
                self.call_user.failed(owner, output.cause is tx.FailureCause.TRANSPORT)
        elif isinstance(owner, InboundLeg):
            self.call_user.aborted(owner)
        elif owner is self.waiting:
            self.waiting.lost(output.key)
        elif (
            isinstance(owner, Delivery)
            and self.pager is not None
            and not self.oversize.sent_again(output.key, owner, self)
        ):
            self.pager.failed(owner, output.cause is tx.FailureCause.TRANSPORT)

    # --- what calls need

    def begin(self, key: Any, request: Request, flow: Flow) -> None:
        """A new call attempt that passed the gate."""
        self.call_user.begin(key, request, flow)

    def about(self, entry: Entry) -> None:
        """What is sent from now on belongs to that call, if it belongs to none yet."""
        if self._step.entry is None:
            self._step.entry = entry

    def record(self, entry: Entry, emit: c.Emit) -> None:
        """Writes an event before what the step sends."""
        if self._step.entry is not entry:
            self._settle_step(entry)
        self._step.records.append(emit)

    def _settle_step(self, entry: Entry) -> None:
        """Begins another step: records belong to the step of their own call."""
        if self._step.transmits or self._step.records:
            self._output.append(self._step)
        self._step = Step(entry)

    def ask(self, entry: Entry, command: Any) -> None:
        """Puts a question of a call to the world."""
        self._output.append(Ask(entry, command))

    # --- SipPort

    def send(self, request: Request, flow: Flow, sent: Sent) -> Any:
        """Sends a request in a transaction of its own; a large one over TCP where the peer can be reached so."""
        if flow.transport is Transport.UDP and request.body:
            return self.oversize.send(request, flow, sent, self)
        return self.layer.request(request, flow, self.now, sent, sent.patience_s)

    def send_ack(self, request: Request, flow: Flow) -> None:
        """Sends an ACK for a 2xx."""
        self.layer.transmit(request, flow)

    def transmit(self, request: Request, flow: Flow) -> None:
        """Sends a request without a transaction; its answer is a stray one."""
        self.layer.transmit(request, flow)

    def own(self, key: Any, leg: Leg) -> None:
        """Tells `leg` of the CANCEL of an INVITE."""
        self.layer.own(key, leg)

    def cancel(self, key: Any, reasons: list[str]) -> None:
        """Cancels an INVITE that was sent."""
        self.layer.cancel(key, self.now, [("Reason", value) for value in reasons])

    def respond(self, key: Any, response: Response) -> None:
        """Answers a request."""
        self.layer.respond(key, response, self.now)

    def via(self, flow: Flow) -> str:
        """A Via value with a fresh branch."""
        return self._addressing.via(flow, self._identity.branch())

    def contact(self, flow: Flow, secure: bool) -> str:
        """Our Contact value."""
        return self._addressing.contact(flow, secure)

    def route(self, uri: str, default: Flow) -> Flow:
        """The flow to a next hop."""
        return self._addressing.route(uri, default)

    def can_reach(self, uri: str, flow: Flow) -> bool:
        """Whether the peer at the end of a connection can be reached by another one, at a URI of its own."""
        return self._addressing.can_reach(uri, flow)

    def names_hop(self, uri: str, flow: Flow) -> bool:
        """Whether a URI of the peer at the end of a flow says where to send."""
        return self._addressing.names_hop(uri, flow)

    def first_hop(self, target: Target) -> str:
        """The URI of the hop that leads to a binding."""
        return self._addressing.first_hop(target)

    def anew(self, uri: str, gone: Flow) -> Flow | None:
        """The flow to a peer whose connection is gone, to the address that its URI names."""
        return self._addressing.anew(uri, gone)

    def unreachable(self, aor: str, flow: Flow) -> None:
        """Removes a binding whose connection is gone, and in whose place no other could be made."""
        if self.registration is not None:
            self.registration.unreachable(aor, flow)

    def tag(self) -> str:
        """A fresh tag."""
        return self._identity.tag()

    def sip_call_id(self) -> str:
        """A fresh Call-ID."""
        return self._identity.sip_call_id()

    def schedule(self, owner: Any, at: float, what: int) -> object:
        """Calls `owner.expired(what)` at `at`; a leg, or whoever has that method."""
        return self._deadlines.schedule(at, owner, what)

    def unschedule(self, handle: Any) -> None:
        """Forgets a deadline."""
        self._deadlines.cancel(handle)

    def tell(self, leg: Leg, signal: Signal) -> None:
        """Hands a call-control event to the leg's call."""
        self.call_user.tell(leg, signal)

    def listen(self, local_tag: str, leg: Leg) -> None:
        """Requests with that To-tag go to the leg."""
        self.call_user.listen(local_tag, leg)

    def forget(self, local_tag: str) -> None:
        """Ends that."""
        self.call_user.forget(local_tag)


HANDLERS: Final[Mapping[type, Callable[[Core, Any], None]]] = {
    tx.Transmit: Core._transmit,
    tx.RequestReceived: Core._request_received,
    tx.CancelReceived: Core._cancel_received,
    tx.AckReceived: Core._ack_received,
    tx.ResponseReceived: Core._response_received,
    tx.StrayResponse: Core._stray_response,
    tx.TransactionFailed: Core._transaction_failed,
}
