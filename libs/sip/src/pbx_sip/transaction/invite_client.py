"""INVITE client transaction: RFC 3261 section 17.1.1 as amended by RFC 6026 section 8.4 (its figure 5).

Proceeding is bounded by timer C as in a proxy (sections 16.7 and 16.8): a final response that never comes would keep
the transaction for ever. CANCEL (section 9.1) is a signal of this machine, because it must wait for the first
provisional response. The ACK for a 2xx is the transaction user's; that for a refusal is built and repeated here.
"""

from __future__ import annotations

import enum
from typing import Any, ClassVar, Final

from pbx_sip.address import Flow
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request, Response
from pbx_sip.message.serialize import serialize
from pbx_sip.transaction.events import ClientKey, FailureCause
from pbx_sip.transaction.machine import Host, Machine, Table


class State(enum.IntEnum):
    """Figure 5 of RFC 6026."""

    CALLING = 0
    PROCEEDING = 1
    ACCEPTED = 2
    COMPLETED = 3
    TERMINATED = 4


class Signal(enum.IntEnum):
    """What can happen to it."""

    PROVISIONAL = 0
    SUCCESS = 1
    FAILURE = 2
    CANCEL = 3
    TIMER_A = 4
    TIMER_B = 5
    TIMER_D = 6
    TIMER_M = 7
    TIMER_CANCEL = 8
    """64*T1 after a CANCEL without a final response: "the client SHOULD then consider the original
    transaction cancelled" (RFC 3261 section 9.1)."""
    TRANSPORT_ERROR = 9
    TIMER_C = 10


Pairs = list[tuple[str, str]]


class InviteClient(Machine):
    """Sends an INVITE until there is a response; confirms refusals; lets every 2xx through."""

    __slots__ = ("cancel_headers", "request")

    TRANSPORT_ERROR = Signal.TRANSPORT_ERROR

    def __init__(self, key: ClientKey, flow: Flow, owner: Any, request: Request) -> None:
        super().__init__(key, flow, owner, serialize(request))
        self.request: Request | None = request
        """Kept for CANCEL and ACK until there is a final response."""
        self.cancel_headers: Pairs | None = None
        """What a CANCEL carries that was asked for; None: none was."""
        self.state = State.CALLING

    @property
    def is_awaiting(self) -> bool:
        """Whether no final response came yet."""
        return self.state in (State.CALLING, State.PROCEEDING)

    def start(self, host: Host) -> None:
        """Sends the INVITE, and starts timer B, and A where the transport is unreliable (section
        17.1.1.2)."""
        host.send(self, self.data)
        self._end_after(Signal.TIMER_B, host.timers.timeout, host)
        if not self.flow.transport.reliable:
            self._repeat_after(Signal.TIMER_A, host.timers.t1, host)

    def hurry(self, patience_s: float, host: Host) -> None:
        """Waits for so long only, until a first response comes."""
        host.unschedule(self.end_timer)
        self._end_after(Signal.TIMER_B, patience_s, host)

    def receive(self, response: Response, host: Host) -> None:
        """A response that matched."""
        status = response.status
        signal = Signal.PROVISIONAL if status < 200 else Signal.SUCCESS if status < 300 else Signal.FAILURE
        self.step(signal, response, host)

    def cancel(self, headers: Pairs, host: Host) -> None:
        """Cancels the INVITE at once, or as soon as a provisional response came; a second time does
        nothing."""
        if self.cancel_headers is None:
            self.cancel_headers = headers
            self.step(Signal.CANCEL, None, host)

    def _repeat(self, _: object, host: Host) -> None:
        self._resend(host)
        self._repeat_after(Signal.TIMER_A, 2 * self.interval_s, host)

    def _proceed(self, response: Response, host: Host) -> None:
        self._stop(host)
        self.data = b""  # never sent again: timer A ends with Calling
        self._end_after(Signal.TIMER_C, host.timers.c, host)
        host.deliver(self, response)
        if self.cancel_headers is not None:
            self._send_cancel(None, host)

    def _progress(self, response: Response, host: Host) -> None:
        if self.cancel_headers is None:
            self._stop(host)
            self._end_after(Signal.TIMER_C, host.timers.c, host)
        host.deliver(self, response)

    def _send_cancel(self, _: object, host: Host) -> None:
        assert self.request is not None
        self._stop(host)
        host.send_cancel(self, cancel_for(self.request, self.cancel_headers or []))
        self._end_after(Signal.TIMER_CANCEL, host.timers.timeout, host)

    def _lose_patience(self, _: object, host: Host) -> None:
        self.cancel([], host)

    def _deliver(self, response: Response, host: Host) -> None:
        host.deliver(self, response)

    def _accept(self, response: Response, host: Host) -> None:
        self._stop(host)
        self._let_go()
        self._end_after(Signal.TIMER_M, host.timers.timeout, host)
        host.deliver(self, response)

    def _reject(self, response: Response, host: Host) -> None:
        self._stop(host)
        assert self.request is not None
        ack = serialize(ack_for_failure(self.request, response))
        self._let_go()
        host.send(self, ack)
        host.deliver(self, response)
        if self.flow.transport.reliable:
            self.step(Signal.TIMER_D, None, host)
        else:
            self.data = ack
            self.owner = None
            self._end_after(Signal.TIMER_D, host.timers.d, host)

    def _reack(self, _: object, host: Host) -> None:
        self._resend(host)

    def _give_up(self, _: object, host: Host) -> None:
        self._fail(FailureCause.TIMEOUT, host)

    def _break(self, _: object, host: Host) -> None:
        self._fail(FailureCause.TRANSPORT, host)

    def _let_go(self) -> None:
        self.request = self.cancel_headers = None
        self.data = b""

    TABLE: ClassVar[Table] = {
        (State.CALLING, Signal.PROVISIONAL): (State.PROCEEDING, _proceed),
        (State.CALLING, Signal.SUCCESS): (State.ACCEPTED, _accept),
        (State.CALLING, Signal.FAILURE): (State.COMPLETED, _reject),
        (State.CALLING, Signal.CANCEL): (State.CALLING, None),  # it waits for a provisional response
        (State.CALLING, Signal.TIMER_A): (State.CALLING, _repeat),
        (State.CALLING, Signal.TIMER_B): (State.TERMINATED, _give_up),
        (State.CALLING, Signal.TRANSPORT_ERROR): (State.TERMINATED, _break),
        (State.PROCEEDING, Signal.PROVISIONAL): (State.PROCEEDING, _progress),
        (State.PROCEEDING, Signal.SUCCESS): (State.ACCEPTED, _accept),
        (State.PROCEEDING, Signal.FAILURE): (State.COMPLETED, _reject),
        (State.PROCEEDING, Signal.CANCEL): (State.PROCEEDING, _send_cancel),
        (State.PROCEEDING, Signal.TIMER_C): (State.PROCEEDING, _lose_patience),
        (State.PROCEEDING, Signal.TIMER_CANCEL): (State.TERMINATED, _give_up),
        (State.PROCEEDING, Signal.TRANSPORT_ERROR): (State.TERMINATED, _break),
        (State.ACCEPTED, Signal.SUCCESS): (State.ACCEPTED, _deliver),
        (State.ACCEPTED, Signal.TIMER_M): (State.TERMINATED, Machine._end),
        (State.COMPLETED, Signal.FAILURE): (State.COMPLETED, _reack),
        (State.COMPLETED, Signal.TIMER_D): (State.TERMINATED, Machine._end),
        (State.COMPLETED, Signal.TRANSPORT_ERROR): (State.TERMINATED, Machine._end),
    }


_FROM_INVITE: Final = frozenset({"From", "Call-ID", "Route"})
_FROM_INVITE_AND_TO: Final = _FROM_INVITE | {"To"}


def ack_for_failure(invite: Request, response: Response) -> Request:
    """The ACK of the transaction for a final response of 300 to 699 (section 17.1.1.3): To is the
    response's."""
    items = [("Via", invite.top_via), ("Max-Forwards", "70")]
    items += [item for item in invite.headers.items if item[0] in _FROM_INVITE]
    items += [("To", response.first("To") or ""), ("CSeq", f"{invite.cseq_number} ACK")]
    return Request("ACK", invite.uri, Headers(items))


def cancel_for(invite: Request, headers: Pairs) -> Request:
    """The CANCEL for an INVITE (section 9.1), with further headers such as Reason."""
    items = [("Via", invite.top_via), ("Max-Forwards", "70")]
    items += [item for item in invite.headers.items if item[0] in _FROM_INVITE_AND_TO]
    items += [("CSeq", f"{invite.cseq_number} CANCEL"), *headers]
    return Request("CANCEL", invite.uri, Headers(items))
