"""Non-INVITE client transaction: RFC 3261 section 17.1.2, figure 6."""

from __future__ import annotations

import enum
from typing import Any, ClassVar

from pbx_sip.address import Flow
from pbx_sip.message.message import Request, Response
from pbx_sip.message.serialize import serialize
from pbx_sip.transaction.events import ClientKey, FailureCause
from pbx_sip.transaction.machine import Host, Machine, Table


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

    __slots__ = ()

    TRANSPORT_ERROR = Signal.TRANSPORT_ERROR

    def __init__(self, key: ClientKey, flow: Flow, owner: Any, request: Request) -> None:
        super().__init__(key, flow, owner, serialize(request))
        self.state = State.TRYING

    @property
    def is_awaiting(self) -> bool:
        """Whether no final response came yet."""
        return self.state in (State.TRYING, State.PROCEEDING)

    def start(self, host: Host) -> None:
        """Sends the request, and starts timer F, and E where the transport is unreliable (section
        17.1.2.2)."""
        host.send(self, self.data)
        self._end_after(Signal.TIMER_F, host.timers.timeout, host)
        if not self.flow.transport.reliable:
            self._repeat_after(Signal.TIMER_E, host.timers.t1, host)

    def hurry(self, patience_s: float, host: Host) -> None:
        """Waits for so long only."""
        host.unschedule(self.end_timer)
        self._end_after(Signal.TIMER_F, patience_s, host)

    def receive(self, response: Response, host: Host) -> None:
        """A response that matched."""
        self.step(Signal.PROVISIONAL if response.status < 200 else Signal.FINAL, response, host)

    def _repeat(self, _: object, host: Host) -> None:
        self._resend(host)
        self._repeat_after(Signal.TIMER_E, min(2 * self.interval_s, host.timers.t2), host)

    def _repeat_slowly(self, _: object, host: Host) -> None:
        """ "the client transaction ... MUST reset timer E with a value of T2 seconds" (Proceeding)."""
        self._resend(host)
        self._repeat_after(Signal.TIMER_E, host.timers.t2, host)

    def _deliver(self, response: Response, host: Host) -> None:
        host.deliver(self, response)

    def _complete(self, response: Response, host: Host) -> None:
        self._stop(host)
        self.data = b""
        host.deliver(self, response)
        if self.flow.transport.reliable:
            self.step(Signal.TIMER_K, None, host)
        else:
            self.owner = None
            self._end_after(Signal.TIMER_K, host.timers.t4, host)

    def _give_up(self, _: object, host: Host) -> None:
        self._fail(FailureCause.TIMEOUT, host)

    def _break(self, _: object, host: Host) -> None:
        self._fail(FailureCause.TRANSPORT, host)

    TABLE: ClassVar[Table] = {
        (State.TRYING, Signal.PROVISIONAL): (State.PROCEEDING, _deliver),
        (State.TRYING, Signal.FINAL): (State.COMPLETED, _complete),
        (State.TRYING, Signal.TIMER_E): (State.TRYING, _repeat),
        (State.TRYING, Signal.TIMER_F): (State.TERMINATED, _give_up),
        (State.TRYING, Signal.TRANSPORT_ERROR): (State.TERMINATED, _break),
        (State.PROCEEDING, Signal.PROVISIONAL): (State.PROCEEDING, _deliver),
        (State.PROCEEDING, Signal.FINAL): (State.COMPLETED, _complete),
        (State.PROCEEDING, Signal.TIMER_E): (State.PROCEEDING, _repeat_slowly),
        (State.PROCEEDING, Signal.TIMER_F): (State.TERMINATED, _give_up),
        (State.PROCEEDING, Signal.TRANSPORT_ERROR): (State.TERMINATED, _break),
        (State.COMPLETED, Signal.TIMER_K): (State.TERMINATED, Machine._end),
        (State.COMPLETED, Signal.TRANSPORT_ERROR): (State.TERMINATED, Machine._end),
    }
