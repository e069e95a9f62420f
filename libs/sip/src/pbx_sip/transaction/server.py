"""Non-INVITE server transaction: RFC 3261 section 17.2.2, figure 8, with the time limit that RFC 4320
implies."""

from __future__ import annotations

import enum
from typing import ClassVar

from pbx_sip.address import Flow
from pbx_sip.message.message import Response
from pbx_sip.message.serialize import serialize
from pbx_sip.transaction.events import FailureCause, ServerKey
from pbx_sip.transaction.machine import Host, Machine, Table


class State(enum.IntEnum):
    """Figure 8."""

    TRYING = 0
    PROCEEDING = 1
    COMPLETED = 2
    TERMINATED = 3


class Signal(enum.IntEnum):
    """What can happen to it."""

    REQUEST = 0
    SEND_PROVISIONAL = 1
    SEND_FINAL = 2
    TIMER_J = 3
    TIMER_UNANSWERED = 4
    """64*T1 after the request: the client has given up (its timer F), and RFC 4320 section 4.2 forbids a
    408."""
    TRANSPORT_ERROR = 5


class Server(Machine):
    """Repeats its last response to repetitions of the request."""

    __slots__ = ()

    REQUEST = Signal.REQUEST
    TRANSPORT_ERROR = Signal.TRANSPORT_ERROR

    def __init__(self, key: ServerKey, flow: Flow) -> None:
        super().__init__(key, flow, None, b"")
        self.state = State.TRYING

    def start(self, host: Host) -> None:
        """Bounds the time that the transaction user may take."""
        self._end_after(Signal.TIMER_UNANSWERED, host.timers.timeout, host)

    def respond(self, response: Response, host: Host) -> None:
        """A response of the transaction user; dropped where a final one went before."""
        self.step(Signal.SEND_PROVISIONAL if response.status < 200 else Signal.SEND_FINAL, response, host)

    def _send(self, response: Response, host: Host) -> None:
        self.data = serialize(response)
        host.send(self, self.data)

    def _complete(self, response: Response, host: Host) -> None:
        self._stop(host)
        self._send(response, host)
        self.owner = None
        if self.flow.transport.reliable:
            self.step(Signal.TIMER_J, None, host)
        else:
            self._end_after(Signal.TIMER_J, host.timers.timeout, host)

    def _repeat(self, _: object, host: Host) -> None:
        self._resend(host)

    def _give_up(self, _: object, host: Host) -> None:
        self._fail(FailureCause.TIMEOUT, host)

    def _break(self, _: object, host: Host) -> None:
        self._fail(FailureCause.TRANSPORT, host)

    TABLE: ClassVar[Table] = {
        (State.TRYING, Signal.REQUEST): (State.TRYING, None),  # nothing to repeat yet
        (State.TRYING, Signal.SEND_PROVISIONAL): (State.PROCEEDING, _send),
        (State.TRYING, Signal.SEND_FINAL): (State.COMPLETED, _complete),
        (State.TRYING, Signal.TIMER_UNANSWERED): (State.TERMINATED, _give_up),
        (State.TRYING, Signal.TRANSPORT_ERROR): (State.TERMINATED, _break),
        (State.PROCEEDING, Signal.REQUEST): (State.PROCEEDING, _repeat),
        (State.PROCEEDING, Signal.SEND_PROVISIONAL): (State.PROCEEDING, _send),
        (State.PROCEEDING, Signal.SEND_FINAL): (State.COMPLETED, _complete),
        (State.PROCEEDING, Signal.TIMER_UNANSWERED): (State.TERMINATED, _give_up),
        (State.PROCEEDING, Signal.TRANSPORT_ERROR): (State.TERMINATED, _break),
        (State.COMPLETED, Signal.REQUEST): (State.COMPLETED, _repeat),
        (State.COMPLETED, Signal.TIMER_J): (State.TERMINATED, Machine._end),
        (State.COMPLETED, Signal.TRANSPORT_ERROR): (State.TERMINATED, Machine._end),
    }
