"""The transaction layer (RFC 3261 section 17): matches messages to machines, keeps their timers, bounds their
number.

    layer.receive(message, flow, now)              a parsed and validated message
    key = layer.request(request, flow, now, owner) sends a request in a transaction of its own
    layer.respond(key, response, now)              answers one
    layer.cancel(key, now, headers)                cancels an INVITE that was sent
    layer.transmit(message, flow)                  sends outside of any transaction: the ACK for a 2xx
    layer.handle_timeout(now)                      when next_timeout is due
    layer.drain()                                  what happened, in order; call it after each of the others

CANCEL and the ACK for a refusal are answered and absorbed here; the transaction user sees what is left to
decide. A response goes back down the flow on which its request came (RFC 3581 section 4, RFC 5626), or to the
port of its Via at the same host (`key.reply_flow`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from pbx_sip.address import Flow
from pbx_sip.errors import LocalError
from pbx_sip.message.message import METHODS, Message, Request, Response, response_to
from pbx_sip.message.serialize import serialize
from pbx_sip.transaction import invite_server
from pbx_sip.transaction.client import Client
from pbx_sip.transaction.deadlines import Deadlines
from pbx_sip.transaction.events import (
    AckReceived,
    CancelReceived,
    ClientKey,
    FailureCause,
    Output,
    RequestReceived,
    ResponseReceived,
    ServerKey,
    ServerTransactionEnded,
    StrayResponse,
    TransactionFailed,
    Transmit,
)
from pbx_sip.transaction.frozen import FrozenTransaction, freeze, thaw
from pbx_sip.transaction.invite_client import InviteClient, Pairs
from pbx_sip.transaction.invite_server import InviteServer
from pbx_sip.transaction.key import (
    client_key,
    identity_of_cancelled,
    invite_key_of,
    merge_identity,
    reply_flow,
    server_key,
    stateless_tag,
    take_via,
)
from pbx_sip.transaction.machine import Machine
from pbx_sip.transaction.server import Server
from pbx_sip.transaction.timers import DEFAULT, Timers

LIMIT: Final = 200_000
"""Transactions at once, lingering ones included: 32 s at 1 000 calls/s with six each. Threat: memory (about 1
KiB each). Kamailio and OpenSIPS stop where their shared memory ends; PJSIP at a fixed pool
(PJSIP_MAX_TSX_COUNT)."""
RETRY_AFTER_S: Final = 5
"""What a request that is refused for want of room is told."""


class _Unheard:
    """Owner of our CANCELs: nobody wants to hear of them."""

    __slots__ = ("invite_owner",)

    def __init__(self, invite_owner: Any = None) -> None:
        self.invite_owner = invite_owner


_OURS: Final = "-"
"""Its name in a frozen transaction."""

Admission = Callable[[Request, Flow], bytes | None]
"""Asked once about each request that belongs to no transaction, ACKs aside: what answers it without one, as it is sent
(empty: nothing does), or None where it is to have one."""


def _admit(request: Request, flow: Flow) -> bytes | None:
    return None


class TransactionLayer:
    """All transactions of one endpoint. Implements `machine.Host` for its machines."""

    def __init__(self, timers: Timers = DEFAULT, limit: int = LIMIT, *, tells_ends: bool = True) -> None:
        """`tells_ends`: whether ServerTransactionEnded is said, for users that keep something with a key."""
        self._admit: Admission = _admit
        self._tells_ends = tells_ends
        self.timers = timers
        self.limit = limit
        """Beyond it a request outside of a dialog is refused; one inside a dialog only an eighth beyond, so
        that calls can still end. Requests of our own are never refused: their number follows from that of the
        calls."""
        self.retransmissions = 0
        """Requests and responses that were sent again."""
        self.refused = 0
        """Requests answered 503 because the table was full."""
        self.merged = 0
        """Requests answered 482 because they came twice over different ways."""
        self._now = 0.0
        self._flow: Any = None
        """Of the message under way."""
        self._clients: dict[ClientKey, InviteClient | Client] = {}
        self._servers: dict[ServerKey, InviteServer | Server] = {}
        self._merge: dict[str, ServerKey] = {}
        """Requests outside of a dialog by what their copies share (section 8.2.2.2)."""
        self._merge_of: dict[ServerKey, str] = {}
        self._by_flow: dict[Flow, set[Machine]] = {}
        """Those on connections, so that a broken one does not cost a look at all the others."""
        self._deadlines = Deadlines()
        self._output: list[Output] = []

    def __repr__(self) -> str:
        """For a reader: how many of which."""
        return f"<TransactionLayer {len(self._clients)} client, {len(self._servers)} server, {self._deadlines!r}>"

    @property
    def active(self) -> int:
        """Transactions, lingering ones included."""
        return len(self._clients) + len(self._servers)

    @property
    def active_client(self) -> int:
        """Client transactions, lingering ones included."""
        return len(self._clients)

    @property
    def active_server(self) -> int:
        """Server transactions, lingering ones included."""
        return len(self._servers)

    @property
    def awaiting(self) -> int:
        """Client transactions without a final response: what a process that stops may still want to wait for."""
        return sum(machine.is_awaiting for machine in self._clients.values())

    # --- verbs

    def receive(self, message: Message, flow: Flow, now: float, admit: Admission = _admit) -> None:
        """Takes a message in; bytes that break rules are the caller's to refuse before. `drain` next.

        `admit` keeps requests from getting a transaction. A repetition of one that has it is not asked about: what
        was taken on stays so, however full it has become.
        """
        self._now = now
        self._admit = admit
        self._flow = flow
        if type(message) is Request:
            self._receive_request(message, flow)
        else:
            assert isinstance(message, Response)
            self._receive_response(message, flow)

    def request(self, request: Request, flow: Flow, now: float, owner: Any, patience_s: float = 0.0) -> ClientKey:
        """Sends a request other than ACK, whose Via with a fresh branch the caller has put on top. `drain`
        next.

        `owner` comes back with each output about it. Raises LocalError where the branch is in use, is
        missing, or the method is ACK.

        `patience_s`: how long to wait for a first response instead of 64*T1, where a peer is thought to be gone; 0: so.
        """
        self._now = now
        method = METHODS.get(request.method, request.method)
        key = (request.branch, method)
        if not key[0] or key in self._clients or method == "ACK":
            raise LocalError(f"no transaction of its own: {request!r}")
        machine = (InviteClient if method == "INVITE" else Client)(key, flow, owner, request)
        self._clients[key] = machine
        if flow.transport.reliable:
            self._by_flow.setdefault(flow, set()).add(machine)
        machine.start(self)
        if 0.0 < patience_s < self.timers.timeout:
            machine.hurry(patience_s, self)
        return key

    def knows(self, key: ServerKey) -> bool:
        """Whether a request with that key belongs to a transaction that there is."""
        return key in self._servers

    def give_up(self, key: ClientKey, now: float) -> None:
        """Ends a request that has no final response, as if its flow had broken. `drain` next."""
        self._now = now
        machine = self._clients.get(key)
        if machine is not None:
            machine.step(machine.TRANSPORT_ERROR, None, self)

    def respond(self, key: ServerKey, response: Response, now: float, owner: Any = None) -> None:
        """Answers a request; dropped where its transaction has ended or was answered. `drain` next.

        `owner` comes back with what is sent, where the transaction has none: after its final response it keeps none.
        """
        self._now = now
        machine = self._servers.get(key)
        if machine is None:
            return
        if response.status in (401, 407):
            # Deliberately lenient: some phones send their credentials with the CSeq of the challenged
            # request.
            self._forget_identity(key)
        output = self._output
        begun = len(output)
        machine.respond(response, self)
        if owner is not None:
            for sent in output[begun:]:
                if type(sent) is Transmit and sent.owner is None:
                    sent.owner = owner

    def own(self, key: ServerKey, owner: Any) -> None:
        """Attaches an owner to a server transaction: `CancelReceived` and `TransactionFailed` bring it
        back."""
        machine = self._servers.get(key)
        if machine is not None:
            machine.owner = owner

    def cancel(self, key: ClientKey, now: float, headers: Pairs | None = None) -> None:
        """Cancels an INVITE that was sent: at once, or when its first provisional response comes (section
        9.1).

        Nothing happens where it has its final response. Else that comes still: 487, or a 2xx that was faster,
        or TransactionFailed after 64*T1. `drain` next.
        """
        self._now = now
        machine = self._clients.get(key)
        if isinstance(machine, InviteClient):
            machine.cancel(headers or [], self)

    def transmit(self, message: Message, flow: Flow, owner: Any = None) -> None:
        """Sends a message outside of any transaction: the ACK for a 2xx, a stateless response. `drain`
        next. `owner` comes back with the output."""
        self._output.append(Transmit(serialize(message), flow, owner))

    def transport_failed(self, flow: Flow, now: float) -> None:
        """A flow broke: transactions on it fail at once (sections 17.1.4 and 17.2.4). `drain` next."""
        self._now = now
        for machine in list(self._machines_on(flow)):
            machine.step(machine.TRANSPORT_ERROR, None, self)

    def _machines_on(self, flow: Flow) -> Iterable[Machine]:
        if flow.transport.reliable:
            return self._by_flow.get(flow, ())
        machines: list[Machine] = [*self._clients.values(), *self._servers.values()]
        return [machine for machine in machines if machine.flow == flow]

    def handle_timeout(self, now: float) -> None:
        """Lets timers fire that were due at `now`. `drain` next."""
        self._now = now
        for machine, signal in self._deadlines.expire(now):
            machine.step(signal, None, self)

    @property
    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due; None where nothing waits."""
        return self._deadlines.next_timeout

    def drain(self) -> list[Output]:
        """What happened since the last call, in order."""
        output, self._output = self._output, []
        return output

    # --- as a value

    def freeze(self, name_of: Callable[[Any], str], wall: Callable[[float], float]) -> tuple[FrozenTransaction, ...]:
        """All transactions as values; call it after `drain`.

        `name_of` gives an owner the name by which `thaw` finds it; `wall` turns times into wall-clock times.
        """
        machines: list[Machine] = [*self._clients.values(), *self._servers.values()]
        return tuple(
            freeze(
                machine,
                self._deadlines,
                _OURS if type(machine.owner) is _Unheard else "" if machine.owner is None else name_of(machine.owner),
                self._merge_of.get(machine.key, ""),  # type: ignore[arg-type]  # a client's key is in no server's table
                wall,
            )
            for machine in machines
        )

    def thaw(self, frozen: FrozenTransaction, owner_of: Callable[[str], Any], local: Callable[[float], float]) -> None:
        """Goes on with a transaction of another process. Raises LocalError where one with its key is here."""
        key: Any = frozen.key
        table: dict[Any, Any] = self._clients if "client" in frozen.kind else self._servers
        if key in table:
            raise LocalError(f"a transaction with the key {key} is here")
        owner = _Unheard() if frozen.owner == _OURS else owner_of(frozen.owner) if frozen.owner else None
        machine = table[key] = thaw(frozen, self._deadlines, owner, local)
        if frozen.flow.transport.reliable:
            self._by_flow.setdefault(frozen.flow, set()).add(machine)
        if frozen.merge_identity:
            self._merge[frozen.merge_identity], self._merge_of[key] = key, frozen.merge_identity

    # --- receiving

    def _receive_response(self, response: Response, flow: Flow) -> None:
        machine = self._clients.get(client_key(response))
        if machine is None:
            self._output.append(StrayResponse(response, flow))
        else:
            machine.receive(response, self)

    def _receive_request(self, request: Request, flow: Flow) -> None:
        via = take_via(request, flow)
        key = server_key(request, via)
        machine = self._servers.get(key)
        if request.method == "ACK":
            if machine is None:
                self._output.append(AckReceived(request, flow))
            else:
                machine.step(invite_server.Signal.ACK, request, self)
        elif machine is not None:
            machine.step(machine.REQUEST, request, self)
        elif request.method == "CANCEL" and self._is_cancelled_by(request, key, flow):
            self._receive_cancel(key, request, reply_flow(via, flow))
        elif (answer := self._admit(request, flow)) is not None:
            if answer:
                self._output.append(Transmit(answer, reply_flow(via, flow)))
        elif request.method == "CANCEL":
            self._refuse(request, reply_flow(via, flow), 481)
        else:
            self._begin(key, request, flow, reply_flow(via, flow))

    def _begin(self, key: ServerKey, request: Request, flow: Flow, back: Flow) -> None:
        """A request that belongs to no transaction yet; its answers go `back`."""
        in_dialog = request.to_tag
        if self._is_full(in_dialog):
            self.refused += 1
            self._refuse(request, back, 503)
            return
        identity = merge_identity(request)
        if not in_dialog:
            if identity in self._merge:
                self.merged += 1
                self._refuse(request, back, 482)
                return
            self._merge[identity] = key
            self._merge_of[key] = identity
        machine = self._open(key, back, InviteServer if key[1] == "INVITE" else Server)
        if isinstance(machine, InviteServer):
            machine.identity = identity
        self._output.append(RequestReceived(key, request, flow))

    def _open(self, key: ServerKey, flow: Flow, kind: type[InviteServer | Server]) -> InviteServer | Server:
        machine = self._servers[key] = kind(key, flow)
        if flow.transport.reliable:
            self._by_flow.setdefault(flow, set()).add(machine)
        machine.start(self)
        return machine

    def _is_full(self, in_dialog: str) -> bool:
        active = len(self._clients) + len(self._servers)
        return active >= self.limit and (not in_dialog or active >= self.limit + self.limit // 8)

    def _refuse(self, request: Request, flow: Flow, status: int) -> None:
        """Answers without a transaction; the ACK finds none, and the transaction user drops it (section
        8.2.7)."""
        response = response_to(request, status, "", stateless_tag(request))
        if status == 503:
            response.headers.append("Retry-After", str(RETRY_AFTER_S))
        self.transmit(response, flow)

    def _is_cancelled_by(self, cancel: Request, key: ServerKey, flow: Flow) -> bool:
        """Whether a CANCEL is for an INVITE that is here: branch, Call-ID, From-tag and number match (section 9.1).

        So does its source address. Deliberately not the port, nor the connection: the binding of a NAT changes, and a
        connection ends, while a phone rings.
        """
        machine = self._servers.get(invite_key_of(key))
        return (
            isinstance(machine, InviteServer)
            and machine.identity == identity_of_cancelled(cancel)
            and machine.flow.remote.host == flow.remote.host
        )

    def _receive_cancel(self, key: ServerKey, request: Request, flow: Flow) -> None:
        """A new CANCEL whose INVITE is here: 200, with the To-tag that the INVITE's answer has (section 9.2)."""
        invite_key = invite_key_of(key)
        invite = self._servers[invite_key]
        assert isinstance(invite, InviteServer)
        tag = invite.cancelled(stateless_tag(request))
        self._open(key, flow, Server).respond(response_to(request, 200, "", tag), self)
        self._output.append(CancelReceived(key, request, invite_key, invite.owner))

    def _leave_flow(self, machine: Machine) -> None:
        machines = self._by_flow.get(machine.flow)
        if machines is not None:
            machines.discard(machine)
            if not machines:
                del self._by_flow[machine.flow]

    def _forget_identity(self, key: ServerKey) -> None:
        identity = self._merge_of.pop(key, None)
        if identity is not None:
            del self._merge[identity]

    # --- machine.Host

    def send(self, machine: Machine, data: bytes) -> None:
        """Sends a machine's bytes."""
        owner = machine.owner
        if type(owner) is _Unheard:
            owner = owner.invite_owner
        self._output.append(Transmit(data, machine.flow, owner))

    def deliver(self, machine: Machine, response: Response) -> None:
        """Hands a response upward; those to our CANCELs end here."""
        if type(machine.owner) is not _Unheard:
            key: Any = machine.key
            self._output.append(ResponseReceived(key, machine.owner, response, self._flow))

    def deliver_ack(self, request: Request) -> None:
        """Hands the ACK for a 2xx upward."""
        self._output.append(AckReceived(request, self._flow))

    def fail(self, machine: Machine, cause: FailureCause) -> None:
        """Tells of a failure."""
        if type(machine.owner) is not _Unheard:
            self._output.append(TransactionFailed(machine.key, machine.owner, cause))

    def schedule(self, machine: Machine, signal: int, after_s: float) -> int:
        """Sends a signal to the machine later."""
        return self._deadlines.schedule(self._now + after_s, machine, signal)

    def unschedule(self, handle: int) -> None:
        """Forgets that."""
        self._deadlines.cancel(handle)

    def send_cancel(self, machine: Machine, request: Request) -> None:
        """Sends a machine's CANCEL."""
        self.request(request, machine.flow, self._now, _Unheard(machine.owner))

    def remove(self, machine: Machine) -> None:
        """Forgets a machine whose timers are stopped."""
        key: Any = machine.key
        if machine.flow.transport.reliable:
            self._leave_flow(machine)
        if isinstance(machine, InviteClient | Client):
            del self._clients[key]
            return
        del self._servers[key]
        self._forget_identity(key)
        if self._tells_ends:
            self._output.append(ServerTransactionEnded(key))
