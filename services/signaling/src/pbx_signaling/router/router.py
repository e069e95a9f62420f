"""The way in: bytes -> message -> who owns it. Without I/O and without a clock; each verb returns the steps it caused.

    router.receive(data, flow, now)          a datagram, or a framed message of a stream
    router.signal(user, number, answer, now) an answer of the world (registrar, relay, administrator)
    router.handle_timeout(now)               when next_timeout is due

It knows users of transactions by the table of their methods, and by the owners that they gave: never what they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pbx_signaling.border import wire
from pbx_signaling.router.admission import PROVED_SHARE, Pass, Refuse
from pbx_signaling.users.user import Load
from pbx_sip.errors import RemoteError
from pbx_sip.message.glimpse import glimpse
from pbx_sip.message.message import Request, Response
from pbx_sip.message.parse import parse
from pbx_sip.message.validate import validate_request, validate_response
from pbx_sip.transaction import events as tx
from pbx_sip.transaction.key import invite_key_of, reply_flow, server_key, take_via

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pbx_signaling.counters import Counters
    from pbx_signaling.replicas.peering import Peering
    from pbx_signaling.router.admission import Admission
    from pbx_signaling.router.dialogs import Dialogs
    from pbx_signaling.router.outgoing import Outgoing
    from pbx_signaling.users.step import Asker, Step, Steps
    from pbx_signaling.users.user import User
    from pbx_sip.address import Flow
    from pbx_sip.message.message import Message


class Router:
    """Joins one transaction layer and the users of its transactions."""

    def __init__(
        self,
        users: Sequence[User],
        methods: Mapping[str, User],
        admission: Admission,
        dialogs: Dialogs,
        outgoing: Outgoing,
        steps: Steps,
        counters: Counters,
        peering: Peering | None = None,
    ) -> None:
        """`users`: in the order in which they hear of what concerns all; `methods`: who takes which.

        `peering`: where there may be other replicas.
        """
        self.draining = False
        self.journal_ready = True
        self.layer = outgoing.layer
        self._users = users
        self._methods = methods
        self._admission = admission
        self._dialogs = dialogs
        self._outgoing = outgoing
        self._steps = steps
        self._counters = counters
        self._peering = peering
        self._octets = 0
        """Of the message under way: an answer to a stranger is measured by it."""

    # --- messages

    def receive(self, data: bytes, flow: Flow, now: float) -> list[Step]:
        """Takes one message in; never raises for anything that a peer can send."""
        self._outgoing.now = now
        self._octets = len(data)
        self._counters.messages_in += 1
        admission = self._admission
        if admission.leaves_unread and admission.is_unread(data, flow, self.load()):
            self._counters.messages_unread += 1
            return []
        if self._glance(data, flow):
            return self._steps.take()
        try:
            message = parse(data)
            if self._peering is not None and (owner := self._peering.owner_of(message, flow)):
                self._hand_over(owner, data, flow, self._peering)
            else:
                self._message_in(message, flow)
        except RemoteError as error:
            self._reject_bytes(data, error, flow)
        return self._done()

    def _glance(self, data: bytes, flow: Flow) -> bool:
        """Whether a message was dealt with without being read."""
        admission = self._admission
        if not data.startswith(admission.glanced):
            return False
        load = self.load()
        if admission.must_be_read(data, flow, load):
            return False
        seen = glimpse(data)
        if seen is None:
            return False
        via = take_via(seen.request, flow)
        if self.layer.knows(server_key(seen.request, via)):
            return False
        verdict = admission.glance(seen, len(data), flow, load)
        if type(verdict) is Refuse:
            self._steps.transmit("", verdict.octets, reply_flow(via, flow))
        return type(verdict) is not Pass

    def _message_in(self, message: Message, flow: Flow) -> None:
        if type(message) is Request:
            validate_request(message)
            method = message.method
            self._counters.count(method if method in wire.KNOWN_METHODS or method in self._methods else "other")
        else:
            assert isinstance(message, Response)
            validate_response(message)
        self.layer.receive(message, flow, self._outgoing.now, self._admit)

    def _hand_over(self, owner: str, data: bytes, flow: Flow, peering: Peering) -> None:
        if self._admission.carries(flow, self._outgoing.now):
            peering.hand_over(owner, data, flow)
        else:
            self._counters.messages_unread += 1

    def _admit(self, request: Request, flow: Flow) -> bytes | None:
        admission = self._admission
        if request.to_tag and self._dialogs.of(request) is not None:
            is_free = request.method == "BYE"
            spent = None if is_free else self._dialogs.charge(request.to_tag, self._outgoing.now)
            verdict = admission.inside(request, spent)
        else:
            verdict = admission.outside(request, flow, self._octets, self.load())
        if type(verdict) is Pass:
            return None
        return verdict.octets if type(verdict) is Refuse else b""

    def _reject_bytes(self, data: bytes, error: RemoteError, flow: Flow) -> None:
        """Answers what can be answered of a message that is none."""
        found = self._admission.garbage(data, error, flow, self.load())
        if found is not None and type(found[0]) is Refuse:
            self._steps.transmit("", found[0].octets, found[1])

    def load(self) -> Load:
        """How this instance fares now."""
        layer, ready = self.layer, self.journal_ready
        return Load(
            now=self._outgoing.now,
            wall_s=self._outgoing.wall_s,
            draining=self.draining,
            stalled=not ready and not any(user.is_patient for user in self._users),
            crowded=layer.active >= layer.limit * (1 - PROVED_SHARE),
        )

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

    # --- the world, and time

    def signal(self, user: Asker, number: str | int, answer: object, now: float) -> list[Step]:
        """Hands a user the answer to what it asked under that number, or an order."""
        self._outgoing.now = now
        user.answered(number, answer)
        return self._done()

    def handle_timeout(self, now: float) -> list[Step]:
        """Lets everything happen that was due at `now`."""
        self._outgoing.now = now
        self.layer.handle_timeout(now)
        self._settle()
        for owner, what in self._outgoing.expire():
            owner.user.expired(owner, what)
            self._settle()
        return self._done()

    @property
    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due."""
        return self._outgoing.next_timeout

    def transport_failed(self, flow: Flow, now: float) -> list[Step]:
        """A flow broke: what was under way on it fails at once."""
        self._outgoing.now = now
        self.layer.transport_failed(flow, now)
        self._settle()
        for user in self._users:
            user.broken(flow)
        return self._done()

    def journal(self, ready: bool, now: float) -> list[Step]:
        """Events can be written again, or not any more."""
        self._outgoing.now, self.journal_ready = now, ready
        for user in self._users:
            user.journal(ready)
        return self._done()

    def end_all(self, reason: str, now: float) -> list[Step]:
        """Takes nothing new from now on and ends what there is: BYE to all legs, or a final response."""
        self.draining, self._outgoing.now = True, now
        for user in self._users:
            user.end(reason)
            self._settle()
        return self._done()

    @property
    def unanswered(self) -> int:
        """Requests of ours that wait for their final response: BYEs among them."""
        return self.layer.awaiting

    # --- what the transaction layer says

    def _done(self) -> list[Step]:
        self._settle()
        return self._steps.take()

    def _settle(self) -> None:
        """Hands on what the transaction layer has to say until it is silent."""
        layer = self.layer
        while outputs := layer.drain():
            for output in outputs:
                HANDLERS[type(output)](self, output)

    def _transmit(self, output: tx.Transmit) -> None:
        owner = output.owner
        self._steps.transmit("" if owner is None else owner.call_id, output.data, output.flow)

    def _request_received(self, output: tx.RequestReceived) -> None:
        key, request = output.key, output.request
        if not request.to_tag:
            self._methods[request.method].request(key, request, output.flow)
            return
        owner = self._dialogs.by_tag(request.to_tag)
        assert owner is not None, "or it would not have been admitted"
        self.layer.own(key, owner)
        owner.user.inside(owner, key, request, output.flow)

    def _cancel_received(self, output: tx.CancelReceived) -> None:
        owner = output.invite_owner
        if owner is not None:
            owner.user.cancelled(owner, output.invite_key, output.request)

    def _ack_received(self, output: tx.AckReceived) -> None:
        owner = self._dialogs.of(output.request)
        if owner is not None:
            owner.user.acknowledged(owner, output.request)

    def _response_received(self, output: tx.ResponseReceived) -> None:
        self._outgoing.oversize.answered(output.key)
        output.owner.user.response(output.owner, output.response)

    def _stray_response(self, output: tx.StrayResponse) -> None:
        owner = self._dialogs.by_tag(output.response.from_tag)
        if owner is not None:
            owner.user.stray(owner, output.response)
            return
        for user in self._users:
            if user.stray(None, output.response):
                return

    def _transaction_failed(self, output: tx.TransactionFailed) -> None:
        owner, outgoing = output.owner, self._outgoing
        if owner is None:
            return
        is_ours = len(output.key) == 2
        if not (is_ours and outgoing.oversize.sent_again(output.key, owner, outgoing.now)):  # type: ignore[arg-type]
            owner.user.failed(owner, output.key, output.cause)


HANDLERS: Final[Mapping[type, Callable[[Router, Any], None]]] = {
    tx.Transmit: Router._transmit,
    tx.RequestReceived: Router._request_received,
    tx.CancelReceived: Router._cancel_received,
    tx.AckReceived: Router._ack_received,
    tx.ResponseReceived: Router._response_received,
    tx.StrayResponse: Router._stray_response,
    tx.TransactionFailed: Router._transaction_failed,
}
