"""A whole user agent without I/O: the transaction layer and the usages of this package, joined.

    agent.receive(data, flow, now)            a datagram or framed message
    agent.invite(...), agent.request(...)     what begins outside of a dialog
    usage.answer(...), session.send(...)      what goes on inside: call the usage that an event brought,
    agent.carry_out(now)                      then this
    agent.handle_timeout(now)                 when next_timeout is due
    agent.drain()                             what is to be sent and what happened, in order; after each of the others

Good for phones, trunks and probes: a few calls at a time. What carries thousands drives the usages itself, because it
keeps one heap of deadlines for all of them. What is said in a call is the user's to decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, assert_never

from pbx_sip.address import Flow
from pbx_sip.errors import RemoteError
from pbx_sip.message.message import Request, Response, response_to
from pbx_sip.message.parse import parse
from pbx_sip.message.serialize import serialize
from pbx_sip.message.validate import validate_request, validate_response
from pbx_sip.transaction import events as tx
from pbx_sip.transaction.events import ClientKey, FailureCause, ServerKey, Transmit
from pbx_sip.transaction.frozen import FrozenTransaction
from pbx_sip.transaction.layer import TransactionLayer
from pbx_sip.usage.frozen import Clock, FrozenInDialog, FrozenInviteUac, FrozenInviteUas, request_of
from pbx_sip.usage.invite_client import InviteUac
from pbx_sip.usage.invite_client import State as Calling
from pbx_sip.usage.invite_server import InviteUas
from pbx_sip.usage.invite_server import State as Called
from pbx_sip.usage.origin import Origin
from pbx_sip.usage.output import CancelInvite, Down, Respond, Send, SendAck, Up
from pbx_sip.usage.within import InDialog
from pbx_sip.usage.within import State as Stage

Usage = InviteUac | InviteUas | InDialog


@dataclass(frozen=True, slots=True)
class Happened:
    """Something that a usage says."""

    usage: Usage
    what: Up


@dataclass(frozen=True, slots=True)
class Invited:
    """The peer calls: `usage.progress`, `answer` or `refuse` is due. 100 was sent."""

    usage: InviteUas


@dataclass(frozen=True, slots=True)
class Received:
    """Another request outside of a dialog: `respond` is due."""

    key: ServerKey
    request: Request
    flow: Flow


@dataclass(frozen=True, slots=True)
class Responded:
    """A response to a request of ours outside of a dialog."""

    key: ClientKey
    request: Request
    response: Response


@dataclass(frozen=True, slots=True)
class Failed:
    """A request of ours outside of a dialog got no final response."""

    key: ClientKey
    request: Request
    cause: FailureCause


@dataclass(frozen=True, slots=True)
class Stray:
    """A response that belongs to nothing here."""

    response: Response
    flow: Flow


FrozenUsage = FrozenInviteUac | FrozenInviteUas | FrozenInDialog


@dataclass(frozen=True, slots=True)
class SessionOf:
    """A dialog that is the session of an INVITE's usage of the same call."""

    position: int
    """Of that usage among those of the call."""


@dataclass(frozen=True, slots=True)
class FrozenAgent:
    """`Agent` as a value."""

    calls: tuple[tuple[str, tuple[FrozenUsage | SessionOf, ...]], ...]
    """By Call-ID."""
    owners: tuple[FrozenUsage | bytes, ...]
    """Owners of transactions that no call has: dialogs that have ended, requests outside of a dialog."""
    transactions: tuple[FrozenTransaction, ...]


Event = Transmit | Happened | Invited | Received | Responded | Failed | Stray


class Agent:
    """One user agent, as client and server."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.layer = TransactionLayer(origin.timers)
        self.rejected = 0
        """Messages that were none."""
        self._usages: dict[str, list[Usage]] = {}
        """By Call-ID."""
        self._now = 0.0
        self._output: list[Event] = []

    @property
    def usages(self) -> list[Usage]:
        """All that live."""
        return [usage for usage in self._all() if not _is_over(usage)]

    # --- in

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """Takes bytes in; never raises for what a peer can send. `drain` next."""
        self._begin(now)
        try:
            message = parse(data)
        except RemoteError:
            self.rejected += 1
            return
        try:
            if isinstance(message, Request):
                validate_request(message)
            else:
                assert isinstance(message, Response)
                validate_response(message)
        except RemoteError as error:
            self.rejected += 1
            if isinstance(message, Request) and message.method != "ACK" and message.top_via:
                self.layer.transmit(response_to(message, error.status_hint), flow)
        else:
            self.layer.receive(message, flow, now)
        self._settle()

    def handle_timeout(self, now: float) -> None:
        """Lets happen what was due at `now`. `drain` next."""
        self._begin(now)
        self.layer.handle_timeout(now)
        self._settle()
        for usage in list(self._all()):
            due = usage.next_timeout
            if due is not None and due <= now:
                usage.handle_timeout(now)
        self._settle()

    @property
    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due; None where nothing waits."""
        times = [self.layer.next_timeout, *(usage.next_timeout for usage in self._all())]
        return min((at for at in times if at is not None), default=None)

    def drain(self) -> list[Event]:
        """What is to be sent and what happened since the last call, in order."""
        output, self._output = self._output, []
        return output

    # --- out

    def carry_out(self, now: float) -> None:
        """Carries out what a usage was told since the last input; call it after calling one. `drain` next."""
        self._now = now
        self._settle()

    def invite(self, invite: Request, flow: Flow, now: float) -> InviteUac:
        """Calls somebody; `invite` has everything but Via and Contact. `drain` next."""
        self._now = now
        usage = InviteUac(invite, flow, self.origin)
        self._keep(invite.call_id, usage)
        usage.start(now)
        self._settle()
        return usage

    def request(self, request: Request, flow: Flow, now: float) -> ClientKey:
        """Sends another request outside of a dialog; Via and Contact are put in here. `drain` next."""
        self._now = now
        request.headers.prepend("Via", self.origin.new_via(flow))
        if "Contact" not in request.headers:
            request.headers.append("Contact", self.origin.contact(flow))
        key = self.layer.request(request, flow, now, request)
        self._settle()
        return key

    def respond(self, received: Received, status: int, now: float) -> None:
        """Answers a request outside of a dialog. `drain` next."""
        self._now = now
        self.layer.respond(received.key, response_to(received.request, status, "", self.origin.tokens.tag()), now)
        self._settle()

    # --- what the layer says

    def _settle(self) -> None:
        """Carries outputs between layer and usages until both are silent."""
        moved = True
        while moved:
            moved = False
            for usage in list(self._all()):
                for output in usage.drain():
                    moved = True
                    self._from_usage(usage, output)
            for said in self.layer.drain():
                moved = True
                HANDLERS[type(said)](self, said)

    def _from_usage(self, usage: Usage, output: Down | Up) -> None:
        match output:
            case Send(request, flow, _):
                self.layer.request(request, flow, self._now, usage)
            case Respond(key, response):
                self.layer.respond(key, response, self._now)
            case SendAck(request, flow):
                self.layer.transmit(request, flow)
            case CancelInvite(key, headers):
                self.layer.cancel(key, self._now, list(headers))
            case _:
                session = None if isinstance(usage, InDialog) else usage.session
                if session is not None and session not in self._usages.get(session.dialog.call_id, ()):
                    self._keep(session.dialog.call_id, session)
                self._output.append(Happened(usage, output))

    def _transmit(self, said: Transmit) -> None:
        self._output.append(said)

    def _request_received(self, said: tx.RequestReceived) -> None:
        request, key = said.request, said.key
        if not request.to_tag:
            if request.method == "INVITE":
                usage = InviteUas(key, request, said.flow, self.origin)
                self._keep(request.call_id, usage)
                self.layer.own(key, usage)
                usage.trying()
                self._output.append(Invited(usage))
            else:
                self._output.append(Received(key, request, said.flow))
            return
        found = self._dialog_of(request)
        if found is None:
            self.layer.respond(key, response_to(request, 481), self._now)
            return
        within, caller, fork = found
        if request.method == "INVITE":
            self.layer.own(key, within)
        if request.method == "PRACK" and caller is not None:
            caller.prack_received(fork, key, request, self._now)
        else:
            within.request_received(key, request, self._now)

    def _cancel_received(self, said: tx.CancelReceived) -> None:
        owner = said.invite_owner or next(  # a transaction that was answered has none
            (usage for usage in self._all() if isinstance(usage, InviteUas) and usage.key == said.invite_key), None
        )
        if isinstance(owner, InviteUas):
            owner.cancel_received(said.request)
        elif isinstance(owner, InDialog) and owner.asked(said.invite_key) is not None:
            owner.reply(said.invite_key, 487, self._now)

    def _ack_received(self, said: tx.AckReceived) -> None:
        found = self._dialog_of(said.request)
        if found is not None:
            found[0].acknowledged(said.request)

    def _response_received(self, said: tx.ResponseReceived) -> None:
        owner, response = said.owner, said.response
        if isinstance(owner, InviteUac):
            if response.cseq_method == "INVITE":
                owner.response_received(response, self._now)
        elif isinstance(owner, InDialog):
            owner.response_received(said.key, response, self._now)
            self._finish(owner)
        else:
            assert isinstance(owner, Request)
            self._output.append(Responded(said.key, owner, response))

    def _stray_response(self, said: tx.StrayResponse) -> None:
        """A 2xx that outlived its transaction: its usage may know it still."""
        response = said.response
        if response.cseq_method == "INVITE" and 200 <= response.status < 300:
            for usage in self._usages.get(response.call_id, ()):
                if isinstance(usage, InviteUac) and usage.invite.from_tag == response.from_tag:
                    usage.response_received(response, self._now)
                    return
                if isinstance(usage, InDialog) and usage.dialog.remote_tag == response.to_tag:
                    usage.response_received((response.branch, "INVITE"), response, self._now)
                    return
        self._output.append(Stray(response, said.flow))

    def _transaction_failed(self, said: tx.TransactionFailed) -> None:
        owner = said.owner
        if isinstance(owner, InviteUac):
            owner.transaction_failed(said.cause, self._now)
        elif isinstance(owner, InviteUas):
            owner.transaction_failed()
        elif isinstance(owner, InDialog):
            owner.transaction_failed((said.key[0], said.key[1]), said.cause, self._now)
            self._finish(owner)
        elif isinstance(owner, Request):
            self._output.append(Failed((said.key[0], said.key[1]), owner, said.cause))

    def _server_ended(self, said: tx.ServerTransactionEnded) -> None:
        pass

    # --- as a value

    def freeze(self, clock: Clock) -> FrozenAgent:
        """All that goes on, as a value; call it after `drain`."""
        self._forget_ended()
        known: list[Any] = list(self._all())
        """Owners by their number: usages as `thaw` will find them, then what only transactions know."""
        settled = len(known)

        def name_of(owner: Any) -> str:
            number = next((number for number, each in enumerate(known) if each is owner), len(known))
            if number == len(known):
                known.append(owner)
            return str(number)

        transactions = self.layer.freeze(name_of, clock.wall)
        return FrozenAgent(
            calls=tuple((call_id, _freeze_call(usages, clock)) for call_id, usages in self._usages.items()),
            owners=tuple(
                serialize(owner) if isinstance(owner, Request) else owner.freeze(clock) for owner in known[settled:]
            ),
            transactions=transactions,
        )

    @classmethod
    def thaw(cls, frozen: FrozenAgent, origin: Origin, clock: Clock) -> Agent:
        """The agent that a value was made of. Raises LocalError for what cannot be read."""
        self = cls(origin)
        for call_id, call in frozen.calls:
            self._usages[call_id] = _thaw_call(call, origin, clock)
        known: list[Any] = list(self._all())
        known += [
            request_of(owner) if isinstance(owner, bytes) else _thaw(owner, origin, clock) for owner in frozen.owners
        ]
        for transaction in frozen.transactions:
            self.layer.thaw(transaction, lambda name: known[int(name)], clock.local)
        return self

    # --- usages

    def _all(self) -> Iterator[Usage]:
        """All usages, the forks of an INVITE behind it."""
        for usages in self._usages.values():
            for usage in usages:
                yield usage
                if isinstance(usage, InviteUac):
                    yield from (fork for fork in usage.forks.values() if fork not in usages)
                elif isinstance(usage, InviteUas):
                    yield from (fork.within for fork in usage.forks.values() if fork.within not in usages)

    def _keep(self, call_id: str, usage: Usage) -> None:
        self._usages.setdefault(call_id, []).append(usage)

    def _finish(self, within: InDialog) -> None:
        """Takes what a dialog that is over has still to say: the ACK of a re-INVITE that crossed the BYE."""
        for output in within.drain():
            self._from_usage(within, output)

    def _begin(self, now: float) -> None:
        """A new input: what ended by the one before is forgotten now, so that its user could say `again`."""
        self._now = now
        self._settle()
        self._forget_ended()

    def _forget_ended(self) -> None:
        for call_id, usages in list(self._usages.items()):
            usages[:] = [usage for usage in usages if not _is_over(usage)]
            if not usages:
                del self._usages[call_id]

    def _dialog_of(self, request: Request) -> tuple[InDialog, InviteUas | None, str] | None:
        """The dialog that a request belongs to: all three parts match (section 12.2.2); its INVITE's usage and fork."""
        local, remote, found = request.to_tag, request.from_tag, None
        for usage in self._usages.get(request.call_id, ()):
            if isinstance(usage, InDialog):
                if (usage.dialog.local_tag, usage.dialog.remote_tag) == (local, remote):
                    found = found or (usage, None, "")
            elif isinstance(usage, InviteUac):
                fork = usage.forks.get(remote)
                if fork is not None and fork.dialog.local_tag == local:
                    found = found or (fork, None, "")
            else:
                for name, one in usage.forks.items():
                    if (one.within.dialog.local_tag, one.within.dialog.remote_tag) == (local, remote):
                        return one.within, usage, name
        return found


def _freeze_call(usages: list[Usage], clock: Clock) -> tuple[FrozenUsage | SessionOf, ...]:
    def frozen(usage: Usage) -> FrozenUsage | SessionOf:
        for position, other in enumerate(usages):
            if not isinstance(other, InDialog) and other.session is usage:
                return SessionOf(position)
        return usage.freeze(clock)

    return tuple(frozen(usage) for usage in usages)


def _thaw_call(call: tuple[FrozenUsage | SessionOf, ...], origin: Origin, clock: Clock) -> list[Usage]:
    usages: list[Usage] = []
    for one in call:
        if isinstance(one, SessionOf):
            session = usages[one.position].session  # type: ignore[union-attr]  # freeze named an INVITE's usage
            assert session is not None
            usages.append(session)
        else:
            usages.append(_thaw(one, origin, clock))
    return usages


def _thaw(frozen: FrozenUsage, origin: Origin, clock: Clock) -> Usage:
    match frozen:
        case FrozenInviteUac():
            return InviteUac.thaw(frozen, origin, clock)
        case FrozenInviteUas():
            return InviteUas.thaw(frozen, origin, clock)
        case FrozenInDialog():
            return InDialog.thaw(frozen, origin, clock)
        case _:
            assert_never(frozen)


def _is_over(usage: Usage) -> bool:
    if isinstance(usage, InDialog):
        return usage.state is Stage.ENDED
    if isinstance(usage, InviteUac):
        return usage.state is Calling.ENDED
    session = usage.session
    return usage.state is Called.ENDED or (session is not None and session.state is Stage.ENDED)


Handler = Callable[[Agent, Any], None]

HANDLERS: Final[Mapping[type, Handler]] = {
    Transmit: Agent._transmit,
    tx.RequestReceived: Agent._request_received,
    tx.CancelReceived: Agent._cancel_received,
    tx.AckReceived: Agent._ack_received,
    tx.ResponseReceived: Agent._response_received,
    tx.StrayResponse: Agent._stray_response,
    tx.TransactionFailed: Agent._transaction_failed,
    tx.ServerTransactionEnded: Agent._server_ended,
}
