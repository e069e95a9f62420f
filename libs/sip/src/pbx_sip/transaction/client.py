"""Non-INVITE client transaction: RFC 3261 section 17.1.2, figure 6 (timer handling of RFC 4320 section 4.1)."""

from __future__ import annotations

import enum
from typing import Any, ClassVar

from pbx_sip.address import Flow
from pbx_sip.message.message import Response
from pbx_sip.transaction.events import FailureCause, Key
from pbx_sip.transaction.machine import Host, Machine


class State(enum.IntEnum):
    """Figure 6."""

    TRYING = 0
    PROCEEDING = 1
    COMPLETED = 2
    TERMINATED = 3


class Signal(enum.IntEnum):
    """What can happen to it."""

    PROVISIONAL = 0
    FINAL = 1
    TIMER_E = 2
    TIMER_F = 3
    TIMER_K = 4
    TRANSPORT_ERROR = 5


class Client(Machine):
    """Sends a request until there is a final response."""

    __slots__ = ("interval_s",)

    def __init__(self, key: Key, flow: Flow, owner: Any, data: bytes) -> None:
        super().__init__(key, flow, owner, State.TRYING, data)
        self.interval_s = 0.0

    def start(self, host: Host) -> None:
        """Sends the request."""
        host.transmit(self.data, self.flow)
        host.start_timer(self, Signal.TIMER_F, host.timers.timeout)
        if not self.flow.transport.reliable:
            self.interval_s = host.timers.t1
            host.start_timer(self, Signal.TIMER_E, self.interval_s)

    def receive(self, response: Response, host: Host) -> None:
        """A response that matched."""
        self.step(Signal.PROVISIONAL if response.status < 200 else Signal.FINAL, response, host)

    def _resend(self, _: object, host: Host) -> None:
        host.retransmissions += 1
        host.transmit(self.data, self.flow)
        self.interval_s = min(2 * self.interval_s, host.timers.t2)
        host.start_timer(self, Signal.TIMER_E, self.interval_s)

    def _slow_resend(self, _: object, host: Host) -> None:
        self.interval_s = host.timers.t2
        self._resend(_, host)

    def _deliver(self, response: Response, host: Host) -> None:
        host.deliver(self, response)

    def _complete(self, response: Response, host: Host) -> None:
        host.stop_timers(self)
        self.data = b""
        host.deliver(self, response)
        if self.flow.transport.reliable:
            self.step(Signal.TIMER_K, None, host)
        else:
            host.start_timer(self, Signal.TIMER_K, host.timers.t4)

    def _end(self, _: object, host: Host) -> None:
        host.remove(self)

    def _give_up(self, _: object, host: Host) -> None:
        host.fail(self, FailureCause.TIMEOUT)
        host.remove(self)

    def _break(self, _: object, host: Host) -> None:
        host.fail(self, FailureCause.TRANSPORT)
        host.remove(self)

    # Timers E and F go on through Proceeding (figure 6), so that state does not count as a change for them.
    TABLE: ClassVar[dict[tuple[int, int], tuple[int, Any]]] = {
        (State.TRYING, Signal.TIMER_E): (State.TRYING, _resend),
        (State.TRYING, Signal.TIMER_F): (State.TERMINATED, _give_up),
        (State.TRYING, Signal.TRANSPORT_ERROR): (State.TERMINATED, _break),
        (State.TRYING, Signal.PROVISIONAL): (State.PROCEEDING, _deliver),
        (State.TRYING, Signal.FINAL): (State.COMPLETED, _complete),
        (State.PROCEEDING, Signal.TIMER_E): (State.PROCEEDING, _slow_resend),
        (State.PROCEEDING, Signal.TIMER_F): (State.TERMINATED, _give_up),
        (State.PROCEEDING, Signal.TRANSPORT_ERROR): (State.TERMINATED, _break),
        (State.PROCEEDING, Signal.PROVISIONAL): (State.PROCEEDING, _deliver),
        (State.PROCEEDING, Signal.FINAL): (State.COMPLETED, _complete),
        (State.COMPLETED, Signal.TIMER_K): (State.TERMINATED, _end),
    }
    KEEPS_TIMERS = (State.PROCEEDING,)
