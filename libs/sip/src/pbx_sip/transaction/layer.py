"""The transaction layer (RFC 3261 section 17): matches messages to machines, keeps their timers, bounds their number.

Verbs: `receive`, `request`, `respond`, `cancel`, `transmit_ack`, `handle_timeout`; `drain` after each. CANCEL and the
ACK for a refusal are dealt with here; the transaction user sees what is left to decide.
"""

from __future__ import annotations

from typing import Any, Final

from pbx_sip.address import Flow
from pbx_sip.message.message import BRANCH_COOKIE, Message, Request, Response, parameter_of, response_to
from pbx_sip.message.serialize import serialize
from pbx_sip.transaction import client, invite_client, invite_server, server
from pbx_sip.transaction.client import Client
from pbx_sip.transaction.deadlines import Deadlines
from pbx_sip.transaction.events import (
    AckReceived,
    CancelReceived,
    FailureCause,
    Key,
    Output,
    RequestReceived,
    ResponseReceived,
    ServerTransactionEnded,
    StrayResponse,
    TransactionFailed,
    Transmit,
)
from pbx_sip.transaction.invite_client import InviteClient, cancel_for
from pbx_sip.transaction.invite_server import InviteServer
from pbx_sip.transaction.machine import Machine
from pbx_sip.transaction.server import Server
from pbx_sip.transaction.timers import Timers

OVERLOAD_RETRY_S: Final = 5


class TransactionLayer:
    """All transactions of one endpoint."""

    def __init__(self, timers: Timers | None = None, limit: int = 200_000) -> None:
        self.timers = timers or Timers()
        self.limit = limit
        """Transactions at once, lingering ones included. Threat: memory; beyond, requests get a stateless 503."""
        self.now = 0.0
        self.retransmissions = 0
        self.refused = 0
        """Requests answered 503 because the table was full."""
        self._clients: dict[Key, Machine] = {}
        self._servers: dict[Key, Machine] = {}
        self._merged: dict[Key, Key] = {}
        """Call-ID, CSeq and From-tag of requests outside a dialog to their transaction (section 8.2.2.2)."""
        self._merge_keys: dict[Key, Key] = {}
        self._deadlines = Deadlines()
        self._output: list[Output] = []

    @property
    def active(self) -> int:
        """Transactions, lingering ones included."""
        return len(self._clients) + len(self._servers)

    @property
    def awaiting(self) -> int:
        """Client transactions without a final response."""
        return sum(machine.state < 2 for machine in self._clients.values())

    # --- verbs

    def receive(self, message: Message, flow: Flow, now: float) -> None:
        """Takes a validated message in; `drain` next."""
        self.now = now
        if isinstance(message, Response):
            self._response(message, flow)
        else:
            assert isinstance(message, Request)
            self._request(message, flow)

    def request(self, request: Request, flow: Flow, now: float, owner: Any) -> Key:
        """Sends a request (not ACK) whose Via the caller has put on top; `drain` next."""
        self.now = now
        key = (request.branch, request.method)
        data = serialize(request)
        machine: InviteClient | Client
        if request.method == "INVITE":
            machine = InviteClient(key, flow, owner, request, data)
        else:
            machine = Client(key, flow, owner, data)
        self._clients[key] = machine
        machine.start(self)
        return key

    def respond(self, key: Key, response: Response, now: float) -> None:
        """Answers a request; dropped where its transaction has ended. `drain` next."""
        self.now = now
        machine = self._servers.get(key)
        if isinstance(machine, InviteServer | Server):
            machine.send(response, self)

    def own(self, key: Key, owner: Any) -> None:
        """Attaches an owner to a server transaction."""
        machine = self._servers.get(key)
        if machine is not None:
            machine.owner = owner

    def cancel(self, key: Key, now: float, extra: list[tuple[str, str]]) -> None:
        """Cancels an INVITE that was sent: at once, or when its first provisional response comes (section 9.1)."""
        self.now = now
        machine = self._clients.get(key)
        if not isinstance(machine, InviteClient) or machine.request is None or machine.cancel_pending is not None:
            return
        machine.cancel_pending = extra
        if machine.state == invite_client.State.PROCEEDING:
            self._send_cancel(machine)

    def transmit(self, message: Request | Response | bytes, flow: Flow) -> None:
        """Sends a message outside of any transaction (the ACK for a 2xx), or bytes for a machine."""
        self._output.append(Transmit(message if isinstance(message, bytes) else serialize(message), flow))

    def transport_failed(self, flow: Flow, now: float) -> None:
        """A flow broke: client transactions on it fail at once. `drain` next."""
        self.now = now
        for machine in [machine for machine in self._clients.values() if machine.flow == flow]:
            signal = (
                invite_client.Signal.TRANSPORT_ERROR
                if isinstance(machine, InviteClient)
                else client.Signal.TRANSPORT_ERROR
            )
            machine.step(signal, None, self)

    def handle_timeout(self, now: float) -> None:
        """Lets timers fire that were due at `now`; `drain` next."""
        self.now = now
        for machine, signal in self._deadlines.expire(now):
            machine.step(signal, None, self)

    @property
    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due."""
        return self._deadlines.next_timeout

    def drain(self) -> list[Output]:
        """What happened since the last call, in order."""
        output, self._output = self._output, []
        return output

    # --- receiving

    def _response(self, response: Response, flow: Flow) -> None:
        machine = self._clients.get((response.branch, response.cseq_method))
        if machine is None:
            self._output.append(StrayResponse(response, flow))
            return
        assert isinstance(machine, InviteClient | Client)
        machine.receive(response, self)
        if (
            type(machine) is InviteClient
            and machine.cancel_pending is not None
            and machine.state == invite_client.State.PROCEEDING
            and response.status < 200
        ):
            self._send_cancel(machine)

    def _send_cancel(self, machine: InviteClient) -> None:
        assert machine.request is not None
        extra = machine.cancel_pending or []
        request = cancel_for(machine.request, extra)
        key = (request.branch, "CANCEL")
        if key in self._clients:
            return
        self.request(request, machine.flow, self.now, None)
        self.start_timer(machine, invite_client.Signal.TIMER_CANCEL, self.timers.timeout)

    def _request(self, request: Request, flow: Flow) -> None:
        method = request.method
        _note_source(request, flow)
        key = server_key(request, flow)
        machine = self._servers.get(key)
        if method == "ACK":
            self._ack(request, flow, machine)
        elif machine is not None:
            signal = invite_server.Signal.INVITE if method == "INVITE" else server.Signal.REQUEST
            machine.step(signal, request, self)
        elif method == "CANCEL":
            self._cancel(key, request, flow)
        elif self.active >= self.limit:
            self.refused += 1
            self._refuse(request, flow, 503)
        elif not request.to_tag and self._is_merged(request, key):
            self._refuse(request, flow, 482)
        else:
            self._servers[key] = InviteServer(key, flow, None) if method == "INVITE" else Server(key, flow, None)
            self._output.append(RequestReceived(key, request, flow))

    def _is_merged(self, request: Request, key: Key) -> bool:
        """The same request over another path (section 8.2.2.2)."""
        identity = (request.call_id, request.first("CSeq") or "", request.from_tag)
        if identity in self._merged:
            return True
        self._merged[identity] = key
        self._merge_keys[key] = identity
        return False

    def _refuse(self, request: Request, flow: Flow, status: int) -> None:
        response = response_to(request, status, "", "refused")
        if status == 503:
            response.headers.append("Retry-After", str(OVERLOAD_RETRY_S))
        self.transmit(response, flow)

    def _ack(self, request: Request, flow: Flow, machine: Machine | None) -> None:
        if machine is not None and machine.state == invite_server.State.COMPLETED:
            machine.step(invite_server.Signal.ACK, request, self)
        elif machine is None or machine.state == invite_server.State.ACCEPTED:
            self._output.append(AckReceived(request, flow))

    def _cancel(self, key: Key, request: Request, flow: Flow) -> None:
        """A new CANCEL: 200 where its INVITE is here, else 481 (section 9.2)."""
        invite_key = (key[0], "INVITE", *key[2:])
        invite = self._servers.get(invite_key)
        machine = self._servers[key] = Server(key, flow, None)
        machine.send(response_to(request, 200 if invite is not None else 481, "", "cancelled"), self)
        if invite is not None:
            self._output.append(CancelReceived(key, request, invite_key, invite.owner))

    # --- Host

    def deliver(self, machine: Machine, response: Response) -> None:
        """Hands a response upward; those to our CANCEL end here."""
        if machine.owner is not None:
            self._output.append(ResponseReceived(machine.key, machine.owner, response, machine.flow))

    def fail(self, machine: Machine, cause: FailureCause) -> None:
        """Tells of a failure."""
        if machine.owner is not None:
            self._output.append(TransactionFailed(machine.key, machine.owner, cause))

    def start_timer(self, machine: Machine, signal: int, after_s: float) -> None:
        """Sends a signal to the machine later."""
        machine.handles.append(self._deadlines.schedule(self.now + after_s, machine, signal))

    def stop_timers(self, machine: Machine) -> None:
        """Forgets the machine's timers."""
        for handle in machine.handles:
            self._deadlines.cancel(handle)
        machine.handles.clear()

    def remove(self, machine: Machine) -> None:
        """Forgets a machine."""
        self.stop_timers(machine)
        if self._clients.get(machine.key) is machine:
            del self._clients[machine.key]
            return
        if self._servers.pop(machine.key, None) is not None:
            identity = self._merge_keys.pop(machine.key, None)
            if identity is not None:
                del self._merged[identity]
            self._output.append(ServerTransactionEnded(machine.key, machine.owner))


def server_key(request: Request, flow: Flow) -> Key:
    """How a request finds its server transaction (section 17.2.3); ACK finds that of its INVITE."""
    method = "INVITE" if request.method == "ACK" else request.method
    via = request.top_via
    branch = parameter_of(via, "branch")
    sent_by = via.partition(" ")[2].partition(";")[0].strip().lower()
    if branch.startswith(BRANCH_COOKIE):
        return branch, method, sent_by
    # RFC 2543 peers: the whole identity of the request. The To-tag of an ACK is that of our response; it is left out.
    return (
        f"{request.call_id} {request.cseq_number} {request.from_tag} {request.uri}",
        method,
        sent_by,
    )


def _note_source(request: Request, flow: Flow) -> None:
    """Adds received and rport to the topmost Via (RFC 3261 section 18.2.1, RFC 3581 section 4)."""
    items = request.headers.items
    for index, (name, value) in enumerate(items):
        if name != "Via":
            continue
        first, comma, rest = value.partition(",")
        sent_by = first.partition(" ")[2].partition(";")[0].strip()
        remote = flow.remote
        wants_port = ";rport" in first and ";rport=" not in first
        if wants_port:
            first = first.replace(";rport", f";rport={remote.port}", 1)
        if (wants_port or not sent_by.startswith(remote.host)) and ";received=" not in first:
            first = f"{first.rstrip()};received={remote.host}"
        items[index] = (name, f"{first}{comma}{rest}")
        return
