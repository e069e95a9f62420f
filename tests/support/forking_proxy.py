"""A proxy that forks an INVITE to several phones, for simulations: passes every provisional and every 2xx back.

It cancels the other branches when one answers, and gives the best refusal when all refused. It keeps no timers: meant
for networks that delay and reorder but do not lose.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pbx_sip.address import HostPort
from pbx_sip.message.message import Request, Response
from pbx_sip.message.parse import parse
from pbx_sip.message.serialize import serialize
from pbx_sip.transaction.invite_client import ack_for_failure, cancel_for


@dataclass(slots=True)
class Branch:
    """An INVITE that was forwarded to one phone."""

    phone: HostPort
    request: Request
    status: int = 0
    """Final status; 0: none yet."""
    rang: bool = False
    cancelled: bool = False


@dataclass(slots=True)
class Fork:
    """An INVITE that came, and where from."""

    source: HostPort
    branches: list[Branch]
    refusals: list[Response] = field(default_factory=list)
    answered: bool = False


class ForkingProxy:
    """Implements `netem.Node`."""

    next_timeout = None
    now = 0.0

    def __init__(self, address: HostPort, phones: list[HostPort]) -> None:
        self.address = address
        self.phones = phones
        self.forks: dict[str, Fork] = {}
        self._sent: list[tuple[bytes, HostPort]] = []

    def handle_timeout(self, now: float) -> None:
        """Never due."""

    def outgoing(self) -> list[tuple[bytes, HostPort]]:
        """What is to be sent."""
        sent, self._sent = self._sent, []
        return sent

    def receive(self, data: bytes, source: HostPort, now: float) -> None:
        """A datagram arrives."""
        message = parse(data)
        if isinstance(message, Response):
            self._responded(message)
        else:
            assert isinstance(message, Request)
            self._requested(message, source)

    def _send(self, message: Request | Response, target: HostPort) -> None:
        self._sent.append((serialize(message), target))

    def _requested(self, request: Request, source: HostPort) -> None:
        fork = self.forks.get(request.branch)
        if request.method == "INVITE":
            if fork is None:
                self.forks[request.branch] = fork = Fork(
                    source, [Branch(phone, self._forwarded(request, phone)) for phone in self.phones]
                )
            for branch in fork.branches:
                self._send(branch.request, branch.phone)
        elif request.method == "CANCEL" and fork is not None:
            answer = Response(200, "OK", request.headers.copy())
            self._send(answer, source)
            for branch in fork.branches:
                self._cancel(branch)

    def _forwarded(self, request: Request, phone: HostPort) -> Request:
        copy = Request(request.method, request.uri, request.headers.copy(), request.body)
        mark = phone.host.rpartition(".")[2]
        copy.headers.prepend("Via", f"SIP/2.0/UDP {self.address};branch={request.branch}-{mark}")
        return copy

    def _cancel(self, branch: Branch) -> None:
        branch.cancelled = True
        if branch.rang and not branch.status:
            self._send(cancel_for(branch.request, []), branch.phone)

    def _responded(self, response: Response) -> None:
        upstream, _, _ = response.branch.rpartition("-")
        fork = self.forks.get(upstream)
        if fork is None or response.cseq_method != "INVITE":
            return
        branch = next(branch for branch in fork.branches if branch.request.branch == response.branch)
        if response.status < 200:
            self._progress(response, branch, fork)
        elif response.status < 300:
            branch.status, fork.answered = response.status, True
            self._pass(response, fork)
            for other in fork.branches:
                if other is not branch and not other.status:
                    self._cancel(other)
        else:
            self._send(ack_for_failure(branch.request, response), branch.phone)
            self._refused(response, branch, fork)

    def _progress(self, response: Response, branch: Branch, fork: Fork) -> None:
        first, branch.rang = not branch.rang, True
        if first and branch.cancelled:
            self._cancel(branch)
        if response.status > 100:
            self._pass(response, fork)

    def _refused(self, response: Response, branch: Branch, fork: Fork) -> None:
        if branch.status:
            return
        branch.status = response.status
        fork.refusals.append(response)
        if len(fork.refusals) == len(fork.branches) and not fork.answered:
            self._pass(min(fork.refusals, key=lambda refusal: refusal.status), fork)

    def _pass(self, response: Response, fork: Fork) -> None:
        back = Response(response.status, response.reason, response.headers.copy(), response.body)
        back.headers.remove_line("Via", back.headers.first("Via") or "")
        self._send(back, fork.source)
