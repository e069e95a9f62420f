"""A SIP endpoint without I/O: transactions and dialogs joined, enough to write a user agent on.

    endpoint.receive(data, flow, now)         a datagram or framed message
    endpoint.send_request(...), send_within(...), send_response(...), send_ack(...), send_cancel(...)
    endpoint.handle_timeout(now)              when next_timeout is due
    endpoint.drain()                          what happened, in order; call it after each of the others

It repeats a 2xx until its ACK and a reliable provisional response until its PRACK, sends the ACK again when a 2xx comes
again, keeps CSeq order and targets, and answers what belongs to no dialog. What is said in a call is the user's to
decide. The B2BUA of this product drives the transaction layer itself: its legs need less, and other orders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pbx_sip.address import Flow
from pbx_sip.dialog.dialog import Dialog, Verdict
from pbx_sip.dialog.reliable import Arrival, Confirmed, RAck, ReliableSender, arrival
from pbx_sip.dialog.repetition import Due, Repetition
from pbx_sip.endpoint_events import (
    Acknowledged,
    Cancelled,
    Event,
    Failed,
    LiveDialog,
    Received,
    Responded,
    Stray,
    Unconfirmed,
    Waits,
)
from pbx_sip.errors import LocalError, RemoteError
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request, Response, response_to
from pbx_sip.message.parse import parse
from pbx_sip.message.validate import validate_request, validate_response
from pbx_sip.tokens import TokenSource
from pbx_sip.transaction import events as tx
from pbx_sip.transaction.deadlines import NEVER, Deadlines
from pbx_sip.transaction.events import ClientKey, ServerKey, Transmit
from pbx_sip.transaction.layer import TransactionLayer
from pbx_sip.transaction.timers import DEFAULT, Timers

Pairs = tuple[tuple[str, str], ...]
Identity = tuple[str, str, str]
MAX_FORKS: Final = 16
"""Early dialogs of one INVITE. Threat: a network that forks without end."""


@dataclass(slots=True)
class _Sent:
    """Owner of a client transaction."""

    request: Request
    flow: Flow
    live: LiveDialog | None
    forks: dict[str, LiveDialog] = field(default_factory=dict)
    """Early dialogs of an INVITE by the peer's tag."""


class Endpoint:
    """One address of SIP, as client and server."""

    def __init__(self, tokens: TokenSource, sent_by: str, contact: str, timers: Timers = DEFAULT) -> None:
        self.tokens = tokens
        self.layer = TransactionLayer(timers)
        self.dialogs: dict[Identity, LiveDialog] = {}
        self.rejected = 0
        """Messages that were none."""
        self._sent_by = sent_by
        self._contact = contact
        self._timers = timers
        self._deadlines = Deadlines()
        self._answering: dict[ServerKey, LiveDialog] = {}
        """INVITEs outside of a dialog to the dialog that our responses made."""
        self._now = 0.0
        self._output: list[Event] = []

    # --- in

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """Takes bytes in; never raises for what a peer can send. `drain` next."""
        self._now = now
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
        self._now = now
        self.layer.handle_timeout(now)
        self._settle()
        for live, waits in self._deadlines.expire(now):
            live.handles.pop(waits, None)
            (self._repeat_answer if waits is Waits.ANSWER else self._repeat_progress)(live)
            self._settle()

    @property
    def next_timeout(self) -> float | None:
        """When `handle_timeout` is due; None where nothing waits."""
        times = [at for at in (self.layer.next_timeout, self._deadlines.next_timeout) if at is not None]
        return min(times, default=None)

    def drain(self) -> list[Event]:
        """What happened since the last call, in order."""
        output, self._output = self._output, []
        return output

    # --- out: requests

    def send_request(self, request: Request, flow: Flow, now: float) -> ClientKey:
        """Sends a request outside of a dialog; Via, and for INVITE Contact, are put in here. `drain` next."""
        self._now = now
        request.headers.prepend("Via", self._via(flow))
        if "Contact" not in request.headers:
            request.headers.append("Contact", self._contact)
        return self._send(request, _Sent(request, flow, None))

    def send_within(
        self, live: LiveDialog, method: str, now: float, *, headers: Pairs = (), body: bytes = b""
    ) -> ClientKey:
        """Sends a request inside a dialog, with the headers given and a body of their Content-Type. `drain` next."""
        self._now = now
        request = live.dialog.request(method, self._via(live.flow))
        self._dress(request, headers, body)
        key = self._send(request, _Sent(request, live.flow, live))
        if method == "BYE":
            self.forget(live)
        return key

    def send_ack(self, live: LiveDialog, cseq: int, now: float, *, headers: Pairs = (), body: bytes = b"") -> None:
        """Confirms the 2xx to our INVITE of that CSeq number; again by itself whenever that comes again."""
        self._now = now
        ack = live.dialog.ack(cseq, self._via(live.flow))
        self._dress(ack, headers, body)
        live.acks[cseq] = ack
        self.layer.transmit(ack, live.flow)
        self._settle()

    def send_cancel(self, key: ClientKey, now: float, headers: Pairs = ()) -> None:
        """Cancels an INVITE of ours. `drain` next."""
        self._now = now
        self.layer.cancel(key, now, list(headers))
        self._settle()

    def _send(self, request: Request, sent: _Sent) -> ClientKey:
        key = self.layer.request(request, sent.flow, self._now, sent)
        self._settle()
        return key

    def _dress(self, request: Request, headers: Pairs, body: bytes) -> None:
        if request.method in ("INVITE", "UPDATE"):
            request.headers.append("Contact", self._contact)
        request.headers.items += headers
        request.body = body

    # --- out: responses

    def send_response(
        self, received: Received, status: int, now: float, *, headers: Pairs = (), body: bytes = b"", rseq: int = 0
    ) -> LiveDialog | None:
        """Answers a request; with `rseq` (a number to begin at) the provisional response is reliable. `drain` next.

        Returns the dialog that the answer belongs to. Raises LocalError for a second reliable response before the
        PRACK for the first.
        """
        self._now = now
        request, key = received.request, received.key
        live = received.live
        if request.method == "INVITE" and status > 100 and live is None:
            live = self._dialog_of_answer(received)
        response = response_to(request, status, "", live.dialog.local_tag if live else self.tokens.tag())
        self._add_contact(request, response)
        response.headers.items += headers
        response.body = body
        if rseq and live is not None:
            self._number(live, key, response, request.cseq_number, rseq)
        self.layer.respond(key, response, now)
        if status >= 200:
            self._answered(received, response, live)
        self._settle()
        return live

    def _add_contact(self, request: Request, response: Response) -> None:
        if request.method in ("INVITE", "UPDATE") and 100 < response.status < 300:
            response.headers.items += [("Record-Route", value) for value in request.headers.all("Record-Route")]
            response.headers.append("Contact", self._contact)

    def _dialog_of_answer(self, received: Received) -> LiveDialog:
        live = self._answering.get(received.key)
        if live is None:
            live = LiveDialog(Dialog.as_uas(received.request, self.tokens.tag()), received.flow)
            self._answering[received.key] = live
            self.dialogs[live.dialog.key] = live
        return live

    def _number(self, live: LiveDialog, key: ServerKey, response: Response, cseq: int, first: int) -> None:
        if live.progress is None:
            live.progress = ReliableSender(cseq, first, self._timers)
        number, may_go = live.progress.send(self._now)
        if not may_go:
            raise LocalError("a reliable response waits for its PRACK")
        response.headers.items += [("Require", "100rel"), ("RSeq", str(number))]
        live.unconfirmed[number], live.progress_key = response, key
        self._arm(live, Waits.PROGRESS, live.progress.next_timeout)

    def _answered(self, received: Received, response: Response, live: LiveDialog | None) -> None:
        """What a final response changes."""
        self._answering.pop(received.key, None)
        if live is None:
            return
        request, status = received.request, response.status
        if received.live is None:
            self._stop_progress(live)
        if status >= 300:
            if received.live is None:
                self.forget(live)
            return
        live.dialog.refresh_target(request)
        if request.method == "INVITE":
            live.dialog.confirmed = True
            live.answer, live.answer_key = response, received.key
            live.repetition = Repetition.of_answer(self._now, self._timers)
            self._arm(live, Waits.ANSWER, live.repetition.at)

    def _stop_progress(self, live: LiveDialog) -> None:
        if live.progress is not None:
            live.progress.stop()
        live.unconfirmed.clear()
        self._disarm(live, Waits.PROGRESS)

    def forget(self, live: LiveDialog) -> None:
        """Drops a dialog: its requests get 481, nothing of it is repeated."""
        self.dialogs.pop(live.dialog.key, None)
        self._stop_progress(live)
        self._disarm(live, Waits.ANSWER)

    # --- timers of dialogs

    def _arm(self, live: LiveDialog, waits: Waits, at: float | None) -> None:
        self._disarm(live, waits)
        if at is not None:
            live.handles[waits] = self._deadlines.schedule(at, live, waits)

    def _disarm(self, live: LiveDialog, waits: Waits) -> None:
        self._deadlines.cancel(live.handles.pop(waits, NEVER))

    def _repeat_answer(self, live: LiveDialog) -> None:
        repetition = live.repetition
        assert repetition is not None
        due = repetition.expire(self._now)
        if due is Due.GIVE_UP:
            self._output.append(Unconfirmed(live, Waits.ANSWER))
            return
        if due is Due.SEND:
            assert live.answer is not None
            assert live.answer_key is not None
            self.layer.respond(live.answer_key, live.answer, self._now)
        self._arm(live, Waits.ANSWER, repetition.at)

    def _repeat_progress(self, live: LiveDialog) -> None:
        progress = live.progress
        assert progress is not None
        due = progress.expire(self._now)
        if due is Due.GIVE_UP:
            self._stop_progress(live)
            self._output.append(Unconfirmed(live, Waits.PROGRESS))
            return
        if due is Due.SEND:
            assert live.progress_key is not None
            self.layer.respond(live.progress_key, live.unconfirmed[progress.waiting], self._now)
        self._arm(live, Waits.PROGRESS, progress.next_timeout)

    # --- what the layer says

    def _settle(self) -> None:
        while outputs := self.layer.drain():
            for output in outputs:
                HANDLERS[type(output)](self, output)

    def _transmit(self, output: Transmit) -> None:
        self._output.append(output)

    def _received(self, output: tx.RequestReceived) -> None:
        request = output.request
        live = None
        if request.to_tag:
            live = self.dialogs.get((request.call_id, request.to_tag, request.from_tag))
            status = self._out_of_place(request, live)
            if status:
                self.layer.respond(output.key, response_to(request, status), self._now)
                return
        if request.method == "INVITE":
            self.layer.respond(output.key, response_to(request, 100), self._now)
        if request.method == "BYE" and live is not None:
            self.forget(live)
        self._output.append(Received(output.key, request, output.flow, live))

    def _out_of_place(self, request: Request, live: LiveDialog | None) -> int:
        """The status for a request that its dialog does not take; 0: it does."""
        if live is None:
            return 481
        if live.dialog.receive(request) is Verdict.OUT_OF_ORDER:
            return 500
        if request.method == "INVITE" and not live.dialog.confirmed:
            # An INVITE of the peer, or one of ours, is under way on this dialog (RFC 3261 section 14.2).
            return 500 if live in self._answering.values() else 491
        return self._take_prack(request, live) if request.method == "PRACK" else 0

    def _take_prack(self, request: Request, live: LiveDialog) -> int:
        try:
            rack = RAck.parse(request.first("RAck") or "")
        except RemoteError as error:
            return error.status_hint
        if live.progress is None or live.progress.confirm(rack, self._now)[0] is Confirmed.UNKNOWN:
            return 481
        del live.unconfirmed[rack.rseq]
        self._disarm(live, Waits.PROGRESS)
        return 0

    def _cancel(self, output: tx.CancelReceived) -> None:
        self._output.append(Cancelled(output.invite_key))

    def _ack(self, output: tx.AckReceived) -> None:
        request = output.request
        live = self.dialogs.get((request.call_id, request.to_tag, request.from_tag))
        if live is None or live.answer is None or live.answer.cseq_number != request.cseq_number:
            return
        live.answer = live.answer_key = live.repetition = None
        self._disarm(live, Waits.ANSWER)
        self._output.append(Acknowledged(live, request))

    def _responded(self, output: tx.ResponseReceived) -> None:
        sent, response = output.owner, output.response
        assert isinstance(sent, _Sent)
        live, rseq = sent.live, 0
        if sent.request.method == "INVITE":
            live = live or self._dialog_of_response(sent, response)
            if 200 <= response.status < 300 and self._ack_again(live, response):
                return
            rseq = self._rseq(response)
            if rseq and live is not None:
                verdict = arrival(live.dialog.remote_rseq, rseq)
                if verdict is not Arrival.NEW:
                    return
                live.dialog.remote_rseq = rseq
        if live is not None and 200 <= response.status < 300 and sent.request.method in ("INVITE", "UPDATE"):
            live.dialog.refresh_target(response)
        self._output.append(Responded(output.key, sent.request, response, live, rseq))

    @staticmethod
    def _rseq(response: Response) -> int:
        """The RSeq of a reliable provisional response; 0 for another one."""
        value = response.first("RSeq") or ""
        reliable = 100 < response.status < 200 and "100rel" in response.headers.tokens("Require")
        return int(value) if reliable and value.isascii() and value.isdigit() and len(value) <= 10 else 0

    def _dialog_of_response(self, sent: _Sent, response: Response) -> LiveDialog | None:
        """The dialog that a response to an INVITE of ours makes or belongs to (sections 12.1.2 and 13.2.2)."""
        status, tag = response.status, response.to_tag
        if status >= 300:
            self._forget_early(sent)
            return None
        live = sent.forks.get(tag)
        if live is None and status > 100 and tag and (len(sent.forks) < MAX_FORKS or status >= 200):
            live = LiveDialog(Dialog.as_uac(sent.request, response), sent.flow)
            sent.forks[tag] = self.dialogs[live.dialog.key] = live
        if live is not None and status >= 200 and not live.dialog.confirmed:
            live.dialog.confirm(response)
            self._forget_early(sent)  # the 2xx of another fork makes its dialog anew
        return live

    def _forget_early(self, sent: _Sent) -> None:
        for tag, fork in list(sent.forks.items()):
            if not fork.dialog.confirmed:
                del sent.forks[tag]
                self.forget(fork)

    def _ack_again(self, live: LiveDialog | None, response: Response) -> bool:
        """Sends the ACK again where a 2xx came again; whether it did."""
        ack = live.acks.get(response.cseq_number) if live is not None else None
        if ack is None or live is None:
            return False
        self.layer.transmit(ack, live.flow)
        return True

    def _stray(self, output: tx.StrayResponse) -> None:
        response = output.response
        live = self.dialogs.get((response.call_id, response.from_tag, response.to_tag))
        if response.cseq_method == "INVITE" and 200 <= response.status < 300 and self._ack_again(live, response):
            return
        self._output.append(Stray(response, output.flow))

    def _failed(self, output: tx.TransactionFailed) -> None:
        sent = output.owner
        if isinstance(sent, _Sent):
            self._forget_early(sent)
            self._output.append(Failed(output.key, sent.request, sent.live, output.cause))
        else:
            self._output.append(Failed(output.key, None, None, output.cause))

    def _ended(self, output: tx.ServerTransactionEnded) -> None:
        self._answering.pop(output.key, None)

    def _via(self, flow: Flow) -> str:
        return f"SIP/2.0/{flow.transport.token} {self._sent_by};rport;branch={self.tokens.branch()}"


HANDLERS: Final[Mapping[type, Callable[[Endpoint, Any], None]]] = {
    Transmit: Endpoint._transmit,
    tx.RequestReceived: Endpoint._received,
    tx.CancelReceived: Endpoint._cancel,
    tx.AckReceived: Endpoint._ack,
    tx.ResponseReceived: Endpoint._responded,
    tx.StrayResponse: Endpoint._stray,
    tx.TransactionFailed: Endpoint._failed,
    tx.ServerTransactionEnded: Endpoint._ended,
}


def new_request(method: str, uri: str, headers: Pairs, body: bytes = b"") -> Request:
    """A request outside of a dialog, with Max-Forwards; From, To, Call-ID and CSeq are among `headers`."""
    return Request(method, uri, Headers([("Max-Forwards", "70"), *headers]), body)
