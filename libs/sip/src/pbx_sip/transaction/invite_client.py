"""INVITE client transaction: RFC 3261 section 17.1.1 as amended by RFC 6026 (figure 5, state Accepted)."""

from __future__ import annotations

import enum
from typing import Any, ClassVar, Final

from pbx_sip.address import Flow
from pbx_sip.message.headers import Headers
from pbx_sip.message.message import Request, Response
from pbx_sip.message.serialize import serialize
from pbx_sip.transaction.events import FailureCause, Key
from pbx_sip.transaction.machine import Host, Machine


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
    TIMER_A = 3
    TIMER_B = 4
    TIMER_D = 5
    TIMER_M = 6
    TRANSPORT_ERROR = 7
    TIMER_CANCEL = 8
    """64*T1 after a CANCEL without a final response (RFC 3261 section 9.1)."""


class InviteClient(Machine):
    """Sends an INVITE until there is a response; confirms refusals; lets every 2xx through."""

    __slots__ = ("cancel_pending", "interval_s", "request")

    def __init__(self, key: Key, flow: Flow, owner: Any, request: Request, data: bytes) -> None:
        super().__init__(key, flow, owner, State.CALLING, data)
        self.request: Request | None = request
        """Kept for CANCEL and ACK, until the transaction lingers."""
        self.interval_s = 0.0
        self.cancel_pending: list[tuple[str, str]] | None = None
        """Headers of a CANCEL that waits for a provisional response (section 9.1)."""

    def start(self, host: Host) -> None:
        """Sends the request."""
        host.transmit(self.data, self.flow)
        timers = host.timers
        host.start_timer(self, Signal.TIMER_B, timers.timeout)
        if not self.flow.transport.reliable:
            self.interval_s = timers.t1
            host.start_timer(self, Signal.TIMER_A, timers.t1)

    def receive(self, response: Response, host: Host) -> None:
        """A response that matched."""
        status = response.status
        signal = Signal.PROVISIONAL if status < 200 else Signal.SUCCESS if status < 300 else Signal.FAILURE
        self.step(signal, response, host)

    def _resend(self, _: object, host: Host) -> None:
        host.retransmissions += 1
        host.transmit(self.data, self.flow)
        self.interval_s *= 2
        host.start_timer(self, Signal.TIMER_A, self.interval_s)

    def _deliver(self, response: Response, host: Host) -> None:
        host.deliver(self, response)

    def _accept(self, response: Response, host: Host) -> None:
        self._let_go()
        host.start_timer(self, Signal.TIMER_M, host.timers.timeout)
        host.deliver(self, response)

    def _reject(self, response: Response, host: Host) -> None:
        assert self.request is not None
        self.data = serialize(ack_for_failure(self.request, response))
        self._let_go()
        host.transmit(self.data, self.flow)
        host.deliver(self, response)
        if self.flow.transport.reliable:
            self.step(Signal.TIMER_D, None, host)
        else:
            host.start_timer(self, Signal.TIMER_D, host.timers.d)

    def _reack(self, _: object, host: Host) -> None:
        host.transmit(self.data, self.flow)

    def _end(self, _: object, host: Host) -> None:
        host.remove(self)

    def _give_up(self, _: object, host: Host) -> None:
        host.fail(self, FailureCause.TIMEOUT)
        host.remove(self)

    def _break(self, _: object, host: Host) -> None:
        host.fail(self, FailureCause.TRANSPORT)
        host.remove(self)

    def _let_go(self) -> None:
        self.request = self.cancel_pending = None

    TABLE: ClassVar[dict[tuple[int, int], tuple[int, Any]]] = {
        (State.CALLING, Signal.TIMER_A): (State.CALLING, _resend),
        (State.CALLING, Signal.TIMER_B): (State.TERMINATED, _give_up),
        (State.CALLING, Signal.TRANSPORT_ERROR): (State.TERMINATED, _break),
        (State.CALLING, Signal.PROVISIONAL): (State.PROCEEDING, _deliver),
        (State.CALLING, Signal.SUCCESS): (State.ACCEPTED, _accept),
        (State.CALLING, Signal.FAILURE): (State.COMPLETED, _reject),
        (State.PROCEEDING, Signal.PROVISIONAL): (State.PROCEEDING, _deliver),
        (State.PROCEEDING, Signal.SUCCESS): (State.ACCEPTED, _accept),
        (State.PROCEEDING, Signal.FAILURE): (State.COMPLETED, _reject),
        (State.PROCEEDING, Signal.TRANSPORT_ERROR): (State.TERMINATED, _break),
        (State.PROCEEDING, Signal.TIMER_CANCEL): (State.TERMINATED, _give_up),
        (State.ACCEPTED, Signal.SUCCESS): (State.ACCEPTED, _deliver),
        (State.ACCEPTED, Signal.TIMER_M): (State.TERMINATED, _end),
        (State.COMPLETED, Signal.FAILURE): (State.COMPLETED, _reack),
        (State.COMPLETED, Signal.TIMER_D): (State.TERMINATED, _end),
    }


_FROM_REQUEST: Final = ("From", "Call-ID", "Route")


def ack_for_failure(invite: Request, response: Response) -> Request:
    """The ACK of the transaction for a final response of 300 to 699 (section 17.1.1.3)."""
    items = [("Via", invite.top_via), ("Max-Forwards", "70")]
    items += [item for item in invite.headers.items if item[0] in _FROM_REQUEST]
    items += [("To", response.first("To") or ""), ("CSeq", f"{invite.cseq_number} ACK")]
    return Request("ACK", invite.uri, Headers(items))


def cancel_for(invite: Request, extra: list[tuple[str, str]]) -> Request:
    """The CANCEL for an INVITE (section 9.1)."""
    items = [("Via", invite.top_via), ("Max-Forwards", "70")]
    items += [item for item in invite.headers.items if item[0] in (*_FROM_REQUEST, "To")]
    items += [("CSeq", f"{invite.cseq_number} CANCEL"), *extra]
    return Request("CANCEL", invite.uri, Headers(items))
